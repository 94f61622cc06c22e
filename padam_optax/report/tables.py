"""Tables from recorded runs: the paper's four, with its numbers, and one for each suite. Methods are columns."""

import dataclasses
from collections.abc import Sequence

from padam_optax.experiments.paper import PaperRow
from padam_optax.experiments.tuning import UNTUNED
from padam_optax.records.record import Record
from padam_optax.report.conditions import in_bfloat16, line_names
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, quality
from padam_optax.report.naming import COPIES, data_title, p_text, picture_title, setting_title
from padam_optax.report.results import Results, RunGroup, merged
from padam_optax.report.series import Series, paper_series, suite_series, titles
from padam_optax.report.summary import Value, final, number_text


@dataclasses.dataclass(frozen=True)
class Suite:
    """The runs of one recipe under one set of conditions, by optimizer.

    Attributes:
      name: The suite's name in the experiments, such as `cifar10-mini`.
      series: Its columns and curves.
      group: The runs.
    """

    name: str
    series: tuple[Series, ...]
    group: RunGroup

    @property
    def title(self) -> str:
        """Recipe, data, length and departures from the experiments, such as `cifar10-mini on cifar10, 40 epochs`."""
        conditions = self.group.conditions
        length = (self.group.length,) if conditions.full else ()
        departures = map(setting_title, conditions.departures)
        return ", ".join((f"{self.name} on {data_title(conditions.label)}", *length, *departures))

    @property
    def heading(self) -> str:
        """The title in words for a picture, such as `Digits, small CNN, 40 epochs`."""
        conditions = self.group.conditions
        models = sorted({record.experiment.model for record in self.group.records})
        length = (self.group.length,) if conditions.full else ()
        departures = map(setting_title, conditions.departures)
        return ", ".join((picture_title(conditions.label, models), *length, *departures))

    @property
    def quality(self) -> str:
        """The test metric."""
        return quality(self.group.records)


def suites(results: Results) -> list[Suite]:
    """The suites that no table of the paper shows, sorted by name; suites that only the records know are included.

    A suite of the paper's tables is included if it has runs that belong to no cell. A suite at the settings before any
    choice is left out if the suite at the chosen settings was run: that suite's table shows both.
    """
    found: list[Suite] = []
    beside = {
        untuned
        for chosen, untuned in UNTUNED.items()
        if results.groups(spec.name for spec in results.suites.get(chosen, ()))
    }
    for name, members in sorted(results.suites.items()):
        if name in beside:
            continue
        others = {spec.name for spec in members}
        if name in results.paper.suites:
            others -= {spec.name for spec in results.cells(name).values()}
        series = suite_series(members)
        groups = results.groups(titles(series))
        found += [Suite(name, series, group) for group in groups if any(map(group.has_run, others))]
    return found


def paper_suites(results: Results) -> list[Suite]:
    """The rows of the paper's tables that were run, network by network, on each kind of data."""
    found: list[Suite] = []
    for name in results.paper.suites:
        series = paper_series(results.cells(name))
        groups = results.groups(titles(series))
        found += [Suite(name, series, group) for group in groups if any(group.finished.values())]
    return found


def caption(suite: Suite) -> str:
    """What the table was made from, in one or two sentences."""
    values = (final(runs, suite.quality) for runs in suite.group.finished.values())
    counts = sorted({value.n for value in values if value is not None}) or [0]
    n = f"n = {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}"
    return (
        f"{suite.title}, {n}, device {', '.join(suite.group.devices)}: mean ± standard deviation at the last epoch;"
        f" best mean in bold.{suite.group.left_out(titles(suite.series))}"
    )


def suite_grid(suite: Suite) -> Grid:
    """A table of each method's learning rate, p, test metric and train loss."""
    rates = tuple(Cell(_rate(suite.group.finished_of(each.experiment))) for each in suite.series)
    lines = [
        Line((METRICS[metric].title,), _cells(suite.series, suite.group, metric, with_n=False))
        for metric in (suite.quality, "train_loss")
    ]
    return Grid(
        caption(suite), ("",), tuple(each.title for each in suite.series), (Line(("Learning rate",), rates), *lines)
    )


def _rate(runs: Sequence[Record]) -> tuple[str, ...]:
    """The learning rate that runs share, and p if they have one."""
    found = {tuple(run.experiment.hyperparameters.get(name) for name in ("learning_rate", "p")) for run in runs}
    if len(found) != 1:
        return ("-",)
    ((rate, p),) = found
    return (f"{rate:.3g}",) if p is None else (f"{rate:.3g},", p_text(p))


