"""Reads the files of records, and writes them so that a crash or a full disk leaves the earlier content intact."""

import contextlib
import json
import os
import pathlib
import secrets
from collections.abc import Generator
from typing import Any

from padam_optax.records.checks import RecordError, printable, strict


class StoreError(OSError):
    """A record cannot be written, such as on a full disk; the message says what is intact."""


def folder_in(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The folder called `name` below `folder`; the name may have several parts: `a/b`.

    Raises:
      ValueError: If the name leads elsewhere, or no folder can have it.
    """
    parts = name.split("/")
    # Parts that are not names lead elsewhere too: on Windows "C:", or a part with a backslash.
    if not all(part not in ("", "..") and part == pathlib.Path(part).name == printable(part) for part in parts):
        raise ValueError(f"{name!r} is not the name of a folder within another.")
    return folder.joinpath(*parts)


def to_json(value: Any, indent: int | None = None) -> str:
    """Strict JSON, without infinities (see `checks.strict`), and a line break."""
    return json.dumps(strict(value), indent=indent, allow_nan=False) + "\n"


def read_run(path: pathlib.Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Reads `config.json` and the lines of `metrics.jsonl`; a last line that a crash cut short is left out.

    Args:
      path: A run's folder; without `metrics.jsonl` there are no lines.

    Raises:
      RecordError: If a file is damaged; the message names it and the line.
    """
    config, metrics = path / "config.json", path / "metrics.jsonl"
    lines = metrics.read_bytes().split(b"\n")[:-1] if metrics.is_file() else []
    rows = [json_object(line, f"{metrics}, line {number},", "epoch") for number, line in enumerate(lines, 1)]
    return json_object(config.read_bytes(), str(config), "experiment"), rows


def json_object(text: bytes, where: str, *names: str) -> dict[str, Any]:
    """Reads a JSON object that has all of `names`.

    Raises:
      RecordError: If the text is not one; the message names `where` the text is.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is damaged: not JSON: {text[:80]!r}.") from error
    if not isinstance(value, dict) or not all(name in value for name in names):
        expected = ", ".join(map(repr, names))
        raise RecordError(f"{where} is damaged: expected a JSON object with {expected}, got {text[:80]!r}.")
    return value


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file, whole or not at all; on return it is on disk.

    Raises:
      StoreError: If it cannot be written; the earlier file is then intact.
    """
    with writing(path), part_of(path) as part:
        _write_out(part, "x", text)


@contextlib.contextmanager
def part_of(path: pathlib.Path) -> Generator[pathlib.Path]:
    """Yields the name of a new file beside `path`. Once written, it replaces `path`; on an error, it is removed.

    Nobody can foresee the name and put a link there. Open it with mode "x", which follows no link.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def append(path: pathlib.Path, text: str) -> None:
    """Adds to a file; on return the addition is on disk.

    Raises:
      StoreError: If it cannot be written; the earlier content is then intact.
    """
    with writing(path):
        _write_out(path, "a", text)


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Generator[None]:
    """Turns an error of the disk into a `StoreError` that names the file or folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror}. What was written before is intact: mend this, then run"
            " the same command to go on from there."
        ) from error


def _write_out(path: pathlib.Path, mode: str, text: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
