"""What all commands share: consoles of both outputs, errors in one line, the progress bar, a record's line."""

import contextlib
import errno
import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from padam_optax.data.images import DataError

# As a shell reports a process that ended for want of a reader of its output.
CLOSED_PIPE = 128 + 13


class OutputError(OSError):
    """Standard output cannot be written, as on a full disk, or where nobody reads it any more."""


class Output(Console):
    """A console that nothing is written to any more once that has failed.

    Attributes:
      failure: Why it failed, or None.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr)
        self.failure: OSError | None = None

    def __exit__(self, *error: Any) -> None:
        """Writes what was printed; everything that prints comes by here."""
        try:
            super().__exit__(*error)
        except OSError as caught:
            self._fail(caught)

    def on_broken_pipe(self) -> None:
        """Takes it as any other failure, in place of an exit on the spot."""
        self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _fail(self, error: OSError) -> None:
        self.failure, self.quiet = error, True
        # Else Python writes at its end what is left, and fails again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        if not self.stderr:
            raise OutputError(error.errno, error.strerror)


STDOUT = Output()
# Where it fails, a run goes on until it has a checkpoint.
STDERR = Output(stderr=True)


@contextlib.contextmanager
def errors_in_one_line() -> Generator[None]:
    """Turns errors that a user can mend, and Ctrl-C, into one message; shows warnings.

    Output that nobody reads ends a command with the code that a shell gives for it, and without a word.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = functools.partial(_show_warning, warnings.showwarning)
            yield
        if STDERR.failure is not None:
            raise OutputError(STDERR.failure.errno, STDERR.failure.strerror)
    except OutputError as error:
        if error.errno == errno.EPIPE:
            raise typer.Exit(CLOSED_PIPE) from None
        _fail(f"Standard output or error cannot be written: {error.strerror}.")
    except (DataError, OSError, ValueError) as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]))
    except KeyboardInterrupt:
        stop_at_once("")


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **options: Any
) -> None:
    """Shows our own warnings in one line, and those of libraries as Python does."""
    if category.__module__.startswith("padam_optax."):
        text = f"[bold yellow]Warning:[/bold yellow] {escape(str(message))}"
        STDERR.print(text, emoji=False, highlight=False, soft_wrap=True)
    elif not _is_mended(str(message)):
        others(message, category, *where, **options)


def _is_mended(warning: str) -> bool:
    from padam_optax.runner.compiled import forget_damaged

    return forget_damaged(warning)


def _fail(message: str) -> None:
    STDERR.print(f"[bold red]Error:[/bold red] {escape(message)}", emoji=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)


# Whether Ctrl-C came and was not waited for.
_at_once = False


def stop_at_once(rest: str) -> NoReturn:
    """Ends a command for an interrupt that does not wait; `rest` says how to go on."""
    global _at_once
    _at_once = True
    STDERR.print(f"Stopped at once. {rest}".strip(), highlight=False, soft_wrap=True)
    raise typer.Exit(130)


def end_at_once() -> None:
    """Ends the process if `stop_at_once` was called: where JAX still computes, Python's own end may crash."""
    if _at_once:
        os._exit(130)


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
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
