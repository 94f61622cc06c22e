"""The time in which each method reached a target, and the number of trials that chose its settings."""

import dataclasses
from collections.abc import Mapping, Sequence

from padam_optax.records.record import Record
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import diverged
from padam_optax.report.results import Results, RunGroup
from padam_optax.report.series import Series, suite_series, titles
from padam_optax.report.summary import Value, summarize


@dataclasses.dataclass(frozen=True)
class TimeToTarget:
    """When the runs of one method reached a target.

    Attributes:
      runs: Number of finished runs, diverged ones included.
      reached: How many of them reached the target. A diverged run does not count, however far it had come.
      epochs: Epochs until the target, over the runs that reached it; None if none did.
      seconds: Recorded seconds until then, compilation and tests included. None also if a run has no times.
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
      metric: A recorded metric; lower is better for all.
      target: Value in the records' unit: errors are shares of 1.
    """
    epochs: list[int] = []
    seconds: list[float] = []
    for record in records:
        epoch = None if diverged(record) else first_epoch(record, metric, target)
        if epoch is not None:
            epochs.append(epoch)
            lines = [line for line in record.metrics if line["epoch"] <= epoch]
            # Runs side by side share the device, so that their times cannot be compared.
            if record.device.jobs == 1 and all("seconds" in line for line in lines):
                seconds.append(sum(line["seconds"] for line in lines))
    timed = len(seconds) == len(epochs)
    return TimeToTarget(len(records), len(epochs), summarize(epochs), summarize(seconds) if timed else None)


def target_grids(results: Results, metric: str, target: float) -> list[Grid]:
    """A table for each suite and kind of data whose runs have the metric.

    Args:
      results: Any results; the table counts the trials among their records that chose the experiments' settings.
      metric: A recorded metric, such as `test_error`.
      target: Value in the records' unit.

    Raises:
      ValueError: If no finished run has the metric, or it is not one of training or test.
    """
    recorded = {name for record in results.records for line in record.metrics for name in line}
    known = sorted(filter(_is_metric, recorded))
    if metric not in known:
        raise ValueError(f"The records have no metric {metric!r}; they have {', '.join(known) or 'none'}.")
    grids: list[Grid] = []
    for suite in (*results.paper.suites, *results.own_suites):
        series = [each for each in suite_series(results.suites.get(suite, ())) if each.experiment is not None]
        for group in results.groups(titles(series)):
            if any(metric in line for runs in group.finished.values() for record in runs for line in record.metrics):
                grids.append(_grid(suite, series, group, metric, target, results.trials))
    if not grids:
        raise ValueError(f"No finished run of an experiment of `padam list` has {metric!r}.")
    return grids


def _is_metric(name: str) -> bool:
    return name.startswith(("train_", "test_"))


def _grid(
    suite: str, series: Sequence[Series], group: RunGroup, metric: str, target: float, trials: Mapping[str, int]
) -> Grid:
    lines: list[Line] = []
    for each in series:
        found = time_to_target(group.finished_of(each.experiment), metric, target)
        count = trials.get(each.experiment or "", 0)
        reached = f"{found.reached} of {found.runs}" if found.runs else "not run"
        cells = (reached, _text(found.epochs, 1), _text(found.seconds, 0), str(count) if count else "not recorded")
        lines.append(Line((each.title,), tuple(Cell((text,)) for text in cells)))
    caption = (
        f"{suite} on {group.conditions.text}: until {metric} is at most {target:g}, mean ± standard deviation over the"
        f" seeds that reached it; {group.remarks(titles(series))}"
    )
    columns = ("Reached by", "Epochs", "Seconds", "Tuning trials")
    return Grid(caption, ("Method",), columns, tuple(lines))


def _text(value: Value | None, digits: int) -> str:
    return "-" if value is None else value.format(digits)
