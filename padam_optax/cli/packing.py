"""`padam pack` and `padam unpack`: recorded runs as one file, and back."""

import pathlib
from typing import Annotated

import typer

from padam_optax.cli.console import STDOUT, existing_file, existing_folder
from padam_optax.records import packed


def pack(
    runs: Annotated[
        pathlib.Path, typer.Argument(metavar="RUNS", help="Folder of recorded runs.", parser=existing_folder)
    ],
    out: Annotated[pathlib.Path, typer.Option(help="The file to write, such as records/my-suite.jsonl.")],
) -> None:
    """Write all runs recorded below a folder to one file, one line of JSON a run, without their checkpoints.

    `padam report` and `padam check` read such a file as they read a folder; `padam unpack` makes folders of it again.
    """
    count = packed.pack(runs, out)
    if not count:
        raise ValueError(f"{runs} holds no recorded runs (config.json, metrics.jsonl).")
    STDOUT.print(f"Written: {out}, {count} runs", highlight=False, markup=False, soft_wrap=True)


def unpack(
    file: Annotated[pathlib.Path, typer.Argument(metavar="FILE", help="A file of `padam pack`.", parser=existing_file)],
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the runs.")],
) -> None:
    """Write the runs of a packed file as folders, as `padam run` leaves them."""
    count = packed.unpack(file, out)
    STDOUT.print(f"Written: {out}, {count} runs", highlight=False, markup=False, soft_wrap=True)
