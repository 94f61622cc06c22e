"""One epoch as one compiled call: shuffle, scan over the batches, update; and the evaluation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from padam_optax.training.tasks import Task

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that changes while training. Keys do not: they follow from the seed, the epoch and the step.

    Attributes:
      epoch: Epochs completed, int32 scalar.
      params: Parameters.
      model_state: What else the model keeps, such as batch statistics.
      opt_state: State of the optimizer.
    """

    epoch: jax.Array
    params: PyTree
    model_state: PyTree
    opt_state: PyTree


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Compiled functions that train `task` on data that lives on the device.

    Learning rate, p and the like, and the seed, are arguments of the compiled functions, so that one program serves
    every value. Batches are drawn from a permutation that depends on the seed and the epoch only, augmentation from a
    key folded with the step: a resumed run sees what one never stopped would have seen.

    Attributes:
      task: What to train.
      make_optimizer: Maps a dictionary of scalar hyper-parameters to an optimizer.
      batch_size: Examples a step; those that do not fill a last batch of an epoch are left out of it.
      eval_batch_size: Examples a step of the evaluation, which sees every example once.
    """

    task: Task
    make_optimizer: Callable[[dict[str, jax.Array]], optax.GradientTransformation]
    batch_size: int
    eval_batch_size: int = 500

    def __post_init__(self) -> None:
        # Bound once: a new jit object for each access would compile anew.
        object.__setattr__(self, "init", jax.jit(self._init))
        object.__setattr__(self, "train_epoch", jax.jit(self._train_epoch, donate_argnums=0))
        object.__setattr__(self, "evaluate", jax.jit(self._evaluate))

    init: Callable[..., TrainState] = dataclasses.field(init=False, repr=False)
    train_epoch: Callable[..., tuple[TrainState, dict[str, jax.Array]]] = dataclasses.field(init=False, repr=False)
    evaluate: Callable[..., dict[str, jax.Array]] = dataclasses.field(init=False, repr=False)

    def _init(self, seed: jax.Array, hyperparameters: dict[str, jax.Array]) -> TrainState:
        """Returns the state before the first epoch."""
        params, model_state = self.task.init(jax.random.fold_in(jax.random.key(seed), 0))
        opt_state = self.make_optimizer(hyperparameters).init(params)
        return TrainState(jnp.zeros([], jnp.int32), params, model_state, opt_state)

    def _train_epoch(
        self, state: TrainState, seed: jax.Array, hyperparameters: dict[str, jax.Array], data: PyTree
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """Trains one epoch.

        Args:
          state: Its buffers are donated.
          seed: int32 scalar.
          hyperparameters: Scalars by name, for `make_optimizer`.
          data: Tree of arrays with one leading axis, the examples.

        Returns:
          The new state, and the means over the epoch's batches of `loss` and the task's metrics, with
          `nonfinite_step`, the first step of the epoch (from 0) whose loss was NaN or infinite, or -1.
        """
        optimizer = self.make_optimizer(hyperparameters)
        examples = jax.tree.leaves(data)[0].shape[0]
        steps = examples // self.batch_size
        epoch_key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 1), state.epoch)
        order = jax.random.permutation(jax.random.fold_in(epoch_key, steps), examples)
        batches = order[: steps * self.batch_size].reshape(steps, self.batch_size)

        def train_step(carry: tuple[PyTree, PyTree, PyTree], step_and_batch: tuple[jax.Array, jax.Array]):
            params, model_state, opt_state = carry
            step, indices = step_and_batch
            batch = jax.tree.map(lambda array: array[indices], data)
            (loss, (model_state, metrics)), gradients = jax.value_and_grad(self.task.loss, has_aux=True)(
                params, model_state, batch, jax.random.fold_in(epoch_key, step)
            )
            updates, opt_state = optimizer.update(gradients, opt_state, params)
            return (optax.apply_updates(params, updates), model_state, opt_state), {"loss": loss, **metrics}

        carry = (state.params, state.model_state, state.opt_state)
        carry, metrics = jax.lax.scan(train_step, carry, (jnp.arange(steps), batches))
        nonfinite = jnp.logical_not(jnp.isfinite(metrics["loss"]))
        means = jax.tree.map(jnp.mean, metrics)
        means["nonfinite_step"] = jnp.where(nonfinite.any(), jnp.argmax(nonfinite), -1)
        return TrainState(state.epoch + 1, *carry), means

    def _evaluate(self, state: TrainState, data: PyTree) -> dict[str, jax.Array]:
        """Returns the mean of each of the task's metrics over all examples of `data`."""
        examples = jax.tree.leaves(data)[0].shape[0]
        steps = -(-examples // self.eval_batch_size)
        indices = jnp.arange(steps * self.eval_batch_size).reshape(steps, self.eval_batch_size)

        def eval_step(batch_indices: jax.Array) -> dict[str, jax.Array]:
            batch = jax.tree.map(lambda array: array[jnp.minimum(batch_indices, examples - 1)], data)
            metrics = self.task.evaluate(state.params, state.model_state, batch)
            return jax.tree.map(lambda values: jnp.sum(jnp.where(batch_indices < examples, values, 0)), metrics)

        return jax.tree.map(lambda sums: jnp.sum(sums) / examples, jax.lax.map(eval_step, indices))
