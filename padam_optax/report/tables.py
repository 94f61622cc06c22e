"""Tables from recorded runs: the paper's four beside its numbers, and one a suite. Methods are columns."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from rich.table import Table

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS, PaperRow
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, last
from padam_optax.report.runs import Paper, Runs, collect, merged


@dataclasses.dataclass(frozen=True)
class Suite:
    """The runs of one recipe on one data set, by optimizer.

    Attributes:
      name: What the experiments' names share, such as `cifar10-mini`.
      label: Name of the data.
      device: Kind of the device.
      epochs: Of every run.
      records: Finished runs by optimizer, in the paper's order; only optimizers that have one.
      unfinished: Runs left out because they have not come to their end.
    """

    name: str
    label: str
    device: str
    epochs: int
    records: dict[str, list[Record]]
    unfinished: int

    @property
    def diverged(self) -> int:
        """Runs that stopped at a loss that was not finite."""
        return sum(record.diverged for records in self.records.values() for record in records)


def suites(records: Iterable[Record]) -> list[Suite]:
    """Groups records by recipe, data and length, sorted by name; runs that chose settings are no results."""
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        spec = record.config["experiment"]
        if spec.get("held_out") is not None:
            continue
        name = spec["name"].removesuffix(f"-{spec['optimizer']}")
        groups.setdefault((name, record.config["data"]["label"], spec["epochs"]), []).append(record)
    result = []
    for (name, label, epochs), members in sorted(groups.items()):
        finished = [record for record in members if record.finished]
        by_method = {
            method: runs
            for method in OPTIMIZERS
            if (runs := [run for run in finished if run.config["experiment"]["optimizer"] == method])
        }
        device = members[0].config["device"]["kind"]
        result.append(Suite(name, label, device, epochs, by_method, len(members) - len(finished)))
    return result


@dataclasses.dataclass(frozen=True)
class Value:
    """Mean and sample standard deviation (None for one run) over n runs."""

    mean: float
    deviation: float | None
    n: int

    def format(self, digits: int, separator: str = " ± ") -> str:
        """Such as `93.45 ± 0.21`."""
        deviation = "" if self.deviation is None else f"{separator}{self.deviation:.{digits}f}"
        return f"{self.mean:.{digits}f}{deviation}"

    def parts(self, digits: int) -> tuple[str, ...]:
        """The same in parts, such as `93.45` and `± 0.21`."""
        return tuple(self.format(digits, "\n± ").split("\n"))


def final(records: Sequence[Record], metric: str, scale: float = 1.0, offset: float = 0.0) -> Value | None:
    """`offset + scale * metric` at the last epoch over the runs that did not diverge; None if all did."""
    values = [offset + scale * record.metrics[-1][metric] for record in records if not record.diverged]
    if not values:
        return None
    return Value(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def accuracy(records: Sequence[Record]) -> Value | None:
    """Test accuracy in percent at the last epoch."""
    return final(records, "test_error", -100.0, 100.0)


def train_loss(records: Sequence[Record]) -> Value | None:
    """Mean training loss over the last epoch."""
    return final(records, "train_loss")


@dataclasses.dataclass(frozen=True)
class _Row:
    title: str
    digits: int
    values: dict[str, Value | None]
    best: str | None


def _rows(suite: Suite) -> list[_Row]:
    rows = []
    for title, metric, digits, choose in (
        ("Test accuracy (%)", accuracy, 2, max),
        ("Train loss", train_loss, 4, min),
    ):
        values = {method: metric(records) for method, records in suite.records.items()}
        measured = {method: value.mean for method, value in values.items() if value is not None}
        rows.append(_Row(title, digits, values, choose(measured, key=measured.__getitem__) if measured else None))
    return rows


def caption(suite: Suite) -> str:
    """What the table was made from, in one sentence or two."""
    counts = sorted({len(records) for records in suite.records.values()})
    n = (
        "no finished run"
        if not counts
        else f"n = {counts[0]}"
        if len(counts) == 1
        else f"n = {counts[0]} to {counts[-1]}"
    )
    text = (
        f"{suite.name} on {suite.label}, {suite.epochs} epochs, {n}, device {suite.device}: mean ± standard deviation"
        " at the last epoch; best mean in bold."
    )
    if suite.diverged:
        text += f" Runs that diverged and are in no mean: {suite.diverged}."
    if suite.unfinished:
        text += f" Runs not finished: {suite.unfinished}."
    return text


def suite_grid(suite: Suite) -> Grid:
    """Test accuracy and train loss of each method."""
    lines = [Line((row.title,), tuple(_cell(row, method, suite) for method in OPTIMIZERS)) for row in _rows(suite)]
    return Grid(caption(suite), ("",), tuple(OPTIMIZERS.values()), tuple(lines))


def markdown(suite: Suite) -> str:
    """The table in Markdown, its caption above."""
    return suite_grid(suite).markdown()


def rich_table(suite: Suite) -> Table:
    """The table for a terminal of 80 columns or more."""
    return suite_grid(suite).rich_table()


def _cell(row: _Row, method: str, suite: Suite) -> Cell:
    if method not in suite.records:
        return _NOT_RUN
    value = row.values[method]
    if value is None:
        return Cell(("diverged",))
    return Cell(value.parts(row.digits), best=method == row.best)


_NOT_RUN = Cell(("not run",))


def paper_table(number: int, paper: Paper, records: Sequence[Record]) -> Grid:
    """One of the paper's tables: its numbers, and for each data label the measured ones and the differences.

    Runs on data of another name, of another length or with other settings than the experiment's are in lines of their
    own; those of another length have no line of differences.

    Args:
      number: Of the table.
      paper: Its numbers, and the experiments behind them.
      records: Any; those of other experiments are left out.

    Raises:
      KeyError: If the paper has no such table.
    """
    if number not in paper.tables:
        raise KeyError(f"The paper has no table {number}; it has {', '.join(map(str, paper.tables))}.")
    table = paper.tables[number]
    lines: list[Line] = []
    others: set[str] = set()
    remarks: list[tuple[str, str]] = []
    for row in table.rows:
        cells = paper.cells(row.suite)
        found = collect(cells, records)
        lines.append(_printed(row))
        if not any(runs.variant.faithful for runs in found):
            theirs = " ".join(("measured", *sorted({f"({spec.dataset})" for spec in cells.values()})))
            lines.append(Line(("", theirs), (_NOT_RUN,) * len(OPTIMIZERS)))
        for runs in found:
            lines += _measured(row, runs)
            remarks.append((row.suite, f"on {runs.variant.text}: {runs.remarks(OPTIMIZERS)}"))
            if not runs.variant.own:
                others.add(f"`{runs.variant.label}` is not the paper's data.")
    caption = (
        f"Table {number}: {table.title}. Measured: mean ± standard deviation over n seeds at the last epoch;"
        " difference: measured less paper; best mean in bold."
    )
    notes = (*sorted(others), *merged(remarks))
    return Grid(caption, ("Model", ""), tuple(OPTIMIZERS.values()), tuple(lines), notes)


def has_runs(number: int, paper: Paper, records: Sequence[Record]) -> bool:
    """Whether a cell of a table was run, or begun."""
    return any(collect(paper.cells(row.suite), records) for row in paper.tables[number].rows)


def _printed(row: PaperRow) -> Line:
    best = (max if METRICS[row.metric].higher_is_better else min)(row.values)
    return Line((row.title, "paper"), tuple(Cell((f"{value:.2f}",), value == best) for value in row.values))


def _measured(row: PaperRow, runs: Runs) -> list[Line]:
    metric = METRICS[row.metric]
    values = {
        method: final(
            [record for record in records if last(record, row.metric) is not None],
            row.metric,
            metric.scale,
            metric.offset,
        )
        for method, records in runs.finished.items()
    }
    means = {method: value.mean for method, value in values.items() if value is not None}
    best = (max if metric.higher_is_better else min)(means, key=means.__getitem__) if len(means) > 1 else None
    measured: list[Cell] = []
    differences: list[Cell] = []
    for method in OPTIMIZERS:
        value = values.get(method)
        if value is not None:
            measured.append(Cell((*value.parts(metric.digits), f"(n = {value.n})"), method == best))
            differences.append(Cell((f"{value.mean - row.value(method):+.2f}",)))
        else:
            measured.append(_without_value(runs, method))
            differences.append(Cell(("-",)))
    lines = [Line(("", f"measured ({runs.variant.text})"), tuple(measured))]
    if runs.variant.full:
        lines.append(Line(("", "difference"), tuple(differences)))
    return lines


def _without_value(runs: Runs, method: str) -> Cell:
    if runs.finished.get(method):
        return Cell(("diverged" if runs.diverged(method) else "not recorded",))
    return Cell(("not finished",)) if runs.unfinished.get(method) else _NOT_RUN
