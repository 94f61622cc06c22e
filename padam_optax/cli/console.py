"""What all commands share: consoles of both outputs, errors in one line, the progress bar, a record's line."""

import contextlib
import functools
import pathlib
import warnings
from collections.abc import Callable, Generator
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from padam_optax.data.images import DataError
from padam_optax.records.files import part_of

STDOUT = Console()
STDERR = Console(stderr=True)


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


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **options: Any
) -> None:
    """Shows our own warnings in one line, and those of libraries as Python does."""
    if category.__module__.startswith("padam_optax."):
        text = f"[bold yellow]Warning:[/bold yellow] {escape(str(message))}"
        STDERR.print(text, emoji=False, highlight=False, soft_wrap=True)
    else:
        others(message, category, *where, **options)


def _fail(message: str) -> None:
    STDERR.print(f"[bold red]Error:[/bold red] {escape(message)}", emoji=False, highlight=False, soft_wrap=True)
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
    if "given_up" in line:
        return f"epoch {line['epoch']}: given up, others did better"
    if "diverged_step" in line:
        return f"epoch {line['epoch']}: the loss or a gradient is not finite at step {line['diverged_step']}: stopped"
    if "test_perplexity" in line:
        unit = "tokens"
        found = f"validation perplexity {line['valid_perplexity']:.2f}, test {line['test_perplexity']:.2f}"
    else:
        unit, found = "images", f"test error {100 * line['test_error']:.2f} %"
    text = f"epoch {line['epoch']}: train loss {line['train_loss']:.4f}, {found}"
    speed = line["examples_per_second"]
    return text if speed is None else f"{text}, {speed:.0f} {unit}/s"


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_of(path) as part, part.open("x", encoding="utf-8") as file:
        file.write(text)
