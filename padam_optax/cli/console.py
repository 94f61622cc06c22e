"""What all commands share: the consoles of both outputs, errors in one line, a record's line in words."""

import codecs
import contextlib
import errno
import functools
import io
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Generator
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from padam_optax.data.images import DataError
from padam_optax.paths import expanded
from padam_optax.records.checks import printable
from padam_optax.records.files import write_whole
from padam_optax.report.summary import number_text

# The exit code that a shell reports for a process that SIGPIPE ended, because nobody read its output.
CLOSED_PIPE = 128 + 13


class OutputError(OSError):
    """Standard output cannot be written, such as on a full disk, or if nobody reads it any more."""


class Output(Console):
    """A console that stops writing after its first failure.

    Attributes:
      failure: The error of that failure, or None.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr)
        self.failure: OSError | None = None

    def __exit__(self, *error: Any) -> None:
        """Writes what was printed. All printing passes here."""
        try:
            super().__exit__(*error)
        except OSError as caught:
            self._fail(caught)

    def on_broken_pipe(self) -> None:
        """Handles a broken pipe as any other failure; Rich would exit at once."""
        self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _fail(self, error: OSError) -> None:
        self.failure, self.quiet = error, True
        # Otherwise Python writes the rest at its exit, and fails again.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        if not self.stderr:
            raise OutputError(error.errno, error.strerror)


STDOUT = Output()
# If it fails, a run goes on until it has a checkpoint.
STDERR = Output(stderr=True)
# Replacements of characters that the terminal's encoding lacks.
_INSTEAD = {"±": "+-", "≥": ">=", "…": "..."}


def fall_back() -> None:
    """Makes both outputs replace characters that their encoding lacks, instead of raising an error."""
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
    """Turns errors that a user can mend, and Ctrl-C, into one message; shows warnings.

    If nobody reads its output, a command ends silently with the code that a shell gives for this.
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


def _shown(message: str) -> str:
    """A message without markup and without control characters; it may quote a file or a server."""
    return escape(printable(message, keep="\n"))


def _show_warning(
    others: Callable[..., None], message: Warning | str, category: type[Warning], *where: Any, **options: Any
) -> None:
    """Shows this package's warnings in one line, and those of libraries as Python does."""
    if category.__module__.startswith("padam_optax."):
        text = f"[bold yellow]Warning:[/bold yellow] {_shown(str(message))}"
        STDERR.print(text, emoji=False, highlight=False, soft_wrap=True)
    elif not _is_mended(str(message)):
        others(message, category, *where, **options)


def _is_mended(warning: str) -> bool:
    from padam_optax.runner.compiled import forget_damaged

    return forget_damaged(warning)


def _fail(message: str) -> None:
    STDERR.print(
        f"[bold red]Error:[/bold red] {_shown(message)}",
        emoji=False,
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(2)


# Whether Ctrl-C ended a command while JAX was computing.
_at_once = False


def stop_at_once(rest: str) -> NoReturn:
    """Ends a command at once for an interrupt; `rest` says how to go on."""
    global _at_once
    _at_once = True
    STDERR.print(f"Stopped at once. {rest}".strip(), highlight=False, soft_wrap=True)
    raise typer.Exit(130)


def end_at_once() -> None:
    """Ends the process if `stop_at_once` was called: Python's own exit may crash while JAX still computes."""
    if _at_once:
        os._exit(130)


def existing(text: str) -> pathlib.Path:
    """The file or folder of this name (`~` is the home folder); a usage error if there is none."""
    try:
        path = expanded(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if not path.exists():
        raise typer.BadParameter(f"Path {text!r} does not exist.")
    return path


def existing_folder(text: str) -> pathlib.Path:
    """Like `existing`, for a folder only."""
    path = existing(text)
    if not path.is_dir():
        raise typer.BadParameter(f"Directory {text!r} is a file.")
    return path


def existing_file(text: str) -> pathlib.Path:
    """Like `existing`, for a file only."""
    path = existing(text)
    if path.is_dir():
        raise typer.BadParameter(f"File {text!r} is a directory.")
    return path


def to_line(line: dict[str, Any]) -> str:
    """A line of a record in words, without the fields that it lacks."""
    if "given_up" in line:
        return f"epoch {line['epoch']}: given up, because others did better"
    if "diverged_step" in line:
        return f"epoch {line['epoch']}: the loss or a gradient is not finite at step {line['diverged_step']}: stopped"
    language = "test_perplexity" in line
    said = [
        f"{name} {number_text(scale * line[key], digits)}{unit}"
        for key, name, scale, digits, unit in (
            ("train_loss", "train loss", 1, 4, ""),
            ("valid_perplexity", "validation perplexity", 1, 2, ""),
            ("test_perplexity", "test" if "valid_perplexity" in line else "test perplexity", 1, 2, ""),
            ("final_test_perplexity", "final test", 1, 2, ""),
            ("test_error", "test error", 100, 2, " %"),
            ("examples_per_second", "", 1, 0, " tokens/s" if language else " images/s"),
        )
        if line.get(key) is not None and not (language and key == "test_error")
    ]
    return f"epoch {line['epoch']}: {', '.join(each.strip() for each in said)}"


def write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
