"""The paper's Table 1 from recorded runs: methods as columns, the best in bold."""

import dataclasses
import statistics
from collections.abc import Iterable, Sequence

from rich.table import Table

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS


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


def markdown(suite: Suite) -> str:
    """The table in Markdown, its caption above."""
    names = list(OPTIMIZERS.values())
    lines = [caption(suite), "", f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in _rows(suite):
        cells = [_cell(row, method, suite, "**{}**", " ± ") for method in OPTIMIZERS]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rich_table(suite: Suite) -> Table:
    """The table for a terminal of 80 columns or more."""
    table = Table(caption=caption(suite), padding=(0, 0), collapse_padding=True)
    table.add_column("")
    for name in OPTIMIZERS.values():
        table.add_column(name.replace("-", "-\n"), justify="right")
    for row in _rows(suite):
        cells = [_cell(row, method, suite, "[bold]{}[/bold]", "\n±") for method in OPTIMIZERS]
        table.add_row(row.title.replace(" ", "\n", 1), *cells)
    return table


def _cell(row: _Row, method: str, suite: Suite, bold: str, separator: str) -> str:
    if method not in suite.records:
        return "not run"
    value = row.values[method]
    if value is None:
        return "diverged"
    text = value.format(row.digits, separator)
    return bold.format(text) if method == row.best else text
