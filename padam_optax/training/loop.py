"""Compiled functions that train a task: steps, the end of an epoch, the evaluation."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax

from padam_optax.training.batches import Batches
from padam_optax.training.placement import ONE_DEVICE, Placement
from padam_optax.training.tasks import StreamedTask, Task

PyTree = Any
Hyperparameters = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that changes during training. It holds no random keys: seed, epoch and step determine them.

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
    totals: Metrics
    nonfinite_step: jax.Array


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Trains `task` with compiled functions.

    For data on the device, an epoch is any number of calls of `train_steps`, then `finish_epoch`. For data that the
    host reads, it is `train_batch` for each batch, then `next_epoch`. Every method can also be called within another
    compiled function, and mapped over states, seeds and hyper-parameters; use `initial_state` there instead of `init`.

    The trainer itself is a static argument: equal trainers share their compiled programs. Hyper-parameters and the seed
    are traced, so that one program serves every value. The seed and the epoch determine the batches; the seed, the
    epoch and the step determine the key of augmentation and dropout. A resumed run therefore sees the same data as an
    uninterrupted one, however its steps are split into calls.

    Attributes:
      task: What to train.
      make_optimizer: Maps a dictionary of scalar hyper-parameters and the step's factor of the learning rate, a scalar,
        to an optimizer.
      rate_factor: Maps an epoch, counted from 0, to its factor of the learning rate. The epoch is an int on the host
        and a traced int32 in the compiled step.
      batches: Cuts the data into the steps of an epoch.
      placement: Devices that train together; by default one.
      reestimate: Whether an epoch on data on the device ends with one more pass over them with the parameters fixed, in
        training mode, with augmentation and in an order of its own. This pass updates the model's statistics and gives
        the training metrics.
    """

    task: Task
    make_optimizer: Callable[[Hyperparameters, jax.Array], optax.GradientTransformation]
    rate_factor: Callable[[int | jax.Array], float | jax.Array]
    batches: Batches
    placement: Placement = ONE_DEVICE
    reestimate: bool = False

    def init(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Returns the state before the first epoch: `initial_state`, compiled.

        Args:
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
        """
        return _compiled_initial_state()(self, seed, hyperparameters)

    def initial_state(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Returns the state before the first epoch, not compiled: for use within another compiled function."""
        params, model_state = self.task.init(jax.random.fold_in(jax.random.key(seed), 0))
        zero = jnp.zeros([], jnp.int32)
        opt_state = self._optimizer(hyperparameters, zero).init(params)
        # A step donates its state, which must not hold one buffer twice.
        return self._placed(TrainState(zero, zero + 0, params, model_state, opt_state, self._no_totals(), zero - 1))

    @functools.partial(jax.jit, static_argnums=0, static_argnames="check_gradients", donate_argnums=1)
    def train_steps(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        data: PyTree,
        epoch: jax.Array,
        start: jax.Array,
        stop: jax.Array,
        *,
        check_gradients: bool = True,
    ) -> TrainState:
        """Runs the full steps `start` to `stop` (not included) of an epoch in one loop.

        Args:
          state: Its buffers are donated; `state.step` is `start`.
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
          data: The training set, as `batches` takes it.
          epoch: `state.epoch`; a separate argument, so that it stays one number when states are mapped.
          start: int32 scalar.
          stop: int32 scalar, at most `batches.steps(epoch, data)`; a new value does not compile anew.
          check_gradients: Whether every gradient is checked. If not, each step checks the loss only, and the last one
            the parameters and the optimizer's state, which costs less on a GPU. `nonfinite_step` is then at least 0 if
            something was not finite; the same steps with checks tell which step it was. This misses a gradient of which
            the optimizer keeps nothing, such as an infinite one that is clipped entry by entry.
        """
        key = _epoch_key(seed, epoch)
        plan = self.batches.plan(key, epoch, data)

        def body(step: jax.Array, state: TrainState) -> TrainState:
            state = self._placed(state)
            computed = self.batches.at(plan, step, data, lambda batch: self._gradients(state, batch, key))
            factor = self.batches.rate_factor(plan, step)
            return self._update(state, hyperparameters, computed, factor, check_gradients=check_gradients)

        trained = jax.lax.fori_loop(start, stop, body, state)
        return trained if check_gradients else _checked(state, trained)

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def train_batch(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, batch: PyTree
    ) -> TrainState:
        """Runs one step on a batch from the host. `state` is donated."""
        return self._update(state, hyperparameters, self._gradients(state, batch, _epoch_key(seed, state.epoch)))

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def finish_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        data: PyTree,
        steps: jax.Array,
    ) -> tuple[TrainState, Metrics, jax.Array]:
        """Ends an epoch after its full steps: trains on the smaller last batch, if any, and does the `reestimate` pass.

        Args:
          state: Its buffers are donated.
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
          data: The training set, as `batches` takes it.
          steps: `batches.steps(epoch, data)`, an int32 scalar; a lower number shortens the `reestimate` pass.

        Returns:
          The state at the start of the next epoch; the mean of each training metric over the steps; and the first step
          of the epoch whose loss or gradients were not finite, or -1, int32. If there is one, the rest is meaningless.
        """
        key = _epoch_key(seed, state.epoch)
        if self.batches.has_last(data):
            batch = self.batches.last(self.batches.plan(key, state.epoch, data), data)
            state = self._update(state, hyperparameters, self._gradients(state, batch, key))
        if self.reestimate:
            state = self._reestimate(state, key, data, steps)
        nonfinite_step = state.nonfinite_step
        state, means = self.next_epoch(state)
        return state, means, nonfinite_step

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def next_epoch(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """Returns the state at the start of the next epoch, and the mean of each training metric over the steps."""
        means = {name: total / jnp.maximum(state.step, 1) for name, total in state.totals.items()}
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

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate(self, state: TrainState, data: PyTree) -> Metrics:
        """Returns the task's metrics over all of `data`."""
        return self.task.evaluate(state.params, state.model_state, data, self._split)

    def evaluate_sets(self, state: TrainState, held_out: Mapping[str, PyTree]) -> Metrics:
        """Returns the task's metrics over each set that is held out from training, as `<set>_<metric>`."""
        return {
            f"{name}_{metric}": value
            for name, data in held_out.items()
            for metric, value in self.evaluate(state, data).items()
        }

    @functools.partial(jax.jit, static_argnums=0)
    def evaluate_batch(self, state: TrainState, batch: PyTree, counts: jax.Array) -> Metrics:
        """Returns the sum of each metric over the examples of a batch where `counts` (N,), bool, is true."""
        task = cast(StreamedTask, self.task)
        metrics = task.evaluate_examples(state.params, state.model_state, batch)
        return jax.tree.map(lambda values: jnp.sum(jnp.where(counts, values, 0)), metrics)

    def _gradients(self, state: TrainState, batch: PyTree, epoch_key: jax.Array) -> Any:
        """Returns (objective, (model state, metrics)) and the gradients."""
        key = jax.random.fold_in(epoch_key, state.step)
        computed = jax.value_and_grad(self.task.loss, has_aux=True)(
            state.params, state.model_state, self._split(batch), key
        )
        return self.placement.whole(computed)

    def _update(
        self,
        state: TrainState,
        hyperparameters: Hyperparameters,
        computed: Any,
        factor: float | jax.Array = 1.0,
        *,
        check_gradients: bool = True,
    ) -> TrainState:
        """Returns the state after a step, given the result of `_gradients`; `factor` multiplies the learning rate."""
        (objective, (model_state, metrics)), gradients = computed
        optimizer = self._optimizer(hyperparameters, state.epoch, factor)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        new_state = TrainState(
            epoch=state.epoch,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=model_state,
            opt_state=opt_state,
            totals=_add(state.totals, metrics),
            nonfinite_step=_first_nonfinite(state, (objective, gradients) if check_gradients else objective),
        )
        return self._placed(new_state)

    def _optimizer(
        self, hyperparameters: Hyperparameters, epoch: jax.Array, factor: float | jax.Array = 1.0
    ) -> optax.GradientTransformation:
        return self.make_optimizer(hyperparameters, jnp.asarray(self.rate_factor(epoch), float) * factor)

    def _reestimate(self, state: TrainState, epoch_key: jax.Array, data: PyTree, stop: jax.Array) -> TrainState:
        """Passes over the first `stop` full batches, and the smaller one, with the parameters fixed."""
        steps = self.batches.steps(0, data)
        # Training uses the keys from 0 to the number of all steps, the last one for the order.
        key = jax.random.fold_in(epoch_key, steps + int(self.batches.has_last(data)) + 1)
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
            return self.batches.at(plan, step, data, lambda batch: forward(step, state, batch))

        state = jax.lax.fori_loop(0, stop, body, state)
        if self.batches.has_last(data):
            state = forward(jnp.asarray(steps), state, self.batches.last(plan, data))
        return state

    def _no_totals(self) -> Metrics:
        return {name: jnp.zeros([], jnp.float32) for name in self.task.metrics}

    def _split(self, batch: PyTree) -> PyTree:
        """Divides a batch among the devices."""
        return self.placement.split(batch, self.task.batch_axis)

    def _placed(self, state: TrainState) -> TrainState:
        """Keeps the state's sharding. Needed before and after each step, or the compiler chooses another one."""
        opt_state = self.placement.optimizer_state(state.opt_state)
        rest = self.placement.whole(dataclasses.replace(state, opt_state=None))
        return dataclasses.replace(rest, opt_state=opt_state)


def free_programs() -> None:
    """Frees the compiled programs of all trainers, which JAX keeps for good. A trainer used again compiles anew."""
    compiled: tuple[Any, ...] = (
        _compiled_initial_state(),
        Trainer.train_steps,
        Trainer.train_batch,
        Trainer.finish_epoch,
        Trainer.next_epoch,
        Trainer.evaluate,
        Trainer.evaluate_batch,
    )
    for function in compiled:
        function.clear_cache()


@functools.cache
def _compiled_initial_state() -> Any:
    """`Trainer.initial_state`, compiled. The first call starts the backend; an import must not."""
    # On CPUs, LLVM's full level compiles the random draws three times as long, and gives the same numbers.
    options: dict[str, bool | str] | None = None
    if jax.default_backend() == "cpu":
        options = {"xla_backend_optimization_level": "1"}
    return jax.jit(Trainer.initial_state, static_argnums=0, compiler_options=options)


def _epoch_key(seed: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)


def _first_nonfinite(state: TrainState, computed: PyTree) -> jax.Array:
    """`nonfinite_step` after a step that computed these values: the loss and perhaps the gradients."""
    # A gradient can be NaN where the loss is not (a root at 0); the loss then shows it one step later, or never.
    finite = jax.tree.reduce(jnp.logical_and, _are_finite(computed))
    is_first = jnp.logical_and(jnp.logical_not(finite), state.nonfinite_step < 0)
    return jnp.where(is_first, state.step, state.nonfinite_step)


def _checked(before: TrainState, after: TrainState) -> TrainState:
    """`after`; if only its arrays show that a step was not finite, its last step is marked as that one."""
    # Some optimizers keep an infinity from the start on, such as the best loss so far.
    lost = jax.tree.map(
        lambda was, is_: jnp.logical_and(was, jnp.logical_not(is_)),
        *(_are_finite((state.params, state.opt_state)) for state in (before, after)),
    )
    unseen = jnp.logical_and(jax.tree.reduce(jnp.logical_or, lost), after.nonfinite_step < 0)
    return dataclasses.replace(after, nonfinite_step=jnp.where(unseen, after.step - 1, after.nonfinite_step))


def _are_finite(tree: PyTree) -> PyTree:
    """Whether all entries of each array are finite; integers, Booleans and keys are."""
    return jax.tree.map(
        lambda leaf: jnp.all(jnp.isfinite(leaf)) if jnp.issubdtype(leaf.dtype, jnp.inexact) else jnp.asarray(True),
        tree,
    )


def _add(totals: Metrics, values: Metrics) -> Metrics:
    return {name: total + values[name].astype(total.dtype) for name, total in totals.items()}
