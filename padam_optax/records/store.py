"""A run's folder while it runs, `<out>/<experiment>/seed-<seed>/`, and every record below a folder."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Generator, Mapping
from typing import Any

from padam_optax.records import packed
from padam_optax.records.record import Record, RecordError, from_json


class StoreError(OSError):
    """A record that cannot be written, as on a full disk; the message says what is intact."""


class RunDirectory:
    """Writes and reads one run's records: `config.json` and `metrics.jsonl`."""

    def __init__(self, out: str | pathlib.Path, experiment: str, seed: int):
        self.path = pathlib.Path(out) / experiment / f"seed-{seed}"
        self.checkpoints = self.path / "checkpoints"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"

    def read(self) -> Record | None:
        """The record, or None if the run was never started. A last line cut short by a crash is left out.

        Raises:
          RecordError: If a file is damaged; the message names it, and the line or the field.
        """
        if not self._config.is_file():
            return None
        lines = self._metrics.read_bytes().split(b"\n")[:-1] if self._metrics.is_file() else []
        metrics = [_object(line, f"{self._metrics}, line {number},", "epoch") for number, line in enumerate(lines, 1)]
        return from_json(
            _object(self._config.read_bytes(), str(self._config), "experiment"), metrics, str(self._config)
        )

    def start(self, record: Record, epochs_done: int) -> None:
        """Writes what a record says beside its metrics, and keeps the metrics of the first `epochs_done` epochs.

        Raises:
          StoreError: If they cannot be written; those before are then intact.
        """
        before = self.read()
        kept = [] if before is None else [line for line in before.metrics if line["epoch"] <= epochs_done]
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        _write(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        _write(self._config, json.dumps(record.config(), indent=2) + "\n")

    def has_checkpoints(self) -> bool:
        """Whether there is a checkpoint, or what is left of one."""
        return self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())

    def discard_checkpoints(self) -> None:
        """Removes all checkpoints, if there are any."""
        if self.checkpoints.is_dir():
            shutil.rmtree(self.checkpoints)

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds one line to the metrics and has it on disk on return.

        Raises:
          StoreError: If it cannot be written, as on a full disk. The lines before it are intact.
        """
        with _writing(self._metrics):
            _write_out(self._metrics, "a", json.dumps(line) + "\n")


def read_all(path: str | pathlib.Path) -> list[Record]:
    """Every record of a packed file, or below a folder: those of runs, then those of packed files, by their paths.

    Raises:
      RecordError: If a file is damaged.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return packed.read(path)
    directories = sorted(found.parent for found in path.rglob("seed-*/config.json"))
    runs = (RunDirectory(found.parent.parent, found.parent.name, _seed(found)) for found in directories)
    records = [record for run in runs if (record := run.read()) is not None]
    files = sorted(found for found in path.rglob("*.jsonl") if found.name != "metrics.jsonl")
    return [*records, *(record for found in files for record in packed.read(found))]


def _seed(path: pathlib.Path) -> int:
    return int(path.name.removeprefix("seed-"))


def _object(text: bytes, where: str, name: str) -> dict[str, Any]:
    """A JSON object that has `name`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{where} is damaged: not JSON: {text[:80]!r}.") from error
    if not isinstance(value, dict) or name not in value:
        raise RecordError(f"{where} is damaged: expected a JSON object with {name!r}, got {text[:80]!r}.")
    return value


def _write(path: pathlib.Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with _writing(path):
        _write_out(part, "w", text)
        part.replace(path)


def _write_out(path: pathlib.Path, mode: str, text: str) -> None:
    with path.open(mode) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writing(path: pathlib.Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} could not be written: {error.strerror}. What was written before is intact: once this is mended,"
            " the same command goes on from there."
        ) from error
