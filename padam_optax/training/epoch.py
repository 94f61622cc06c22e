"""Drives a trainer through epochs from the host: how many steps a call, when to look up, what was measured."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from padam_optax.training import processes
from padam_optax.training.loop import Hyperparameters, Trainer, TrainState

PyTree = Any

# How long a call may keep the host from answering a signal or a deadline.
_CALL_SECONDS = 2.0
_FIRST_STEPS = 4


@dataclasses.dataclass(frozen=True)
class EpochResult:
    """What one call of `train_epoch` did.

    Attributes:
      state: The new state; at the start of an epoch if `metrics` is not None.
      metrics: Means of the training metrics over the epoch, or None if it was not finished.
      nonfinite_step: First step of the epoch whose loss or gradients were not finite, or None.
      seconds: Time spent training, without compiling.
      examples: Examples trained on in that time.
    """

    state: TrainState
    metrics: dict[str, float] | None
    nonfinite_step: int | None
    seconds: float
    examples: int


class Source(Protocol):
    """Where the examples of a training come from."""

    def steps_before(self, epoch: int) -> int:
        """Training steps of the epochs before `epoch`, counted from 0."""
        ...

    @property
    def position(self) -> str:
        """Where the input stands within an epoch; empty if that follows from the state."""
        ...

    def go_to(self, position: str) -> None:
        """Goes on from a `position` that was saved with the state that is passed to `train_epoch` next."""
        ...

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        on_steps: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> EpochResult:
        """Trains to the end of the epoch under way, or until `should_stop` says so between two calls.

        `state` is donated; `on_steps` hears every few seconds which share of the epoch is done.
        """
        ...

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Metrics over each set that is held out from training, as `test_loss`."""
        ...


