"""Runs a trainer's epochs from the host: splits them into calls, checks whether to stop, and returns the metrics."""

import dataclasses
import time
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from padam_optax.training import processes
from padam_optax.training.batches import steps_of
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
      metrics: Means of the training metrics over the epoch, or None if the epoch is unfinished.
      nonfinite_step: First step of the epoch whose loss or gradients were not finite, or None. If there is one, `state`
        is of no use.
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
        """Position of the input within an epoch; empty if the state determines it."""
        ...

    def go_to(self, position: str) -> None:
        """Moves the input to `position`, saved with the state that `train_epoch` gets next."""
        ...

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        on_steps: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_compile: Callable[[bool], None] = lambda under_way: None,
    ) -> EpochResult:
        """Trains to the end of the epoch under way, or until `should_stop()` is true between two compiled calls.

        `state` is donated. `on_steps` gets the share of the epoch that is done, every few seconds; `on_compile` gets
        True before the steps are compiled and False after.
        """
        ...

    def evaluate(self, state: TrainState, *, end: bool = False) -> dict[str, float]:
        """Metrics over each held-out set, such as `test_loss`; with `end`, also over the sets for the end of a run."""
        ...


class ResidentData(Source):
    """Training and test sets that each device holds whole.

    Args:
      trainer: Trains and evaluates.
      train: The training set, as the trainer's batches take it.
      held_out: Sets to evaluate on, as the trainer's task takes them, by name; their metrics begin with this name.
      at_end: Further sets, for the end of a run only.
    """

    def __init__(
        self,
        trainer: Trainer,
        train: PyTree,
        held_out: Mapping[str, PyTree],
        at_end: Mapping[str, PyTree] = types.MappingProxyType({}),
    ):
        self._trainer = trainer
        self._train = trainer.placement.put_whole(train)
        self._held_out = {name: trainer.placement.put_whole(data) for name, data in held_out.items()}
        self._at_end = {name: trainer.placement.put_whole(data) for name, data in at_end.items()}
        self._steps_a_call = _FIRST_STEPS
        self._compiled = False

    def steps_before(self, epoch: int) -> int:
        return sum(steps_of(self._trainer.batches, before, self._train) for before in range(epoch))

    @property
    def position(self) -> str:
        """Empty; the state determines the batches."""
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
        on_compile: Callable[[bool], None] = lambda under_way: None,
    ) -> EpochResult:
        """See `Source`. The split into calls does not change the results."""
        trainer, data = self._trainer, self._train
        epoch, first = int(state.epoch), int(state.step)
        full, steps = trainer.batches.steps(epoch, data), steps_of(trainer.batches, epoch, data)
        if not self._compiled:
            on_compile(True)
            state = self._compile(state, seed, hyperparameters)
            on_compile(False)
        began = time.perf_counter()
        step, means = first, None
        while step < full:
            stop = min(full, step + self._steps_a_call)
            call_began = time.perf_counter()
            state = self._train_steps(state, seed, hyperparameters, epoch, step, stop)
            nonfinite = int(state.nonfinite_step)
            a_step = (time.perf_counter() - call_began) / (stop - step)
            self._steps_a_call = _steps_before_looking(a_step, full)
            step = stop
            on_steps(step / steps)
            # After all steps, finish the epoch before stopping: checkpoints before and after it have the same number.
            if nonfinite >= 0 or (step < steps and should_stop()):
                break
        else:
            state, means, nonfinite = trainer.finish_epoch(state, seed, hyperparameters, data, full)
            nonfinite, step = int(nonfinite), steps
        return _result(state, nonfinite, means, began, trainer.batches.examples(epoch, first, step, data))

    def _train_steps(
        self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, epoch: int, start: int, stop: int
    ) -> TrainState:
        """Runs the steps `start` to `stop` without gradient checks, and again with checks if one was not finite."""
        # A copy: the call donates its state.
        kept = _copy(state)
        arguments = (seed, hyperparameters, self._train, epoch, start, stop)
        state = self._trainer.train_steps(state, *arguments, check_gradients=False)
        return state if int(state.nonfinite_step) < 0 else self._trainer.train_steps(kept, *arguments)

    def _compile(self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Compiles everything by running no steps, so that the measured times hold no compilation."""
        trainer, data, step = self._trainer, self._train, int(state.step)
        trainer.finish_epoch(_copy(state), seed, hyperparameters, data, 0)
        state = self._train_steps(state, seed, hyperparameters, int(state.epoch), step, step)
        jax.block_until_ready(state.step)
        self._compiled = True
        return state

    def evaluate(self, state: TrainState, *, end: bool = False) -> dict[str, float]:
        sets = self._held_out | self._at_end if end else self._held_out
        return {name: float(value) for name, value in self._trainer.evaluate_sets(state, sets).items()}


class Positioned(Protocol):
    """An iterator over batches whose position can be read and set."""

    def __next__(self) -> PyTree: ...

    def get_position(self) -> str:
        """The position now."""
        ...

    def set_position(self, position: str) -> None:
        """Goes on from `position`."""
        ...


class StreamedData(Source):
    """Training and test sets that the host reads batch by batch.

    Args:
      trainer: Trains and evaluates.
      open_train: Returns the training batches of all epochs, from the first on.
      open_test: Returns the test batches, each with a mask of the examples that count: (batch, (N,) bool).
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
        return epoch * self._steps

    @property
    def position(self) -> str:
        """Position of the batches; empty before the first."""
        return "" if self._batches is None else self._batches.get_position()

    def go_to(self, position: str) -> None:
        self._go_to = position

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        on_steps: Callable[[float], None] = lambda share: None,
        should_stop: Callable[[], bool] = lambda: False,
        on_compile: Callable[[bool], None] = lambda under_way: None,
    ) -> EpochResult:
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
                on_compile(True)
                self._compile(state, seed, hyperparameters, batch)
                on_compile(False)
                began = looked = time.perf_counter()
            state = trainer.train_batch(state, seed, hyperparameters, batch)
            step += 1
            # Reading a value waits for the device: do it rarely.
            if step in (next_look, self._steps):
                nonfinite = int(state.nonfinite_step)
                now = time.perf_counter()
                next_look = step + _steps_before_looking((now - looked) / (step - last_look), self._steps)
                last_look, looked = step, now
                on_steps(step / self._steps)
                if nonfinite >= 0 or should_stop():
                    break
        means = None
        if nonfinite < 0 and step == self._steps:
            state, means = trainer.next_epoch(state)
        return _result(state, nonfinite, means, began, (step - first) * self._batch_size)

    def _compile(self, state: TrainState, seed: jax.Array, hyperparameters: Hyperparameters, batch: PyTree) -> None:
        """Compiles everything by running it on a copy, so that the measured times hold no compilation."""
        trainer = self._trainer
        jax.block_until_ready(trainer.next_epoch(trainer.train_batch(_copy(state), seed, hyperparameters, batch)))
        self._compiled = True

    def evaluate(self, state: TrainState, *, end: bool = False) -> dict[str, float]:
        del end
        totals: dict[str, float] = {}
        for batch, counts in self._open_test():
            sums = self._trainer.evaluate_batch(state, *self._trainer.placement.put_batch((batch, counts)))
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return {f"test_{name}": total / self._test_examples for name, total in totals.items()}


def _result(
    state: TrainState, nonfinite: int, means: dict[str, jax.Array] | None, began: float, examples: int
) -> EpochResult:
    seconds = time.perf_counter() - began
    if nonfinite >= 0:
        return EpochResult(state, None, nonfinite, seconds, examples)
    metrics = None if means is None else {name: float(value) for name, value in means.items()}
    return EpochResult(state, metrics, None, seconds, examples)


def _steps_before_looking(seconds_a_step: float, most: int) -> int:
    """Steps until the host looks again. All processes use the same number, or one would wait for another for ever."""
    return processes.agreed(max(1, min(most, int(_CALL_SECONDS / seconds_a_step))))


def _copy(state: TrainState) -> TrainState:
    return jax.tree.map(jnp.copy, state)
