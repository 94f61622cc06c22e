"""The command `padam`."""

import functools
import importlib
import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

import padam_optax
from padam_optax.cli.console import STDOUT, errors_in_one_line
from padam_optax.cli.demo import run_demo
from padam_optax.cli.fetching import fetch
from padam_optax.cli.listing import list_experiments
from padam_optax.cli.packing import pack, unpack
from padam_optax.cli.reporting import check, report
from padam_optax.cli.running import run
from padam_optax.cli.sweeping import sweep
from padam_optax.paths import expanded

__all__ = ["app"]

app = typer.Typer(
    help="Padam: partially adaptive momentum estimation. Runs and reports the experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        STDOUT.print(f"padam_optax {padam_optax.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    import_: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module of yours first, from this folder or where Python finds it. It can register"
            " optimizers, models, data sets and experiments. May be given several times.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Padam: partially adaptive momentum estimation. Runs and reports the experiments."""
    with errors_in_one_line():
        for name in import_ or ():
            _import(name)
    # The processes of --jobs import them too.
    context.obj = import_


def _import(name: str) -> None:
    """Imports a module of the user's, also from the current folder, as `python -m` does."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"--import: there is no module {name!r} in this folder or where Python looks.") from error


def _add(to: typer.Typer, function: Callable[..., Any], name: str | None = None) -> None:
    """Adds a command with its docstring as help, one line a paragraph: Typer would keep the source's line breaks."""
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    to.command(name, help="\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs))(_guarded(function))


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command with errors in one line, and with `~` in all given paths replaced by the home folder."""

    @functools.wraps(function)
    def call(**arguments: Any) -> None:
        with errors_in_one_line():
            function(**{name: _expanded(value) for name, value in arguments.items()})

    return call


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return expanded(value) if isinstance(value, pathlib.Path) else value


_add(app, list_experiments, "list")
_add(app, run)
_add(app, sweep)
_add(app, run_demo, "demo")
_add(app, report)
_add(app, check)
_add(app, pack)
_add(app, unpack)
_data = typer.Typer(help="Data sets.", no_args_is_help=True)
_add(_data, fetch)
app.add_typer(_data, name="data")