class ResidentData:
    """Training and test sets that live whole on the device, or on each of those that train together.

    Args:
      trainer: Compiled functions.
      train: As the trainer's batches take them.
      held_out: Sets to evaluate on, as the trainer's task takes them, by the name that their metrics get.
      reestimate: Whether each epoch ends with a pass that re-estimates the model's statistics and measures the
        training metrics with the parameters fixed.
    """

    def __init__(self, trainer: Trainer, train: PyTree, held_out: Mapping[str, PyTree], *, reestimate: bool = False):
        self._trainer = trainer
        self._train = trainer.placement.put_whole(train)
        self._held_out = {name: trainer.placement.put_whole(data) for name, data in held_out.items()}
        self._reestimate = reestimate
        self._steps_a_call = _FIRST_STEPS
        self._compiled = False

    def steps_before(self, epoch: int) -> int:
        """As `Source`."""
        return sum(self._steps(before) for before in range(epoch))

    def _steps(self, epoch: int) -> int:
        batches = self._trainer.batches
        return batches.steps(epoch, self._train) + int(batches.has_last(self._train))

    @property
    def position(self) -> str:
        """Empty, as the batches follow from the state."""
        return ""

    def go_to(self, position: str) -> None:
        """Does nothing."""

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        on_steps: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> EpochResult:
        """As `Source`; the split into calls changes nothing in the numbers."""
        trainer, data = self._trainer, self._train
        epoch, step = int(state.epoch), int(state.step)
        full, steps = trainer.batches.steps(epoch, data), self._steps(epoch)
        if not self._compiled:
            state = self._compile(state, seed, hyperparameters)
        first, began = step, time.perf_counter()

        def result(state: TrainState, metrics: dict[str, float] | None, nonfinite: int) -> EpochResult:
            seconds = time.perf_counter() - began
            examples = trainer.batches.examples(epoch, first, step, data)
            return EpochResult(state, metrics, nonfinite if nonfinite >= 0 else None, seconds, examples)

        while step < full:
            stop = min(full, step + self._steps_a_call)
            call_began = time.perf_counter()
            state = trainer.train_steps(state, seed, hyperparameters, data, epoch, step, stop)
            nonfinite = int(state.nonfinite_step)
            a_step = (time.perf_counter() - call_began) / (stop - step)
            self._steps_a_call = _steps_before_looking(a_step, full)
            step = stop
            on_steps(step / steps)
            # With all steps done the epoch is finished first: both states would be checkpoints of the same step.
            if nonfinite >= 0 or (step < steps and should_stop()):
                return result(state, None, nonfinite)
        if step < steps:
            state = trainer.train_last_batch(state, seed, hyperparameters, data)
            step += 1
        if self._reestimate:
            state = trainer.reestimate(state, seed, data, full)
        nonfinite = int(state.nonfinite_step)
        if nonfinite >= 0:
            return result(state, None, nonfinite)
        state, means = trainer.finish_epoch(state)
        return result(state, {name: float(value) for name, value in means.items()}, -1)

    def _compile(self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Runs everything on as little as possible, so that no time below holds a compilation."""
        trainer, data, step = self._trainer, self._train, int(state.step)
        if trainer.batches.has_last(data):
            trainer.train_last_batch(_copy(state), seed, hyperparameters, data)
        if self._reestimate:
            trainer.reestimate(_copy(state), seed, data, 0)
        trainer.finish_epoch(_copy(state))
        state = trainer.train_steps(state, seed, hyperparameters, data, int(state.epoch), step, step)
        jax.block_until_ready(state.step)
        self._compiled = True
        return state

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """As `Source`."""
        return {
            f"{split}_{name}": float(value)
            for split, data in self._held_out.items()
            for name, value in self._trainer.evaluate(state, data).items()
        }


class Positioned(Protocol):
    """An iterator over batches that can tell where it stands and go on from there."""

    def __next__(self) -> PyTree: ...

    def get_position(self) -> str:
        """Where it stands."""
        ...

    def set_position(self, position: str) -> None:
        """Goes there."""
        ...


class StreamedData:
    """Training and test sets that the host reads batch by batch.

    Args:
      trainer: Compiled functions.
      open_train: Gives the training batches of all epochs, from the first on.
      open_test: Gives the test batches, each with a mask of the examples that count: (batch, (N,) bool).
      batch_size: Examples of a training batch.
      steps_per_epoch: Training steps of an epoch.
      test_examples: Examples that count over all test batches.
    """

    def __init__(
        self,
        trainer: Trainer,
        open_train: Callable[[], Positioned],
        open_test: Callable[[], Iterable[tuple[PyTree, Any]]],
        *,
        batch_size: int,
        steps_per_epoch: int,
        test_examples: int,
    ):
        self._trainer = trainer
        self._open_train = open_train
        self._open_test = open_test
        self._batch_size = batch_size
        self._steps = steps_per_epoch
        self._test_examples = test_examples
        self._batches: Positioned | None = None
        self._go_to = ""
        self._compiled = False

    def steps_before(self, epoch: int) -> int:
        """As `Source`."""
        return epoch * self._steps

    @property
    def position(self) -> str:
        """Where the batches stand; empty before the first."""
        return "" if self._batches is None else self._batches.get_position()

    def go_to(self, position: str) -> None:
        """As `Source`."""
        self._go_to = position

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        on_steps: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> EpochResult:
        """As `Source`."""
        trainer = self._trainer
        first = step = int(state.step)
        if self._batches is None:
            self._batches = self._open_train()
            if self._go_to:
                self._batches.set_position(self._go_to)
        self._go_to = ""
        began = looked = time.perf_counter()
        last_look, next_look = step, step + 1
        nonfinite = -1
        while step < self._steps:
            batch = trainer.placement.put_batch(next(self._batches))
            if not self._compiled:
                jax.block_until_ready(trainer.train_batch(_copy(state), seed, hyperparameters, batch))
                self._compiled = True
                began = looked = time.perf_counter()
            state = trainer.train_batch(state, seed, hyperparameters, batch)
            step += 1
            # Looking waits for the device, so that it is done now and then only.
            if step in (next_look, self._steps):
                nonfinite = int(state.nonfinite_step)
                now = time.perf_counter()
                next_look = step + _steps_before_looking((now - looked) / (step - last_look), self._steps)
                last_look, looked = step, now
                on_steps(step / self._steps)
                if nonfinite >= 0 or should_stop():
                    break
        seconds = time.perf_counter() - began
        examples = (step - first) * self._batch_size
        if nonfinite >= 0 or step < self._steps:
            return EpochResult(state, None, nonfinite if nonfinite >= 0 else None, seconds, examples)
        state, means = trainer.finish_epoch(state)
        return EpochResult(state, {name: float(value) for name, value in means.items()}, None, seconds, examples)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """As `Source`."""
        totals: dict[str, float] = {}
        for batch, counts in self._open_test():
            sums = self._trainer.evaluate_batch(state, *self._trainer.placement.put_batch((batch, counts)))
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return {f"test_{name}": total / self._test_examples for name, total in totals.items()}


def _steps_before_looking(seconds_a_step: float, most: int) -> int:
    """Steps until the host looks up again: in all processes the same, or one would wait for another for ever."""
    return processes.agreed(max(1, min(most, int(_CALL_SECONDS / seconds_a_step))))


def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)
