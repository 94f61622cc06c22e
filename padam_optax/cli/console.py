"""What all commands share: consoles of both outputs, errors in one line, the progress bar, a record's line."""

import codecs
import contextlib
import functools
import io
import pathlib
import sys
import warnings
from collections.abc import Callable, Generator
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from padam_optax.data.images import DataError
from padam_optax.records.checks import printable
from padam_optax.records.files import write_whole
from padam_optax.report.summary import number_text

STDOUT = Console()
STDERR = Console(stderr=True)
# What is printed where the terminal's encoding lacks a character.
_INSTEAD = {"±": "+-", "≥": ">=", "…": "..."}


def fall_back() -> None:
    """Has both outputs print what their encoding can show, in place of an error at a character that it lacks."""
    codecs.register_error("padam_optax", _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="padam_optax")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_INSTEAD.get(each, "?") for each in error.object[error.start : error.end]), error.end


@contextlib.contextmanager
def errors_in_one_line() -> Generator[None]:
    """Turns errors that a user can mend into one message, and Ctrl-C into a word on how to go on; shows warnings."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
            yield
    except (DataError, OSError, ValueError) as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]))
    except KeyboardInterrupt:
        STDERR.print("Stopped at once. The same command goes on from the last checkpoint.")
        raise typer.Exit(130) from None


def _shown(message: str) -> str:
    """A message, which may quote a file or a server, without markup and without what a terminal would obey."""
    return escape(printable(message, keep="\n"))


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **options: Any
) -> None:
    """Shows our own warnings in one line, and those of libraries as Python does."""
    if category.__module__.startswith("padam_optax."):
        text = f"[bold yellow]Warning:[/bold yellow] {_shown(str(message))}"
        STDERR.print(text, emoji=False, highlight=False, soft_wrap=True)
    else:
        others(message, category, *where, **options)


def _fail(message: str) -> None:
    STDERR.print(
        f"[bold red]Error:[/bold red] {_shown(message)}",
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(2)


def progress_columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total} epochs"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )


def to_line(line: dict[str, Any]) -> str:
    """A line of a record in words; what it lacks is left out."""
    if "given_up" in line:
        return f"epoch {line['epoch']}: given up, others did better"
    if "diverged_step" in line:
        return f"epoch {line['epoch']}: the loss or a gradient is not finite at step {line['diverged_step']}: stopped"
    language = "test_perplexity" in line
    said = [
        f"{name} {number_text(scale * line[key], digits)}{unit}"
        for key, name, scale, digits, unit in (
            ("train_loss", "train loss", 1, 4, ""),
            ("valid_perplexity", "validation perplexity", 1, 2, ""),
            ("test_perplexity", "test" if "valid_perplexity" in line else "test perplexity", 1, 2, ""),
            ("test_error", "test error", 100, 2, " %"),
            ("examples_per_second", "", 1, 0, " tokens/s" if language else " images/s"),
        )
        if line.get(key) is not None and not (language and key == "test_error")
    ]
    return f"epoch {line['epoch']}: {', '.join(each.strip() for each in said)}"


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
