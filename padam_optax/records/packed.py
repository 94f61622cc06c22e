"""Many runs in one file, to keep: a line of JSON a run, as it was recorded."""

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
    """Writes every run below a folder to one file, whole or not at all; checkpoints and event files stay behind.

    Each line holds `run`, the run's folder below `folder`, `config`, what its `config.json` holds, and `metrics`, the
    lines of its `metrics.jsonl`, so that `unpack` gives the same files, to the byte where this version of `padam run`
    wrote them; an infinity of an earlier one becomes a text, as in strict JSON. What is no run is skipped, with a
    `RecordWarning`.

    Args:
      folder: Where the recorded runs lie.
      file: What to write; its folder is made.

    Returns:
      The number of runs; without any, nothing is written.

    Raises:
      RecordError: If a run is damaged or not whole JSON; nothing is written then.
      StoreError: If the file cannot be written; the one that was there before is then intact.
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
    """Writes the runs of a packed file as the folders that they were, all of them or none.

    Args:
      file: As `pack` wrote it.
      folder: Where to; no run of the file may lie there already.

    Returns:
      The number of runs.

    Raises:
      RecordError: If the file is damaged, or names a folder twice or one outside of `folder`; nothing is written then.
      FileExistsError: If a run lies there already; nothing is written then.
      StoreError: If they cannot be written.
    """
    folder = expanded(folder)
    runs: dict[pathlib.Path, dict[str, Any]] = {}
    for where, row in _rows(file):
        from_json(row["config"], row["metrics"], where)
        path = _inside(folder, row["run"], where)
        if path in runs:
            raise RecordError(f"{where} names the folder {row['run']!r}, which a line before it names too.")
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
    """Each line's place, for messages, and what it holds."""
    found: list[tuple[str, dict[str, Any]]] = []
    for number, line in enumerate(expanded(file).read_bytes().splitlines(), 1):
        where = f"{file}, line {number}"
        row = json_object(line, where, *_MEMBERS)
        if len(row) != 3 or not isinstance(row["run"], str) or not isinstance(row["metrics"], list):
            raise RecordError(f"{where} is no packed run: {line[:80]!r}.")
        found.append((where, row))
    return found


def _inside(folder: pathlib.Path, run: str, where: str) -> pathlib.Path:
    """The run's folder, which must lie in `folder`, past all links, and be called as a run's."""
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
    """The folders of runs below a folder, and those that are called nearly so, as a copy is: `seed-0 (copy)`."""
    found = sorted(config.parent for config in folder.rglob("seed-*/config.json") if config.is_file())
    return [path for path in found if _RUN.fullmatch(path.name)], [
        path for path in found if not _RUN.fullmatch(path.name)
    ]


def is_packed(file: pathlib.Path) -> bool:
    """Whether a file is one of `pack`, perhaps a damaged one; other programs write lines of JSON too."""
    with file.open("rb") as lines:
        first = lines.readline()
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return True
    return isinstance(row, dict) and not row.keys().isdisjoint(_MEMBERS)


def skipping(paths: Sequence[pathlib.Path]) -> str:
    """What to say of paths that are no runs."""
    named = ", ".join(map(str, paths[:3]))
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return (
        f"Skipped, for they are no runs: {named}{more}." if len(paths) > 1 else f"Skipped, for it is no run: {named}."
    )
