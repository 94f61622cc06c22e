"""The paper's tables beside what was recorded."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS, PaperRow, PaperTable
from padam_optax.report.tables import Value, final

NOT_RUN = "not run"


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was recorded for one row of a table on one data set.

    Attributes:
      label: Name of the data.
      device: Kinds of the devices.
      values: By optimizer; None where every run diverged; only optimizers with a finished run.
      left_out: Runs in no value: not finished, of another length, or diverged.
    """

    label: str
    device: str
    values: dict[str, Value | None]
    left_out: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A row of a table and what was recorded for it, one entry a data set."""

    row: PaperRow
    measured: tuple[Measured, ...]


def compare(table: PaperTable, records: Iterable[Record]) -> list[Comparison]:
    """The rows of `table` with the runs of their suites, of the paper's length only."""
    found = list(records)
    return [Comparison(row, tuple(_measure(table, row, found))) for row in table.rows]


def _measure(table: PaperTable, row: PaperRow, records: Sequence[Record]) -> Iterable[Measured]:
    by_label: dict[str, list[Record]] = {}
    for record in records:
        spec = record.config["experiment"]
        if spec["name"] == f"{row.suite}-{spec['optimizer']}" and spec.get("held_out") is None:
            by_label.setdefault(record.config["data"]["label"], []).append(record)
    for label, members in sorted(by_label.items()):
        whole = [
            record for record in members if record.finished and record.config["experiment"]["epochs"] == table.epochs
        ]
        by_method = {
            method: runs
            for method in OPTIMIZERS
            if (runs := [run for run in whole if run.config["experiment"]["optimizer"] == method])
        }
        devices = ", ".join(sorted({record.config["device"]["kind"] for record in members}))
        left_out = len(members) - sum(not record.diverged for record in whole)
        yield Measured(label, devices, {method: _value(row, runs) for method, runs in by_method.items()}, left_out)


def _value(row: PaperRow, records: Sequence[Record]) -> Value | None:
    if row.metric == "test_perplexity":
        return final(records, row.metric)
    return final(records, row.metric, -100.0, 100.0)


def lines(comparison: Comparison) -> list[list[str]]:
    """The row's lines: the paper's numbers, and for each data set what was measured and the difference."""
    row = comparison.row
    result = [["paper", *(f"{value:.2f}" for value in row.values)]]
    if not comparison.measured:
        result.append(["measured", *(NOT_RUN for _ in OPTIMIZERS)])
    for measured in comparison.measured:
        cells, differences = [], []
        for method in OPTIMIZERS:
            value = measured.values.get(method)
            if value is None:
                cells.append("diverged" if method in measured.values else NOT_RUN)
                differences.append("")
            else:
                cells.append(f"{value.format(2)} (n = {value.n})")
                differences.append(f"{value.mean - row.value(method):+.2f}")
        note = f"; {measured.left_out} left out" if measured.left_out else ""
        result.append([f"measured on {measured.label}, {measured.device}{note}", *cells])
        result.append(["difference", *differences])
    return result


def markdown(number: int, table: PaperTable, comparisons: Sequence[Comparison]) -> str:
    """The table in Markdown: under each row's numbers what was measured, and the difference."""
    head = ["", "", *OPTIMIZERS.values()]
    text = [f"Table {number}: {table.title}. Mean ± standard deviation; left out: not finished, of another length,"]
    text[0] += " or diverged."
    text += ["", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for comparison in comparisons:
        for index, line in enumerate(lines(comparison)):
            text.append(f"| {comparison.row.title if index == 0 else ''} | {' | '.join(line)} |")
    return "\n".join(text) + "\n"


def rich_table(number: int, table: PaperTable, comparisons: Sequence[Comparison]) -> Table:
    """The same for a terminal."""
    shown = Table("", "", title=f"Table {number}: {table.title}", padding=(0, 0), collapse_padding=True)
    for name in OPTIMIZERS.values():
        shown.add_column(name.replace("-", "-\n"), justify="right")
    for comparison in comparisons:
        rows = lines(comparison)
        for index, (what, *cells) in enumerate(rows):
            cells = [cell.replace(" ± ", "\n±").replace(" (", "\n(") for cell in cells]
            title = comparison.row.title.replace(", ", ",\n") if index == 0 else ""
            shown.add_row(title, what, *cells, end_section=index == len(rows) - 1)
    return shown


@dataclasses.dataclass(frozen=True)
class TimeToTarget:
    """When the runs of a method reached a target.

    Attributes:
      method: A key of `OPTIMIZERS`.
      reached: How many runs did.
      n: How many runs there are.
      epochs: Mean over those that did, of the first epoch that did; None if none did.
      seconds: Mean time until then.
      trials: Runs that its settings were chosen with, as far as records of them are among those given.
    """

    method: str
    reached: int
    n: int
    epochs: float | None
    seconds: float | None
    trials: int


def time_to_target(
    suite_records: Mapping[str, Sequence[Record]], suite: str, metric: str, target: float, records: Iterable[Record]
) -> list[TimeToTarget]:
    """For each method of a suite, when `metric` first was at most `target`.

    Args:
      suite_records: Finished runs by optimizer.
      suite: The suite's name; trials are records of experiments called `<suite>-<optimizer>@...`.
      metric: Name of a metric that falls, such as `test_error` or `train_loss`.
      target: What it has to reach.
      records: All records, for counting trials.

    Raises:
      ValueError: If the runs have no such metric; the message names those they have.
    """
    everything = list(records)
    result = []
    for method, runs in suite_records.items():
        firsts = [first for run in runs if (first := _first(run, metric, target)) is not None]
        trials = sum(run.config["experiment"]["name"].startswith(f"{suite}-{method}@") for run in everything)
        epochs, seconds = (
            (sum(values) / len(values) for values in zip(*firsts, strict=True)) if firsts else (None, None)
        )
        result.append(TimeToTarget(method, len(firsts), len(runs), epochs, seconds, trials))
    return result


def _first(record: Record, metric: str, target: float) -> tuple[int, float] | None:
    seconds = 0.0
    for line in record.metrics:
        if "diverged_step" in line:
            return None
        if metric not in line:
            raise ValueError(f"The runs have no metric {metric!r}; they have {', '.join(line)}.")
        seconds += line["seconds"]
        if line[metric] <= target:
            return line["epoch"], seconds
    return None
