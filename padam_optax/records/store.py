"""Writes and reads a run's folder, `<out>/<experiment>/seed-<seed>/`, and reads every record below a folder."""

import os
import pathlib
import shutil
import warnings
from collections.abc import Mapping
from typing import Any

from padam_optax.paths import expanded
from padam_optax.records import packed
from padam_optax.records.checks import RecordWarning
from padam_optax.records.files import StoreError, append, folder_in, read_run, to_json, write_whole, writing
from padam_optax.records.record import Record, from_json


class RunDirectory:
    """Writes and reads one run's record: `config.json` and `metrics.jsonl`.

    Raises:
      ValueError: If the experiment's name cannot be that of a folder within `out`.
    """

    def __init__(self, out: str | pathlib.Path, experiment: str, seed: int):
        self.path = folder_in(expanded(out), experiment) / f"seed-{seed}"
        self.checkpoints = self.path / "checkpoints"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"

    def read(self) -> Record | None:
        """The record, or None if the run was never started. A last line that a crash cut short is left out.

        Raises:
          RecordError: If a file is damaged; the message names it, and the line or the field.
        """
        if not self._config.is_file():
            return None
        return _read(self.path)

    def start(self, record: Record, epochs_done: int) -> list[dict[str, Any]]:
        """Writes all but the metrics of a record, and keeps the folder's metrics of the first `epochs_done` epochs.

        Returns:
          The lines that are kept.

        Raises:
          StoreError: If a file cannot be written; the earlier one is then intact.
        """
        # A record that is replaced as a whole may be damaged.
        before = self.read() if epochs_done else None
        kept = [] if before is None else [line for line in before.metrics if line["epoch"] <= epochs_done]
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self._metrics, "".join(map(to_json, kept)))
        write_whole(self._config, to_json(record.config(), indent=2))
        return kept

    def has_checkpoints(self) -> bool:
        """Whether there is a checkpoint, or a part of one."""
        return self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())

    def discard_checkpoints(self) -> None:
        """Removes all checkpoints, if there are any.

        Raises:
          StoreError: If their folder is a link, which may lead to other files too, or cannot be removed.
        """
        if self.checkpoints.is_symlink():
            raise StoreError(
                f"{self.checkpoints} is a link to {os.readlink(self.checkpoints)}: its content is not removed."
                " Remove the link to start anew, or choose another --out."
            )
        if self.checkpoints.is_dir():
            with writing(self.checkpoints):
                shutil.rmtree(self.checkpoints)

    def append(self, line: Mapping[str, Any]) -> None:
        """Adds one line to the metrics; on return it is on disk.

        Raises:
          StoreError: If it cannot be written, such as on a full disk; the earlier lines are then intact.
        """
        append(self._metrics, to_json(line))


def read_all(path: str | pathlib.Path) -> list[Record]:
    """Every record of a packed file, or below a folder: first those of runs, then those of packed files, by path.

    A folder called `seed-` and something other than a number, such as a copy, and a file of JSON lines that are not
    runs are skipped, with one `RecordWarning` that names them.

    Raises:
      RecordError: If a file is damaged.
    """
    path = expanded(path)
    if path.is_file():
        return packed.read(path)
    folders, skipped = packed.run_folders(path)
    records = [_read(folder) for folder in folders]
    files = sorted(found for found in path.rglob("*.jsonl") if found.name != "metrics.jsonl" and found.is_file())
    for file in files:
        if packed.is_packed(file):
            records += packed.read(file)
        else:
            skipped.append(file)
    if skipped:
        warnings.warn(packed.skipping(skipped), RecordWarning, stacklevel=2)
    return records


def _read(folder: pathlib.Path) -> Record:
    return from_json(*read_run(folder), where=str(folder / "config.json"), lines=str(folder / "metrics.jsonl"))
