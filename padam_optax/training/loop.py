"""Compiled pieces of a training: steps, the end of an epoch, and the evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from padam_optax.training.batches import Batches
from padam_optax.training.placement import ONE_DEVICE, Placement
from padam_optax.training.tasks import StreamedTask, Task

PyTree = Any
Hyperparameters = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that changes while training. Keys do not: they follow from the seed, the epoch and the step.

    Attributes:
      epoch: Epochs completed, int32 scalar.
      step: Steps done in the epoch under way, int32 scalar.
      params: Parameters.
      model_state: What else the model keeps, such as batch statistics.
      opt_state: State of the optimizer.
      totals: Sums of the training metrics over the steps of the epoch under way, float32 scalars.
      nonfinite_step: First step of that epoch whose loss or gradients held a NaN or infinity, or -1; int32 scalar.
    """

    epoch: jax.Array
    step: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree
    totals: dict[str, jax.Array]
    nonfinite_step: jax.Array


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Compiled functions that train `task`.

    Learning rate, p and the like, and the seed, are arguments of the compiled functions, so that one program serves
    every value. With data that lives on the device, batches follow from the seed and the epoch only, and a call runs as
    many steps as the host asks for in one loop; with data from the host, a call is one step. Augmentation and dropout
    use a key folded with epoch and step: a resumed run sees what one never stopped would have seen, however its steps
    were split into calls.

    Attributes:
      task: What to train.
      make_optimizer: Maps a dictionary of scalar hyper-parameters, and the factor of the learning rate at this step, to
        an optimizer.
      rate_factor: Maps the epoch under way, counted from 0, to the factor of the learning rate.
      batches: How the data make the steps of an epoch.
      placement: Devices that train together; by default one.
    """

    task: Task
    make_optimizer: Callable[[Hyperparameters, jax.Array], optax.GradientTransformation]
    rate_factor: Callable[[jax.Array], jax.Array]
    batches: Batches
    placement: Placement = ONE_DEVICE

    def __post_init__(self) -> None:
        # Bound once: a new jit object for each access would compile anew.
        for name, function, donated in (
            ("train_steps", self._train_steps, 0),
            ("train_last_batch", self._train_last_batch, 0),
            ("train_batch", self._train_batch, 0),
            ("reestimate", self._reestimate, 0),
            ("finish_epoch", self._finish_epoch, 0),
            ("evaluate", self._evaluate, ()),
            ("evaluate_batch", self._evaluate_batch, ()),
        ):
            object.__setattr__(self, name, jax.jit(function, donate_argnums=donated))
        object.__setattr__(self, "init", jax.jit(self.initial_state, compiler_options=_options_for_init()))

    init: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_steps: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_last_batch: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_batch: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    reestimate: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    finish_epoch: Callable[..., tuple[TrainState, dict[str, jax.Array]]] = dataclasses.field(init=False, repr=False)
    evaluate: Callable[..., dict[str, jax.Array]] = dataclasses.field(init=False, repr=False)
    evaluate_batch: Callable[..., dict[str, jax.Array]] = dataclasses.field(init=False, repr=False)

    def initial_state(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Returns the state before the first epoch: what `init` compiles, for use within another compiled function."""
        params, model_state = self.task.init(jax.random.fold_in(jax.random.key(seed), 0))
        zero = jnp.zeros([], jnp.int32)
        opt_state = self._optimizer(hyperparameters, zero).init(params)
        return self._placed(TrainState(zero, zero + 0, params, model_state, opt_state, self._no_totals(), zero - 1))

    def _no_totals(self) -> dict[str, jax.Array]:
        return {name: jnp.zeros([], jnp.float32) for name in self.task.metrics}

    def _train_steps(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        data: PyTree,
        epoch: jax.Array,
        start: jax.Array,
        stop: jax.Array,
    ) -> TrainState:
        """Runs the steps `start` to `stop` (not included) of an epoch.

        Args:
          state: Its buffers are donated; `state.step` is `start`.
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
          data: As `batches` takes them.
          epoch: `state.epoch`; an argument too because it stays one number where states are mapped over.
          start: int32 scalar.
          stop: int32 scalar, at most `batches.steps(epoch, data)`; no new value compiles anew.
        """
        key = _epoch_key(seed, epoch)
        plan = self.batches.plan(key, epoch, data)

        def body(step: jax.Array, state: TrainState) -> TrainState:
            state = self._placed(state)

            def gradients(batch: PyTree, rate: jax.Array | None) -> tuple[Any, jax.Array | None]:
                return self._gradients(state, batch, key), rate

            return self._update(state, hyperparameters, *self.batches.at(plan, step, data, gradients))

        return jax.lax.fori_loop(start, stop, body, state)

    def _train_last_batch(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, data: PyTree
    ) -> TrainState:
        """Runs the step on what does not fill a batch."""
        key = _epoch_key(seed, state.epoch)
        batch = self.batches.last(self.batches.plan(key, state.epoch, data), data)
        return self._update(state, hyperparameters, self._gradients(state, batch, key))

    def _train_batch(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, batch: PyTree
    ) -> TrainState:
        """Runs one step on a batch that the host has chosen."""
        return self._update(state, hyperparameters, self._gradients(state, batch, _epoch_key(seed, state.epoch)))

    def _reestimate(self, state: TrainState, seed: jax.Array, data: PyTree, stop: jax.Array) -> TrainState:
        """Passes over the training set once more with the parameters fixed.

        The model's statistics follow, and the totals become those of this pass, in training mode with augmentation
        and in an order of its own.

        Args:
          state: Its buffers are donated.
          seed: int32 scalar.
          data: As `batches` takes them.
          stop: `batches.steps(epoch, data)`, as an int32 scalar; less makes a shorter pass.
        """
        steps = self.batches.steps(0, data)
        # Keys of training steps end at the number of all steps, the key of their order.
        key = jax.random.fold_in(_epoch_key(seed, state.epoch), steps + int(self.batches.has_last(data)) + 1)
        plan = self.batches.plan(key, state.epoch, data)
        state = dataclasses.replace(state, totals=self._no_totals())

        def forward(step: jax.Array, state: TrainState, batch: PyTree) -> TrainState:
            state = self._placed(state)
            _, (model_state, metrics) = self.task.loss(
                state.params, state.model_state, self._split(batch), jax.random.fold_in(key, step), updates=1
            )
            state = dataclasses.replace(state, model_state=model_state, totals=_add(state.totals, metrics))
            return self._placed(state)

        def body(step: jax.Array, state: TrainState) -> TrainState:
            return self.batches.at(plan, step, data, lambda batch, rate: forward(step, state, batch))

        state = jax.lax.fori_loop(0, stop, body, state)
        if self.batches.has_last(data):
            state = forward(jnp.asarray(steps), state, self.batches.last(plan, data))
        return state

    def _finish_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Returns the state at the start of the next epoch, and the means of the training metrics over the steps."""
        means = {name: total / state.step for name, total in state.totals.items()}
        zero = jnp.zeros([], jnp.int32)
        state = dataclasses.replace(
            state,
            epoch=state.epoch + 1,
            step=zero,
            model_state=self.task.next_epoch(state.model_state),
            totals=self._no_totals(),
            nonfinite_step=zero - 1,
        )
        return self._placed(state), means

    def _split(self, batch: PyTree) -> PyTree:
        """Divides a batch among the devices."""
        return self.placement.split(batch, self.task.batch_axis)

    def _placed(self, state: TrainState) -> TrainState:
        """Keeps the state where it belongs: said before and after each step, or the compiler chooses otherwise."""
        opt_state = self.placement.optimizer_state(state.opt_state)
        return dataclasses.replace(
            self.placement.whole(dataclasses.replace(state, opt_state=None)), opt_state=opt_state
        )

    def _optimizer(
        self, hyperparameters: Hyperparameters, epoch: jax.Array, rate: jax.Array | None = None
    ) -> optax.GradientTransformation:
        factor = self.rate_factor(epoch)
        return self.make_optimizer(hyperparameters, factor if rate is None else factor * rate)

    def _gradients(self, state: TrainState, batch: PyTree, epoch_key: jax.Array) -> Any:
        """Returns (objective, (model state, metrics)) and the gradients."""
        key = jax.random.fold_in(epoch_key, state.step)
        computed = jax.value_and_grad(self.task.loss, has_aux=True)(
            state.params, state.model_state, self._split(batch), key
        )
        return self.placement.whole(computed)

    def _update(
        self, state: TrainState, hyperparameters: Hyperparameters, computed: Any, rate: jax.Array | None = None
    ) -> TrainState:
        (objective, (model_state, metrics)), gradients = computed
        optimizer = self._optimizer(hyperparameters, state.epoch, rate)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        # A gradient can be NaN where the loss is not, as that of a root at 0: the loss would be a step later, or never.
        finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(_all_finite, (objective, gradients)))
        is_first = jnp.logical_and(jnp.logical_not(finite), state.nonfinite_step < 0)
        new_state = TrainState(
            epoch=state.epoch,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=model_state,
            opt_state=opt_state,
            totals=_add(state.totals, metrics),
            nonfinite_step=jnp.where(is_first, state.step, state.nonfinite_step),
        )
        return self._placed(new_state)

    def _evaluate(self, state: TrainState, data: PyTree) -> dict[str, jax.Array]:
        """Returns the task's metrics over all of `data`."""
        return self.task.evaluate(state.params, state.model_state, data, self._split)

    def _evaluate_batch(self, state: TrainState, batch: PyTree, counts: jax.Array) -> dict[str, jax.Array]:
        """Returns the sum of each metric over the examples of a batch where `counts` (N,), bool, is true."""
        task = cast(StreamedTask, self.task)
        metrics = task.evaluate_examples(state.params, state.model_state, batch)
        return jax.tree.map(lambda values: jnp.sum(jnp.where(counts, values, 0)), metrics)


def _options_for_init() -> dict[str, bool | str] | None:
    """On CPUs LLVM takes three times as long for the random draws at its full level, to the same numbers."""
    return {"xla_backend_optimization_level": "1"} if jax.default_backend() == "cpu" else None


def _epoch_key(seed: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)


def _all_finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def _add(totals: dict[str, jax.Array], values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: total + values[name].astype(total.dtype) for name, total in totals.items()}
