"""Tables from recorded runs: the paper's four beside its numbers, and one a suite. Methods are columns."""

import dataclasses
import itertools
import statistics
from collections.abc import Sequence

from padam_optax.experiments.spec import OPTIMIZERS, PaperRow
from padam_optax.records.store import Record
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, last, quality
from padam_optax.report.results import Paper, Runs, collect, merged


@dataclasses.dataclass(frozen=True)
class Suite:
    """The runs of one recipe in one variant, by optimizer.

    Attributes:
      name: What the experiments' names share, such as `cifar10-mini`.
      runs: By optimizer, in the paper's order.
    """

    name: str
    runs: Runs

    @property
    def title(self) -> str:
        """Recipe, data, length, and what departs from the experiments, such as `cifar10-mini on cifar10, 40 epochs`."""
        variant = self.runs.variant
        length = (f"{self.runs.epochs} epochs",) if variant.full else ()
        return ", ".join((f"{self.name} on {variant.label}", *length, *variant.departures))

    @property
    def quality(self) -> str:
        """The metric of the test."""
        return quality(itertools.chain(*self.runs.finished.values(), *self.runs.unfinished.values()))


def suites(paper: Paper, records: Sequence[Record]) -> list[Suite]:
    """The suites that no table or figure of the paper has, those among them that only the records know, by name."""
    paper = paper.with_recorded(records)
    return [Suite(name, runs) for name in sorted(paper.own_suites) for runs in collect(paper.cells(name), records)]


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


def final(records: Sequence[Record], metric: str) -> Value | None:
    """A metric as tables show it, at the last epoch over the runs that did not diverge and have it; None if none is."""
    values = [METRICS[metric].shown(value) for record in records if (value := last(record, metric)) is not None]
    if not values:
        return None
    return Value(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def caption(suite: Suite) -> str:
    """What the table was made from, in one sentence or two."""
    counts = sorted({value.n for value in _values(suite.runs, suite.quality).values() if value is not None}) or [0]
    n = f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}"
    return (
        f"{suite.title}, {n}, device {', '.join(suite.runs.devices)}: mean ± standard deviation at the last epoch; best"
        f" mean in bold.{suite.runs.left_out(OPTIMIZERS)}"
    )


def suite_grid(suite: Suite) -> Grid:
    """The metric of the test and the train loss of each method."""
    lines = [
        Line((METRICS[metric].title,), _cells(suite.runs, metric, with_n=False))
        for metric in (suite.quality, "train_loss")
    ]
    return Grid(caption(suite), ("",), tuple(OPTIMIZERS.values()), tuple(lines))


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
    values = _values(runs, row.metric)
    differences = [
        "-" if value is None else f"{value.mean - row.value(method):+.2f}"
        for method, value in ((method, values.get(method)) for method in OPTIMIZERS)
    ]
    lines = [Line(("", f"measured ({runs.variant.text})"), _cells(runs, row.metric, with_n=True))]
    if runs.variant.full:
        lines.append(Line(("", "difference"), tuple(Cell((text,)) for text in differences)))
    return lines


def _values(runs: Runs, metric: str) -> dict[str, Value | None]:
    return {method: final(records, metric) for method, records in runs.finished.items()}


def _cells(runs: Runs, metric: str, *, with_n: bool) -> tuple[Cell, ...]:
    """What was measured of each method, the best of several in bold."""
    values = _values(runs, metric)
    means = {method: value.mean for method, value in values.items() if value is not None}
    choose = max if METRICS[metric].higher_is_better else min
    best = choose(means, key=means.__getitem__) if len(means) > 1 else None
    cells: list[Cell] = []
    for method in OPTIMIZERS:
        value = values.get(method)
        if value is None:
            cells.append(_without_value(runs, method))
        else:
            n = (f"(n = {value.n})",) if with_n else ()
            cells.append(Cell((*value.parts(METRICS[metric].digits), *n), method == best))
    return tuple(cells)


def _without_value(runs: Runs, method: str) -> Cell:
    if runs.finished.get(method):
        return Cell(("diverged" if runs.diverged(method) else "not recorded",))
    return Cell(("not finished",)) if runs.unfinished.get(method) else _NOT_RUN
