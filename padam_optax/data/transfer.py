"""Receives one file from a server; keeps a part of it that the next try continues."""

import contextlib
import functools
import pathlib
import re
import threading
import time
from collections.abc import Callable, Generator
from typing import IO

from padam_optax.data.files import open_own
from padam_optax.data.images import DataError

# Seconds to connect, and between two pieces of an answer.
_TIMEOUT = (10.0, 60.0)
# A server that sends fewer bytes a second than this, over this many seconds, is given up: it could take days.
_LEAST_RATE = 1_000
_WINDOW_SECONDS = 60.0
# Small, so that the progress of a slow answer shows.
_CHUNK = 1 << 13
_LONGEST_REASON = 200


class DeadlineError(Exception):
    """The user's deadline has passed."""


def receive(url: str, part: pathlib.Path, size: int, *, progress: bool, until: float | None) -> None:
    """Downloads `url` into the file `part`, and continues after the bytes that `part` already holds.

    Args:
      url: The address.
      part: The file, which may hold the beginning.
      size: Bytes of the whole file.
      progress: Whether to show a progress bar on standard error.
      until: When to stop, by `time.monotonic()`; None for never.

    Raises:
      requests.RequestException: If another try may help: no connection, a cut answer, a server that is too slow.
      DataError: If another try cannot help: the server has another file or none, or its answer makes no sense.
      DeadlineError: If the deadline has passed.
      OSError: If the part cannot be written.
    """
    import requests

    have = part.lstat().st_size if part.exists() else 0
    if have != size:
        try:
            with _progress_bar(part.stem, size, progress) as show:
                _watched(functools.partial(_receive, url, part, have, size, show), until)
        except _NotTheFileError as error:
            part.unlink(missing_ok=True)
            raise DataError(f"{url} {error}, expected {size:,} bytes: it is not the expected file.") from error
        except (requests.RequestException, DataError, DeadlineError, OSError):
            raise
        # On malformed headers the libraries raise many kinds of errors, ValueError and UnicodeError among them.
        except Exception as error:
            raise DataError(
                f"The answer of {url} cannot be understood: {printable(f'{type(error).__name__}: {error}')}."
            ) from error
        have = part.lstat().st_size
    if have < size:
        raise requests.ConnectionError(f"the answer ended after {have:,} of {size:,} bytes")


class _NotTheFileError(Exception):
    """The server does not hold the expected file."""


class _Watch:
    """The state that the receiving thread shares with the watching one."""

    def __init__(self) -> None:
        self.received = 0
        self._lock = threading.Lock()
        self._stopped = False

    def write(self, file: IO[bytes], chunk: bytes) -> bool:
        """Writes a received chunk and returns True, or returns False if the download was given up."""
        with self._lock:
            if self._stopped:
                return False
            file.write(chunk)
            # Flushed, so that closing the file writes nothing: another try may have begun by then.
            file.flush()
            self.received += len(chunk)
            return True

    def stop(self) -> None:
        with self._lock:
            self._stopped = True


def _watched(work: Callable[[_Watch], None], until: float | None) -> None:
    """Runs `work` in a thread and gives it up when it is too slow or the deadline has passed.

    Only a thread bounds all the waits: for names, connections, and headers byte by byte. A thread that is given up ends
    with the next bytes that it receives, or with the process.
    """
    import requests

    watch = _Watch()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work(watch)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    before, window_end = 0, time.monotonic() + _WINDOW_SECONDS
    try:
        while thread.is_alive():
            now = time.monotonic()
            if until is not None and now >= until:
                raise DeadlineError
            if now >= window_end:
                if watch.received - before < _LEAST_RATE * _WINDOW_SECONDS:
                    raise requests.Timeout(
                        f"the server sent fewer than {_LEAST_RATE:,} bytes a second for {_WINDOW_SECONDS:g} seconds"
                    )
                before, window_end = watch.received, now + _WINDOW_SECONDS
            thread.join(min(window_end, window_end if until is None else until) - now)
    finally:
        watch.stop()
    if failures:
        raise failures[0]


def _receive(url: str, part: pathlib.Path, have: int, size: int, show: Callable[[int], None], watch: _Watch) -> None:
    """Appends the server's bytes to the `have` bytes in `part`, or starts over if the server has no ranges."""
    import requests

    # Identity: with a content encoding the bytes sent would not be those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code in (403, 404, 410):
            answer = printable(f"{response.status_code} {response.reason}")
            raise DataError(f"{url} does not exist: the server answers {answer}.")
        answered = response.headers.get("Content-Range", "")
        if response.status_code == 416 or (response.status_code == 206 and not answered.startswith(f"bytes {have}-")):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError(f"the server answers {answered!r} to a request for the bytes from {have:,}")
        response.raise_for_status()
        start = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length", "")
        if re.fullmatch("[0-9]{1,18}", length) and start + int(length) != size:
            raise _NotTheFileError(f"has {start + int(length):,} bytes")
        with open_own(part) as file:
            file.truncate(start)
            file.seek(start)
            show(start)
            for chunk in response.iter_content(_CHUNK):
                if not watch.write(file, chunk):
                    return
                show(file.tell())
                if file.tell() > size:
                    raise _NotTheFileError("sends more")


def printable(text: str) -> str:
    """A server's words in one line, without control characters, and cut if they are long."""
    text = "".join(sign if sign.isprintable() else "?" for sign in text[: _LONGEST_REASON + 1])
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."


@contextlib.contextmanager
def _progress_bar(name: str, size: int, shown: bool) -> Generator[Callable[[int], None]]:
    """Yields a function that shows the number of bytes received."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(name, total=size)
        yield lambda have: bar.update(task, completed=have)
