"""`padam demo`: the optimizers on a small task."""

import enum
import pathlib
from typing import Annotated

import typer

from padam_optax.cli.console import STDOUT
from padam_optax.cli.select import CacheOption
from padam_optax.cli.training import run_all
from padam_optax.experiments import digits, pydoc
from padam_optax.report import figures, tables
from padam_optax.report.results import PAPER, Results
from padam_optax.runner.search_space import MOST_SEEDS


class DemoTask(enum.Enum):
    """The choices of `padam demo --task`."""

    IMAGES = "images"
    LANGUAGE = "language"
    TRANSFORMER = "transformer"


def run_demo(
    task: Annotated[
        DemoTask,
        typer.Option(
            help="images: a CNN on scikit-learn's digits; language: an LSTM on the help texts of this Python;"
            " transformer: a transformer on them."
        ),
    ] = DemoTask.IMAGES,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records and the picture.")] = pathlib.Path("demo"),
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_SEEDS, help="Runs of each optimizer, by default 5 (language: 3, transformer: 2)."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train, by default 40 (language: 8, transformer: 4).")
    ] = None,
    cache_dir: CacheOption = None,
) -> None:
    """Compare the optimizers on a small task: a table and a picture, in a few minutes on a CPU.

    The demo downloads nothing. It does not repeat runs that are recorded under OUT already.
    """
    chosen = {
        DemoTask.IMAGES: digits.MINI,
        DemoTask.LANGUAGE: pydoc.LSTM,
        DemoTask.TRANSFORMER: pydoc.TRANSFORMER,
    }[task]
    specs = [spec if epochs is None else spec.with_epochs(epochs) for spec in chosen]
    from padam_optax.runner.compiled import keep_programs
    from padam_optax.runner.datasets import load_data
    from padam_optax.runner.queue import Budget

    runs = [(spec, number) for spec in specs for number in (range(seeds) if seeds else spec.seeds)]
    budget = Budget()
    keep_programs(cache_dir)
    outcome = run_all(runs, lambda spec: load_data(spec, None, ""), out, budget, resume=True, checkpoint_every=0)
    if outcome.left:
        STDOUT.print(f"Stopped by {budget.reason}. The same command does what is left.", highlight=False)
        raise typer.Exit(130 if budget.interrupted else 0)
    (suite,) = tables.suites(Results(PAPER, outcome.records))
    STDOUT.print(tables.suite_grid(suite).rich_table())
    picture = figures.training_curves(suite, out / f"{suite.name}.png")
    STDOUT.print(
        f"The curves: {picture}",
        emoji=False,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    STDOUT.print(
        "This is a demonstration: such short training on such a small data set shows how far each method has come, not"
        " how well it generalises.",
        highlight=False,
    )
