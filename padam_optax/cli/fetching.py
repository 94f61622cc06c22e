"""`padam data fetch`."""

import pathlib
from typing import Annotated

import typer

from padam_optax.cli.console import STDOUT
from padam_optax.data import download


def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or ptb.")],
    cache_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Folder to keep it in; by default $PADAM_DATA_DIR or the user's cache.")
    ] = None,
    deadline: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Stop the download after this time; the next call goes on from there."),
    ] = None,
) -> None:
    """Download a data set, check it, and unpack it where `padam run` finds it."""
    folder = download.fetch(name, cache_dir, deadline=deadline)
    STDOUT.print(f"{name}: {folder}", highlight=False, soft_wrap=True)
