"""The records of a run: `config.json` and `metrics.jsonl` in `<out>/<experiment>/seed-<seed>/`. One form for all."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Generator, Mapping
from typing import Any

from padam_optax.data.images import DataError

# What a line has that ends a run early.
_END = {"diverged_step", "given_up"}


@dataclasses.dataclass(frozen=True)
class Record:
    """One run as recorded.

    Attributes:
      config: `experiment` (the specification), `seed`, `data` (label, sizes, checksum), `versions`, `device`.
      metrics: One dictionary an epoch: `epoch` (from 1), `train_loss`, `train_error`, `test_loss`, `test_error` (errors
        are shares of 1; text has `train_objective`, `valid_perplexity`, `test_perplexity` and others instead, see
        `training.tasks`), `learning_rate`, `seconds`, `examples_per_second` (text: tokens). A run that met a NaN or an
        infinity in its loss or gradients ends with `{"epoch", "diverged_step"}` (steps counted from 0 over the whole
        run), one that a sweep gave up with `{"epoch", "given_up"}`.
    """

    config: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def epochs(self) -> int:
        """Epochs completed."""
        return max((line["epoch"] for line in self.metrics if not _END & line.keys()), default=0)

    @property
    def diverged(self) -> bool:
        """Whether the run stopped at a loss or a gradient that was not finite."""
        return bool(self.metrics) and "diverged_step" in self.metrics[-1]

    @property
    def given_up(self) -> bool:
        """Whether a sweep or a search gave the run up for others that did better."""
        return bool(self.metrics) and "given_up" in self.metrics[-1]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or self.given_up or self.epochs >= self.config["experiment"]["epochs"]


class RunDirectory:
    """Writes and reads one run's records."""

    def __init__(self, out: str | pathlib.Path, experiment: str, seed: int):
        self.path = pathlib.Path(out) / experiment / f"seed-{seed}"
        self.checkpoints = self.path / "checkpoints"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.jsonl"

    def read(self) -> Record | None:
        """The record, or None if the run was never started. A last line cut short by a crash is left out.

        Raises:
          DataError: If a file is damaged; the message names it, and the line.
        """
        if not self._config.is_file():
            return None
        lines = self._metrics.read_bytes().split(b"\n")[:-1] if self._metrics.is_file() else []
        metrics = [_object(line, f"{self._metrics}, line {number},", "epoch") for number, line in enumerate(lines, 1)]
        return Record(_object(self._config.read_bytes(), str(self._config), "experiment"), metrics)

    def start(self, config: Mapping[str, Any], epochs_done: int) -> None:
        """Writes the configuration and keeps the metrics of the first `epochs_done` epochs; both atomically.

        Raises:
          DataError: If they cannot be written; those before are then intact.
        """
        record = self.read()
        kept = [] if record is None else [line for line in record.metrics if line["epoch"] <= epochs_done]
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        _write(self._metrics, "".join(json.dumps(line) + "\n" for line in kept))
        _write(self._config, json.dumps(config, indent=2) + "\n")

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
          DataError: If it cannot be written, as on a full disk. The lines before it are intact.
        """
        with _writing(self._metrics):
            _write_out(self._metrics, "a", json.dumps(line) + "\n")


def read_all(out: str | pathlib.Path) -> list[Record]:
    """Every record below `out`, in the order of their paths."""
    directories = sorted(path.parent for path in pathlib.Path(out).rglob("seed-*/config.json"))
    runs = (RunDirectory(path.parent.parent, path.parent.name, _seed(path)) for path in directories)
    return [record for run in runs if (record := run.read()) is not None]


def _seed(path: pathlib.Path) -> int:
    return int(path.name.removeprefix("seed-"))


def _object(text: bytes, where: str, name: str) -> dict[str, Any]:
    """A JSON object that has `name`."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is damaged: not JSON: {text[:80]!r}.") from error
    if not isinstance(value, dict) or name not in value:
        raise DataError(f"{where} is damaged: expected a JSON object with {name!r}, got {text[:80]!r}.")
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
        raise DataError(
            f"{path} could not be written: {error.strerror}. What was written before is intact: once this is mended,"
            " the same command goes on from there."
        ) from error
