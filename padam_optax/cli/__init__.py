"""The command `padam`."""

from typing import Annotated

import typer

import padam_optax
from padam_optax.cli.console import OUT
from padam_optax.cli.fetching import fetch
from padam_optax.cli.listing import list_experiments
from padam_optax.cli.reporting import check, report
from padam_optax.cli.running import run, run_demo
from padam_optax.cli.sweeping import sweep

__all__ = ["app"]

app = typer.Typer(
    help="Padam: partially adaptive momentum estimation. Runs and reports the experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        OUT.print(f"padam_optax {padam_optax.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Padam: partially adaptive momentum estimation. Runs and reports the experiments."""


app.command("list")(list_experiments)
app.command()(run)
app.command()(sweep)
app.command("demo")(run_demo)
app.command()(report)
app.command()(check)
_data = typer.Typer(help="Data sets.", no_args_is_help=True)
_data.command()(fetch)
app.add_typer(_data, name="data")
