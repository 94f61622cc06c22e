"""Compiled pieces of a training: steps, the end of an epoch, and the evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from padam_optax.training.tasks import Task

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
      nonfinite_step: First step of that epoch whose loss was NaN or infinite, or -1; int32 scalar.
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
    every value. With data that lives on the device, batches are drawn from a permutation that depends on the seed and
    the epoch only, and a call runs as many steps as the host asks for in one loop; with data from the host, a call is
    one step. Augmentation uses a key folded with epoch and step: a resumed run sees what one never stopped would have
    seen, however its steps were split into calls.

    Attributes:
      task: What to train.
      make_optimizer: Maps a dictionary of scalar hyper-parameters, and the factor of the learning rate at this step, to
        an optimizer.
      rate_factor: Maps the epoch under way, counted from 0, to the factor of the learning rate.
      batch_size: Examples a step.
      keep_last_batch: Whether the examples that do not fill a last batch make a smaller one, or sit an epoch out.
      eval_batch_size: Examples a step of the evaluation, which sees every example once.
    """

    task: Task
    make_optimizer: Callable[[Hyperparameters, jax.Array], optax.GradientTransformation]
    rate_factor: Callable[[jax.Array], jax.Array]
    batch_size: int
    keep_last_batch: bool = False
    eval_batch_size: int = 500

    def __post_init__(self) -> None:
        # Bound once: a new jit object for each access would compile anew.
        for name, function, donated in (
            ("init", self._init, ()),
            ("train_steps", self._train_steps, 0),
            ("train_last_batch", self._train_last_batch, 0),
            ("train_batch", self._train_batch, 0),
            ("reestimate", self._reestimate, 0),
            ("finish_epoch", self._finish_epoch, 0),
            ("evaluate", self._evaluate, ()),
            ("evaluate_batch", self._evaluate_batch, ()),
        ):
            object.__setattr__(self, name, jax.jit(function, donate_argnums=donated))

    init: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_steps: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_last_batch: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_batch: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    reestimate: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    finish_epoch: Callable[..., tuple[TrainState, dict[str, jax.Array]]] = dataclasses.field(init=False, repr=False)
    evaluate: Callable[..., dict[str, jax.Array]] = dataclasses.field(init=False, repr=False)
    evaluate_batch: Callable[..., dict[str, jax.Array]] = dataclasses.field(init=False, repr=False)

    def full_batches(self, examples: int) -> int:
        """Batches of `batch_size` in an epoch."""
        return examples // self.batch_size

    def steps_per_epoch(self, examples: int) -> int:
        """All batches of an epoch."""
        return self.full_batches(examples) + int(self.has_last_batch(examples))

    def has_last_batch(self, examples: int) -> bool:
        """Whether an epoch ends with a smaller batch."""
        return self.keep_last_batch and examples % self.batch_size > 0

    def _init(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Returns the state before the first epoch."""
        params, model_state = self.task.init(jax.random.fold_in(jax.random.key(seed), 0))
        zero = jnp.zeros([], jnp.int32)
        opt_state = self._optimizer(hyperparameters, zero).init(params)
        return TrainState(zero, zero + 0, params, model_state, opt_state, self._no_totals(), zero - 1)

    def _no_totals(self) -> dict[str, jax.Array]:
        return {name: jnp.zeros([], jnp.float32) for name in ("loss", *self.task.metrics)}

    def _train_steps(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        data: PyTree,
        start: jax.Array,
        stop: jax.Array,
    ) -> TrainState:
        """Runs the steps `start` to `stop` (not included) of the epoch, each on a full batch.

        Args:
          state: Its buffers are donated; `state.step` is `start`.
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
          data: Tree of arrays with one leading axis, the examples.
          start: int32 scalar.
          stop: int32 scalar, at most `full_batches(examples)`; no new value compiles anew.
        """
        optimizer = self._optimizer(hyperparameters, state.epoch)
        key = _epoch_key(seed, state.epoch)
        order = self._order(key, _examples(data))

        def body(step: jax.Array, state: TrainState) -> TrainState:
            indices = jax.lax.dynamic_slice_in_dim(order, step * self.batch_size, self.batch_size)
            return self._update(state, optimizer, _take(data, indices), key)

        return jax.lax.fori_loop(start, stop, body, state)

    def _train_last_batch(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, data: PyTree
    ) -> TrainState:
        """Runs the step on what does not fill a batch."""
        key = _epoch_key(seed, state.epoch)
        examples = _examples(data)
        indices = self._order(key, examples)[self.full_batches(examples) * self.batch_size :]
        return self._update(state, self._optimizer(hyperparameters, state.epoch), _take(data, indices), key)

    def _train_batch(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, batch: PyTree
    ) -> TrainState:
        """Runs one step on a batch that the host has chosen."""
        return self._update(state, self._optimizer(hyperparameters, state.epoch), batch, _epoch_key(seed, state.epoch))

    def _reestimate(self, state: TrainState, seed: jax.Array, data: PyTree, full: jax.Array) -> TrainState:
        """Passes over the training set once more with the parameters fixed.

        The model's statistics follow, and the totals become those of this pass, in training mode with augmentation
        and in an order of its own.

        Args:
          state: Its buffers are donated.
          seed: int32 scalar.
          data: Tree of arrays with one leading axis, the examples.
          full: `full_batches(examples)`, as an int32 scalar; fewer make a shorter pass.
        """
        epoch_key = _epoch_key(seed, state.epoch)
        examples = _examples(data)
        # Keys of training steps end at steps_per_epoch, the key of its order.
        key = jax.random.fold_in(epoch_key, self.steps_per_epoch(examples) + 1)
        order = self._order(key, examples)
        state = dataclasses.replace(state, totals=self._no_totals())

        def forward(step: jax.Array, state: TrainState, indices: jax.Array) -> TrainState:
            loss, (model_state, metrics) = self.task.loss(
                state.params, state.model_state, _take(data, indices), jax.random.fold_in(key, step), updates=1
            )
            totals = _add(state.totals, {"loss": loss, **metrics})
            return dataclasses.replace(state, model_state=model_state, totals=totals)

        def body(step: jax.Array, state: TrainState) -> TrainState:
            return forward(step, state, jax.lax.dynamic_slice_in_dim(order, step * self.batch_size, self.batch_size))

        state = jax.lax.fori_loop(0, full, body, state)
        if self.has_last_batch(examples):
            last = self.full_batches(examples)
            state = forward(jnp.asarray(last), state, order[last * self.batch_size :])
        return state

    def _finish_epoch(self, state: TrainState) -> tuple[TrainState, dict[str, jax.Array]]:
        """Returns the state at the start of the next epoch, and the means of the training metrics over the steps."""
        means = {name: total / state.step for name, total in state.totals.items()}
        zero = jnp.zeros([], jnp.int32)
        state = dataclasses.replace(
            state, epoch=state.epoch + 1, step=zero, totals=self._no_totals(), nonfinite_step=zero - 1
        )
        return state, means

    def _optimizer(self, hyperparameters: Hyperparameters, epoch: jax.Array) -> optax.GradientTransformation:
        return self.make_optimizer(hyperparameters, self.rate_factor(epoch))

    def _update(
        self, state: TrainState, optimizer: optax.GradientTransformation, batch: PyTree, epoch_key: jax.Array
    ) -> TrainState:
        key = jax.random.fold_in(epoch_key, state.step)
        (loss, (model_state, metrics)), gradients = jax.value_and_grad(self.task.loss, has_aux=True)(
            state.params, state.model_state, batch, key
        )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        is_first = jnp.logical_and(jnp.logical_not(jnp.isfinite(loss)), state.nonfinite_step < 0)
        return TrainState(
            epoch=state.epoch,
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            model_state=model_state,
            opt_state=opt_state,
            totals=_add(state.totals, {"loss": loss, **metrics}),
            nonfinite_step=jnp.where(is_first, state.step, state.nonfinite_step),
        )

    def _order(self, key: jax.Array, examples: int) -> jax.Array:
        return jax.random.permutation(jax.random.fold_in(key, self.steps_per_epoch(examples)), examples)

    def _evaluate(self, state: TrainState, data: PyTree) -> dict[str, jax.Array]:
        """Returns the mean of each of the task's metrics over all examples of `data`."""
        examples = _examples(data)
        steps = -(-examples // self.eval_batch_size)
        indices = jnp.arange(steps * self.eval_batch_size).reshape(steps, self.eval_batch_size)

        def eval_step(batch_indices: jax.Array) -> dict[str, jax.Array]:
            batch = _take(data, jnp.minimum(batch_indices, examples - 1))
            return self._evaluate_batch(state, batch, batch_indices < examples)

        return jax.tree.map(lambda sums: jnp.sum(sums) / examples, jax.lax.map(eval_step, indices))

    def _evaluate_batch(self, state: TrainState, batch: PyTree, counts: jax.Array) -> dict[str, jax.Array]:
        """Returns the sum of each metric over the examples of a batch where `counts` (N,), bool, is true."""
        metrics = self.task.evaluate(state.params, state.model_state, batch)
        return jax.tree.map(lambda values: jnp.sum(jnp.where(counts, values, 0)), metrics)


def _epoch_key(seed: jax.Array, epoch: jax.Array) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), epoch)


def _examples(data: PyTree) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def _take(data: PyTree, indices: jax.Array) -> PyTree:
    return jax.tree.map(lambda array: array[indices], data)


def _add(totals: dict[str, jax.Array], values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: total + values[name].astype(total.dtype) for name, total in totals.items()}
