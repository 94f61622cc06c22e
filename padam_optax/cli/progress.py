"""The progress bar of training: whole epochs, and a steady estimate of the time left."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from padam_optax.experiments.spec import Experiment, Role


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a command's work: epochs that follow one another.

    Attributes:
      epochs: Number of epochs.
      cost: Parts of the same cost take the same time an epoch.
      program: The first part with a program compiles it; "" for one that is compiled before the part begins.
    """

    epochs: int
    cost: str = ""
    program: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> "Part":
        """The part that one run of an experiment makes."""
        cost = repr(experiment.fields(Role.COST))
        return cls(experiment.epochs, cost, f"{cost} {experiment.fields(Role.PROGRAM)!r}")


class TimeLeft:
    """Estimates how long a command still takes, by the mean time of all epochs so far that cost the same.

    It leaves out the first steps and the first evaluation of each program, which compile it.

    Args:
      parts: The parts of the work, in order.
      measured: Seconds and epochs by cost, shared among the estimates of one command.
      clock: Returns seconds that never decrease.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        measured: dict[str, tuple[float, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._parts = parts
        self._measured = {} if measured is None else measured
        self._clock = clock
        self._compiled = {""}
        self._number, self._done, self._last = 0, 0.0, clock()
        self._is_first = True

    def begin(self, number: int) -> None:
        """Begins a part, by its place from 0."""
        self._number, self._done, self._last = number, 0.0, self._clock()
        self._is_first = True

    def steps(self, epoch: int, share: float) -> None:
        """Takes note of the share of an epoch, counted from 1, that is done."""
        self._go_on(epoch - 1, epoch - 1 + share, counts=not self._is_first or self._is_compiled)

    def epochs(self, done: int) -> None:
        """Takes note that `done` epochs of the part are trained and evaluated."""
        self._go_on(done - 1, done, counts=self._is_compiled)
        self._compiled.add(self._parts[self._number].program)

    @property
    def _is_compiled(self) -> bool:
        return self._parts[self._number].program in self._compiled

    def _go_on(self, start: int, done: float, *, counts: bool) -> None:
        # A run that goes on from a checkpoint starts within the part.
        before = max(self._done, start) if self._is_first else self._done
        now = self._clock()
        if counts:
            cost = self._parts[self._number].cost
            seconds, epochs = self._measured.get(cost, (0.0, 0.0))
            self._measured[cost] = (seconds + now - self._last, epochs + done - before)
        self._done, self._last, self._is_first = done, now, False

    def seconds(self) -> float | None:
        """The estimate; None before anything is measured."""
        measured = list(self._measured.values())
        epochs = sum(epochs for _, epochs in measured)
        if not epochs:
            return None
        others = sum(seconds for seconds, _ in measured) / epochs

        def needs(part: Part, epochs: float) -> float:
            seconds, counted = self._measured.get(part.cost, (0.0, 0.0))
            return epochs * (seconds / counted if counted else others)

        under_way = self._parts[self._number]
        now = needs(under_way, under_way.epochs - self._done) - (self._clock() - self._last)
        return max(0.0, now) + sum(needs(part, part.epochs) for part in self._parts[self._number + 1 :])


class _TimeLeftColumn(ProgressColumn):
    """The estimate that a task has as its field `left`."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        seconds = 0.0 if task.finished else task.fields["left"].seconds()
        text = "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
        return Text(text, style="progress.remaining")


def progress_columns() -> tuple[ProgressColumn, ...]:
    """The columns of a bar; its tasks have a field `left`, a `TimeLeft`."""
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        _TimeLeftColumn(),
    )
