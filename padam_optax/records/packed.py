"""Keeps many runs in one file, one line of JSON a run."""

import json
import pathlib
import re
import shutil
import warnings
from collections.abc import Sequence
from typing import Any

from padam_optax.paths import expanded
from padam_optax.records.checks import RecordError, RecordWarning
from padam_optax.records.files import StoreError, folder_in, json_object, read_run, to_json, write_whole, writing
from padam_optax.records.record import Record, from_json

_RUN = re.compile("seed-(0|[1-9][0-9]*)")
_MEMBERS = ("run", "config", "metrics")


def pack(folder: str | pathlib.Path, file: str | pathlib.Path) -> int:
    """Writes every run below a folder to one file, whole or not at all, without checkpoints and event files.

    Each line holds `run`, the run's folder below `folder`; `config`, the content of its `config.json`; and `metrics`,
    the lines of its `metrics.jsonl`. `unpack` writes the same files again, equal to the byte if this version of `padam
    run` wrote them; an infinity in an earlier version's becomes a text, as in strict JSON. Folders that are not runs
    are skipped, with a `RecordWarning`.

    Args:
      folder: Folder of the recorded runs.
      file: The file to write; its folder is made.

    Returns:
      The number of runs; if it is 0, nothing is written.

    Raises:
      RecordError: If a run is damaged or not whole JSON; nothing is written then.
      StoreError: If the file cannot be written; the earlier file is then intact.
    """
    folder, file = expanded(folder), expanded(file)
    lines: list[str] = []
    found, skipped = run_folders(folder)
    for path in found:
        config, metrics = read_run(path)
        from_json(config, metrics, str(path / "config.json"), str(path / "metrics.jsonl"))
        run = path.relative_to(folder).as_posix()
        lines.append(to_json({"run": run, "config": config, "metrics": metrics}))
    if skipped:
        warnings.warn(skipping(skipped), RecordWarning, stacklevel=2)
    if lines:
        with writing(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, "".join(lines))
    return len(lines)


def unpack(file: str | pathlib.Path, folder: str | pathlib.Path) -> int:
    """Writes the runs of a packed file as folders again, all of them or none.

    Args:
      file: A file that `pack` wrote.
      folder: The folder to write to; it may not hold a run of the file already.

    Returns:
      The number of runs.

    Raises:
      RecordError: If the file is damaged, or names a folder twice or one outside of `folder`; nothing is written then.
      FileExistsError: If the folder holds a run of the file already; nothing is written then.
      StoreError: If the runs cannot be written.
    """
    folder = expanded(folder)
    runs: dict[pathlib.Path, dict[str, Any]] = {}
    for where, row in _rows(file):
        from_json(row["config"], row["metrics"], where)
        path = _inside(folder, row["run"], where)
        if path in runs:
            raise RecordError(f"{where} names the folder {row['run']!r}, but an earlier line names it too.")
        runs[path] = row
    for path in runs:
        if path.exists():
            raise FileExistsError(f"{path} is there already; unpack to another folder.")
    made: list[pathlib.Path] = []
    try:
        for path, row in runs.items():
            with writing(path):
                path.mkdir(parents=True)
            made.append(path)
            write_whole(path / "metrics.jsonl", "".join(map(to_json, row["metrics"])))
            write_whole(path / "config.json", to_json(row["config"], indent=2))
    except StoreError:
        for path in made:
            shutil.rmtree(path)
        raise
    return len(runs)


def read(file: str | pathlib.Path) -> list[Record]:
    """The records of a packed file.

    Raises:
      RecordError: If a line is damaged; the message names the file, the line and the field.
    """
    return [from_json(row["config"], row["metrics"], where) for where, row in _rows(file)]


def _rows(file: str | pathlib.Path) -> list[tuple[str, dict[str, Any]]]:
    """Each line's place, for messages, and its content."""
    found: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(expanded(file).read_bytes().splitlines(), 1):
        where = f"{file}, line {number}"
        row = json_object(line, where, *_MEMBERS)
        if len(row) != 3 or not isinstance(row["run"], str) or not isinstance(row["metrics"], list):
            raise RecordError(f"{where} is not a packed run: {line[:80]!r}.")
        found.append((where, row))
    return found


def _inside(folder: pathlib.Path, run: str, where: str) -> pathlib.Path:
    """The run's folder, which must have a run's name and lie in `folder`, even if links are followed."""
    try:
        path = folder_in(folder, run)
        if _RUN.fullmatch(path.name) and path.resolve().is_relative_to(folder.resolve()):
            return path
    except ValueError:
        pass
    raise RecordError(
        f"{where} names the folder {run!r}; expected one within the folder to unpack to, such as"
        " cifar10-mini-padam/seed-0."
    )


def run_folders(folder: pathlib.Path) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """The folders of runs below a folder, and folders with similar names, such as a copy: `seed-0 (copy)`."""
    found = sorted(config.parent for config in folder.rglob("seed-*/config.json") if config.is_file())
    return [path for path in found if _RUN.fullmatch(path.name)], [
        path for path in found if not _RUN.fullmatch(path.name)
    ]


def is_packed(file: pathlib.Path) -> bool:
    """Whether `pack` wrote a file, which may be damaged; other programs write lines of JSON too."""
    with file.open("rb") as lines:
        first = lines.readline()
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(row, dict) and not row.keys().isdisjoint(_MEMBERS)


def skipping(paths: Sequence[pathlib.Path]) -> str:
    """The warning about paths that are not runs."""
    named = ", ".join(map(str, paths[:3]))
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    why = "they are not runs" if len(paths) > 1 else "it is not a run"
    return f"Skipped, because {why}: {named}{more}."
