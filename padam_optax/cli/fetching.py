"""`padam data fetch`."""

import pathlib
from typing import Annotated

import typer

from padam_optax.cli.console import OUT, clear_errors


def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or ptb.")],
    cache_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Where to keep it; by default the user's cache, or $PADAM_DATA_DIR.")
    ] = None,
) -> None:
    """Download a data set, check it, and unpack it where `padam run` finds it."""
    with clear_errors():
        from padam_optax.runner.datasets import fetch as fetch_data

        OUT.print(f"{name}: {fetch_data(name, cache_dir)}", highlight=False, soft_wrap=True)
