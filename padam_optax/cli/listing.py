"""`padam list`."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from padam_optax.cli.console import STDOUT
from padam_optax.cli.select import FigureOption, TableOption, selected
from padam_optax.experiments import EXPERIMENTS
from padam_optax.experiments.spec import Experiment
from padam_optax.report.naming import p_text


def list_experiments(
    table: TableOption = None,
    figure: FigureOption = None,
    dataset: Annotated[str | None, typer.Option(help="Only experiments on this data set, such as cifar10.")] = None,
    model: Annotated[str | None, typer.Option(help="Only experiments with this network, such as resnet18.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Only experiments with this optimizer, such as padam.")] = None,
) -> None:
    """List the experiments by suite: all of them, or those that match all given options.

    A suite is a set of experiments that differ only in their method, such as one row of a table.
    """
    specs = selected([], table, figure) or list(EXPERIMENTS.values())
    for field, wanted in (("dataset", dataset), ("model", model), ("optimizer", optimizer)):
        specs = specs if wanted is None else _with(specs, field, wanted)
    rows = Table(
        Column("Name", no_wrap=True, min_width=max(len(spec.name) for spec in specs)),
        "Epochs",
        "Rate",
        "p",
        "Paper",
        # Names are long: with one space between the columns, 80 characters are enough.
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    suites: dict[str, list[Experiment]] = {}
    for spec in specs:
        suites.setdefault(spec.suite, []).append(spec)
    for number, (suite, members) in enumerate(suites.items()):
        if number:
            rows.add_row()
        rows.add_row(Text(f"{suite}:", "bold"))
        for spec in members:
            settings = spec.hyperparameters
            p = p_text(settings["p"]).removeprefix("p = ") if "p" in settings else ""
            paper = ", ".join(f"{result.value:.2f}" for result in spec.paper)
            rows.add_row(escape(spec.name), str(spec.epochs), f"{settings['learning_rate']:g}", p, paper)
    STDOUT.print(rows)


def _with(specs: Sequence[Experiment], field: str, wanted: str) -> list[Experiment]:
    known = list(dict.fromkeys(getattr(spec, field) for spec in specs))
    if wanted not in known:
        left = " with the other options" if len(specs) < len(EXPERIMENTS) else ""
        raise ValueError(f"--{field} must be one of {', '.join(known)}{left}, got {wanted!r}.")
    return [spec for spec in specs if getattr(spec, field) == wanted]
