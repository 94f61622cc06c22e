"""A run's folder while it runs, `<out>/<experiment>/seed-<seed>/`, and every record below a folder."""

import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from padam_optax.records import packed
from padam_optax.records.files import StoreError, append, read_run, write_whole, writing
from padam_optax.records.record import Record, from_json


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
        return from_json(*read_run(self.path), where=str(self._config))

    def start(self, record: Record, epochs_done: int) -> None:
        """Writes what a record says beside its metrics, and keeps the metrics of the first `epochs_done` epochs.

        Raises:
          StoreError: If they cannot be written; those before are then intact.
        """
        before = self.read()
        kept = [] if before is None else [line for line in before.metrics if line["epoch"] <= epochs_done]
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        write_whole(self._config, json.dumps(record.config(), indent=2) + "\n")

    def has_checkpoints(self) -> bool:
        """Whether there is a checkpoint, or what is left of one."""
        return self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())

    def discard_checkpoints(self) -> None:
        """Removes all checkpoints, if there are any.

        Raises:
          StoreError: If their folder is a link, so that what they lie among is not known, or cannot be removed.
        """
        if self.checkpoints.is_symlink():
            raise StoreError(
                f"{self.checkpoints} is a link to {os.readlink(self.checkpoints)}: what is in there is not removed."
                " Remove the link to start anew, or choose another --out."
            )
        if self.checkpoints.is_dir():
            with writing(self.checkpoints):
                shutil.rmtree(self.checkpoints)

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds one line to the metrics and has it on disk on return.

        Raises:
          StoreError: If it cannot be written, as on a full disk. The lines before it are intact.
        """
        append(self._metrics, json.dumps(line) + "\n")


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
