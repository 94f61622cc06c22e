"""`padam list`."""

from rich import box
from rich.table import Column, Table

from padam_optax.cli.console import STDOUT
from padam_optax.cli.select import FigureOption, TableOption, selected
from padam_optax.experiments import EXPERIMENTS


def list_experiments(
    table: TableOption = None,
    figure: FigureOption = None,
) -> None:
    """List the experiments, or those of one of the paper's tables or figures."""
    specs = selected([], table, figure) or list(EXPERIMENTS.values())
    rows = Table(
        Column("Name", no_wrap=True, min_width=max(len(spec.name) for spec in specs)),
        "Epochs",
        "Rate",
        "p",
        "Paper",
        # Names are long: no lines between the columns, so that 80 are enough.
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for spec in specs:
        settings = spec.hyperparameters
        p = f"{settings['p']:g}" if "p" in settings else ""
        paper = ", ".join(f"{result.value:.2f}" for result in spec.paper)
        rows.add_row(spec.name, str(spec.epochs), f"{settings['learning_rate']:g}", p, paper)
    STDOUT.print(rows)
