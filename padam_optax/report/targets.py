"""How long each method took to reach a target, beside the trials that its settings were chosen from."""

import dataclasses
import statistics
from collections.abc import Sequence

from padam_optax.experiments.spec import OPTIMIZERS
from padam_optax.records.store import Record
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.results import Paper, Runs, collect, tuning_trials
from padam_optax.report.tables import Value


@dataclasses.dataclass(frozen=True)
class TimeToTarget:
    """When the runs of one method reached a target.

    Attributes:
      runs: That have come to their end, diverged ones among them.
      reached: Of these. A run that diverged has not, however far it had come.
      epochs: Until the target was reached, over the runs that did; None if none did.
      seconds: Likewise, as recorded: compilation and tests included. None also if a run has no times.
    """

    runs: int
    reached: int
    epochs: Value | None
    seconds: Value | None


def first_epoch(record: Record, metric: str, target: float) -> int | None:
    """The first epoch (from 1) at whose end `metric` is at most `target`; None if there is none."""
    return next((line["epoch"] for line in record.metrics if metric in line and line[metric] <= target), None)


def time_to_target(records: Sequence[Record], metric: str, target: float) -> TimeToTarget:
    """When runs reached a target.

    Args:
      records: Finished runs of one method.
      metric: Of the records; all are better when they are lower.
      target: In the records' unit: errors are shares of 1.
    """
    epochs: list[int] = []
    seconds: list[float] = []
    for record in records:
        epoch = None if record.diverged else first_epoch(record, metric, target)
        if epoch is not None:
            epochs.append(epoch)
            lines = [line for line in record.metrics if line["epoch"] <= epoch]
            if all("seconds" in line for line in lines):
                seconds.append(sum(line["seconds"] for line in lines))
    timed = len(seconds) == len(epochs)
    return TimeToTarget(len(records), len(epochs), _value(epochs), _value(seconds) if timed else None)


def _value(numbers: Sequence[float]) -> Value | None:
    if not numbers:
        return None
    return Value(statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def target_grids(paper: Paper, records: Sequence[Record], metric: str, target: float) -> list[Grid]:
    """A table for each suite and kind of data that was run and has the metric.

    Args:
      paper: The experiments that are known.
      records: Of them and, if there are, of the trials that their settings were chosen from.
      metric: As recorded, such as `test_error`.
      target: In the records' unit.

    Raises:
      ValueError: If no finished run has the metric, or it is not one of training or test.
    """
    paper = paper.with_recorded(records)
    known = sorted({name for record in records for line in record.metrics for name in line if _is_metric(name)})
    if metric not in known:
        raise ValueError(f"The records have no metric {metric!r}; they have {', '.join(known) or 'none'}.")
    trials = tuning_trials(records)
    grids = [
        _grid(suite, runs, metric, target, {method: trials.get(spec.name, 0) for method, spec in cells.items()})
        for suite in (*paper.suites, *paper.own_suites)
        for cells in (paper.cells(suite),)
        for runs in collect(cells, records)
        if any(metric in line for group in runs.finished.values() for record in group for line in record.metrics)
    ]
    if not grids:
        raise ValueError(f"No finished run of an experiment of `padam list` has {metric!r}.")
    return grids


def _is_metric(name: str) -> bool:
    return name.startswith(("train_", "test_"))


def _grid(suite: str, runs: Runs, metric: str, target: float, trials: dict[str, int]) -> Grid:
    lines: list[Line] = []
    for method, count in trials.items():
        found = time_to_target(runs.finished[method], metric, target)
        reached = f"{found.reached} of {found.runs}" if found.runs else "not run"
        cells = (reached, _text(found.epochs, 1), _text(found.seconds, 0), str(count) if count else "not recorded")
        lines.append(Line((OPTIMIZERS[method],), tuple(Cell((text,)) for text in cells)))
    caption = (
        f"{suite} on {runs.variant.text}: until {metric} is at most {target:g}, mean ± standard deviation over the"
        f" seeds that reached it; {runs.remarks(OPTIMIZERS)}"
    )
    columns = ("Reached by", "Epochs", "Seconds", "Tuning trials")
    return Grid(caption, ("Method",), columns, tuple(lines))


def _text(value: Value | None, digits: int) -> str:
    return "-" if value is None else value.format(digits)
