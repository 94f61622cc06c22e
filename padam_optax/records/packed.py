"""Many runs in one file, to keep: a line of JSON a run, as it was recorded."""

import json
import os
import pathlib
from typing import Any

from padam_optax.records.record import Record, RecordError, from_json

_KEYS = {"run", "config", "metrics"}


def pack(folder: str | pathlib.Path, file: str | pathlib.Path) -> int:
    """Writes every run below a folder to one file, whole or not at all; checkpoints and event files stay behind.

    Each line holds `run`, the run's folder below `folder`, `config`, what its `config.json` holds, and `metrics`, the
    lines of its `metrics.jsonl`, so that `unpack` gives the same files, to the byte where `padam run` wrote them.

    Args:
      folder: Where the runs lie.
      file: To write; its folder is made.

    Returns:
      The number of runs; without any, nothing is written.

    Raises:
      RecordError: If a run is damaged or not whole JSON; nothing is written then.
    """
    folder, file = pathlib.Path(folder), pathlib.Path(file)
    lines: list[str] = []
    for path in sorted(folder.rglob("seed-*/config.json")):
        config = _loads(path.read_bytes(), str(path))
        metrics_file = path.with_name("metrics.jsonl")
        rows = metrics_file.read_bytes().split(b"\n")[:-1] if metrics_file.is_file() else []
        metrics = [_loads(row, f"{metrics_file}, line {number},") for number, row in enumerate(rows, 1)]
        from_json(config, metrics, str(path))
        run = path.parent.relative_to(folder).as_posix()
        lines.append(json.dumps({"run": run, "config": config, "metrics": metrics}) + "\n")
    if not lines:
        return 0
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(file)
    return len(lines)


def unpack(file: str | pathlib.Path, folder: str | pathlib.Path) -> int:
    """Writes the runs of a packed file as the folders that they were.

    Args:
      file: As `pack` wrote it.
      folder: Where to; no run of the file may lie there already.

    Returns:
      The number of runs.

    Raises:
      RecordError: If the file is damaged, or names a folder outside of `folder`.
      FileExistsError: If a run lies there already; nothing is written then.
    """
    folder = pathlib.Path(folder)
    runs = [(_inside(folder, row["run"], f"{file}, line {number},"), row) for number, row in _rows(file)]
    for path, _ in runs:
        if path.exists():
            raise FileExistsError(f"{path} is there already; unpack to another folder.")
    for path, row in runs:
        path.mkdir(parents=True)
        metrics = "".join(json.dumps(line) + "\n" for line in row["metrics"])
        (path / "metrics.jsonl").write_text(metrics, encoding="utf-8")
        (path / "config.json").write_text(json.dumps(row["config"], indent=2) + "\n", encoding="utf-8")
    return len(runs)


def read(file: str | pathlib.Path) -> list[Record]:
    """The records of a packed file.

    Raises:
      RecordError: If a line is damaged; the message names the file, the line and the field.
    """
    return [from_json(row["config"], row["metrics"], f"{file}, line {number}") for number, row in _rows(file)]


def _rows(file: str | pathlib.Path) -> list[tuple[int, dict[str, Any]]]:
    found: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(pathlib.Path(file).read_bytes().splitlines(), 1):
        where = f"{file}, line {number},"
        row = _loads(line, where)
        if row.keys() != _KEYS or not isinstance(row["run"], str) or not isinstance(row["metrics"], list):
            raise RecordError(f"{where} is no packed run: expected a JSON object with {', '.join(sorted(_KEYS))}.")
        found.append((number, row))
    return found


def _loads(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} is damaged: not JSON: {text[:80]!r}.") from error
    if not isinstance(value, dict):
        raise RecordError(f"{where} is damaged: expected a JSON object, got {text[:80]!r}.")
    return value


def _inside(folder: pathlib.Path, run: str, where: str) -> pathlib.Path:
    """The run's folder, which must lie in `folder`."""
    path = pathlib.PurePosixPath(run)
    if path.is_absolute() or ".." in path.parts or os.sep in run.replace("/", "") or not path.parts:
        raise RecordError(f"{where} names the folder {run!r}, which does not lie in the one to unpack to.")
    return folder.joinpath(*path.parts)
