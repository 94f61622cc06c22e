"""Many runs in one file, to keep: a line of JSON a run, as it was recorded."""

import json
import pathlib
import shutil
from typing import Any

from padam_optax.paths import expanded
from padam_optax.records.files import StoreError, json_object, read_run, write_whole, writing
from padam_optax.records.record import Record, RecordError, from_json


def pack(folder: str | pathlib.Path, file: str | pathlib.Path) -> int:
    """Writes every run below a folder to one file, whole or not at all; checkpoints and event files stay behind.

    Each line holds `run`, the run's folder below `folder`, `config`, what its `config.json` holds, and `metrics`, the
    lines of its `metrics.jsonl`, so that `unpack` gives the same files, to the byte where `padam run` wrote them.

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
    for path in sorted(config.parent for config in folder.rglob("seed-*/config.json")):
        config, metrics = read_run(path)
        from_json(config, metrics, str(path / "config.json"))
        run = path.relative_to(folder).as_posix()
        lines.append(json.dumps({"run": run, "config": config, "metrics": metrics}) + "\n")
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
            write_whole(path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in row["metrics"]))
            write_whole(path / "config.json", json.dumps(row["config"], indent=2) + "\n")
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
        row = json_object(line, where, "run", "config", "metrics")
        if len(row) != 3 or not isinstance(row["run"], str) or not isinstance(row["metrics"], list):
            raise RecordError(f"{where} is no packed run: {line[:80]!r}.")
        found.append((where, row))
    return found


def _inside(folder: pathlib.Path, run: str, where: str) -> pathlib.Path:
    """The run's folder, which must lie in `folder` and be called as a run's."""
    parts = run.split("/")
    # What is no name leads elsewhere too: on Windows "C:", or a part with a backslash.
    named = all(part not in ("", "..") and part == pathlib.Path(part).name for part in parts)
    if not named or not parts[-1].startswith("seed-"):
        raise RecordError(
            f"{where} names the folder {run!r}; expected one within the folder to unpack to, such as"
            " cifar10-mini-padam/seed-0."
        )
    return folder.joinpath(*parts)
