"""Options that choose experiments, and the experiments that they choose."""

import fnmatch
import pathlib
from typing import Annotated

import typer

from padam_optax.experiments import EXPERIMENTS, find
from padam_optax.experiments import figure as experiments_of_figure
from padam_optax.experiments import table as experiments_of_table
from padam_optax.experiments.spec import Experiment

TableOption = Annotated[int | None, typer.Option(help="The experiments of this table of the paper.")]
FigureOption = Annotated[int | None, typer.Option(help="The experiments of this figure of the paper.")]

CacheOption = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="Folder for compiled programs, so that the next run of a kind starts in seconds; by default"
        " $JAX_COMPILATION_CACHE_DIR, or a folder in the user's cache."
    ),
]


def selected(names: list[str], table: int | None, figure: int | None) -> list[Experiment]:
    """The experiments of names and patterns such as `cifar10-vgg16-*`, of the table and of the figure, each once."""
    chosen = [spec for name in names for spec in _named(name)]
    chosen += experiments_of_table(table) if table is not None else []
    chosen += experiments_of_figure(figure) if figure is not None else []
    return list({spec.name: spec for spec in chosen}.values())


def _named(name: str) -> list[Experiment]:
    if "*" not in name and "?" not in name:
        return [find(name)]
    found = [EXPERIMENTS[each] for each in EXPERIMENTS if fnmatch.fnmatchcase(each, name)]
    if not found:
        raise KeyError(f"No experiment matches {name!r}; `padam list` shows all.")
    return found
