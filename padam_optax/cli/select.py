"""Which experiments a command is about."""

from typing import Annotated

import typer

from padam_optax.experiments import figure as experiments_of_figure
from padam_optax.experiments import find
from padam_optax.experiments import table as experiments_of_table
from padam_optax.experiments.spec import Experiment

TableOption = Annotated[int | None, typer.Option(help="The experiments of this table of the paper.")]
FigureOption = Annotated[int | None, typer.Option(help="The experiments of this figure of the paper.")]


def selected(names: list[str], table: int | None, figure: int | None) -> list[Experiment]:
    """What was named, then the table's and the figure's experiments, each once."""
    chosen = [find(name) for name in names]
    chosen += experiments_of_table(table) if table is not None else []
    chosen += experiments_of_figure(figure) if figure is not None else []
    return list({spec.name: spec for spec in chosen}.values())