_NOT_RUN = Cell(("not run",))


def paper_table(number: int, results: Results) -> Grid:
    """One of the paper's tables: its numbers, and for each data label the measured numbers and the differences.

    Runs on data of another name, of another length or with other settings than the experiment's have lines of their
    own; runs of another length have no line of differences.

    Args:
      number: Number of the table.
      results: Any results; runs of other experiments are left out.

    Raises:
      KeyError: If the paper has no such table.
    """
    tables = results.paper.tables
    if number not in tables:
        raise KeyError(f"The paper has no table {number}; it has {', '.join(map(str, tables))}.")
    lines: list[Line] = []
    others: set[str] = set()
    bfloat16: list[str] = []
    remarks: list[tuple[str, str]] = []
    for row in tables[number].rows:
        cells = results.cells(row.suite)
        series = paper_series(cells)
        groups = results.groups(titles(series))
        lines.append(_printed(row))
        if not any(group.conditions.faithful for group in groups):
            theirs = " and ".join(sorted({spec.dataset for spec in cells.values()}))
            lines.append(Line(("", f"measured on {theirs}" if theirs else "measured"), (_NOT_RUN,) * len(series)))
        names = line_names(group.conditions for group in groups)
        for group in groups:
            name = names[group.conditions]
            lines += _measured(row, series, group, f"measured on {name}")
            if group.conditions.bfloat16:
                bfloat16.append(f"{row.title} on {name}")
            remarks.append((row.suite, f"on {group.conditions.text}: {group.remarks(titles(series))}"))
            if not group.conditions.own:
                others.add(_about(group.conditions.label))
    caption = (
        f"Table {number}: {tables[number].title}. Measured: mean ± standard deviation over n seeds at the last epoch;"
        f" difference: measured less paper; best mean in bold. {in_bfloat16(bfloat16)}"
    ).strip()
    columns = tuple(each.title for each in paper_series({}))
    return Grid(caption, ("Model", ""), columns, tuple(lines), (*sorted(others), *merged(remarks)))


def _about(label: str) -> str:
    """A note about data that are not the paper's own files."""
    if label in COPIES:
        return f"{data_title(label)}, {label}, has the images in another order; no second copy was compared."
    return f"{label} is not the paper's data."


def has_runs(number: int, results: Results) -> bool:
    """Whether a cell of a table was run, or begun."""
    suites = {row.suite for row in results.paper.tables[number].rows}
    return any(results.groups(titles(paper_series(results.cells(suite)))) for suite in suites)


def _printed(row: PaperRow) -> Line:
    best = (max if METRICS[row.metric].higher_is_better else min)(row.values)
    return Line((row.title, "paper"), tuple(Cell((f"{value:.2f}",), value == best) for value in row.values))


def _measured(row: PaperRow, series: Sequence[Series], group: RunGroup, name: str) -> list[Line]:
    lines = [Line(("", name), _cells(series, group, row.metric, with_n=True))]
    if group.conditions.full:
        values = _values(series, group, row.metric)
        differences = [
            "-" if value is None else number_text(value.mean - row.value(each.method), 2, "+")
            for each, value in zip(series, values, strict=True)
        ]
        lines.append(Line(("", "difference"), tuple(Cell((text,)) for text in differences)))
    return lines


def _values(series: Sequence[Series], group: RunGroup, metric: str) -> list[Value | None]:
    return [final(group.finished_of(each.experiment), metric) for each in series]


def _cells(series: Sequence[Series], group: RunGroup, metric: str, *, with_n: bool) -> tuple[Cell, ...]:
    """The measured values of each method, the best of several in bold."""
    values = _values(series, group, metric)
    means = {place: value.mean for place, value in enumerate(values) if value is not None}
    choose = max if METRICS[metric].higher_is_better else min
    best = choose(means, key=means.__getitem__) if len(means) > 1 else None
    cells: list[Cell] = []
    for place, (each, value) in enumerate(zip(series, values, strict=True)):
        if value is None:
            cells.append(_without_value(group, each.experiment))
        else:
            n = (f"(n = {value.n})",) if with_n else ()
            cells.append(Cell((*value.parts(METRICS[metric].digits), *n), place == best))
    return tuple(cells)


def _without_value(group: RunGroup, experiment: str | None) -> Cell:
    if group.finished_of(experiment):
        return Cell(("diverged" if group.diverged(experiment) else "not recorded",))
    return Cell(("not finished",)) if experiment is not None and group.has_run(experiment) else _NOT_RUN
