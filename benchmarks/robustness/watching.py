"""Runs the command `padam` in its own process and reports what it is doing; `faults.py` stops and damages such runs.

    python benchmarks/robustness/watching.py FOLDER LIMIT ARGUMENTS...

runs the command with these arguments; see `run_watched` for FOLDER and LIMIT.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import mmap
import os
import pathlib
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from padam_optax.experiments import find
from padam_optax.records.record import Record
from padam_optax.records.store import RunDirectory
from padam_optax.runner import datasets
from padam_optax.runner.programs import trainer_for
from padam_optax.training.checkpoint import Checkpoints
from padam_optax.training.epoch import ResidentData

NAME = "digits-padam"
STEPS = 1_000 // 128
TIMES = {"seconds", "examples_per_second"}
PHASES = {
    "training": (ResidentData, "train_epoch"),
    "evaluating": (ResidentData, "evaluate"),
    "writing a checkpoint": (Checkpoints, "save"),
    "writing metrics": (RunDirectory, "append"),
    "reading a checkpoint": (Checkpoints, "restore"),
    "reading the data": (datasets, "load_data"),
}


class Progress:
    """What a run is doing, in a file that its process and the one that watches it have mapped into memory."""

    def __init__(self, path: pathlib.Path):
        if not path.exists():
            path.write_bytes(bytes(4 * (1 + len(PHASES))))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def enter(self, phase: int) -> None:
        (times,) = struct.unpack_from("I", self._memory, 4 * (1 + phase))
        struct.pack_into("I", self._memory, 4 * (1 + phase), times + 1)
        struct.pack_into("I", self._memory, 0, 1 + phase)

    def leave(self) -> None:
        struct.pack_into("I", self._memory, 0, 0)

    @property
    def phase(self) -> str | None:
        """What the run is doing now, or None if it is something else."""
        (now,) = struct.unpack_from("I", self._memory, 0)
        return [None, *PHASES][now]

    def times(self, phase: str) -> int:
        """How often the run did it, or began to."""
        return struct.unpack_from("I", self._memory, 4 * (1 + list(PHASES).index(phase)))[0]


def run_watched(folder: pathlib.Path, limit: int, arguments: list[str]) -> None:
    """The command `padam`, which tells in `folder` what it is doing, and at its end how long that took.

    No file can grow beyond `limit` bytes, if that is not negative.
    """
    from padam_optax.__main__ import main as padam

    progress = Progress(folder / "progress")
    seconds: dict[str, list[float]] = collections.defaultdict(list)

    def watched(number: int, phase: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(whole)
        def call(*args: Any, **options: Any) -> Any:
            progress.enter(number)
            began = time.perf_counter()
            try:
                return whole(*args, **options)
            finally:
                seconds[phase].append(time.perf_counter() - began)
                progress.leave()

        return call

    for number, (phase, (owner, name)) in enumerate(PHASES.items()):
        setattr(owner, name, watched(number, phase, getattr(owner, name)))
    sys.argv = ["padam", *arguments]
    if limit >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        padam()
    finally:
        medians = {phase: sorted(values)[len(values) // 2] for phase, values in seconds.items()}
        with contextlib.suppress(OSError):
            (folder / "seconds.json").write_text(json.dumps(medians))


class Trial:
    """A run of the command that records under `out`; `scratch` holds what all share, compiled programs too."""

    def __init__(self, out: pathlib.Path, scratch: pathlib.Path, epochs: int, process: int = 0):
        self._watched, self._out, self._epochs = scratch / f"process {process}", out, epochs
        self.directory = RunDirectory(out, NAME, 0)
        self._watched.mkdir(parents=True, exist_ok=True)
        self._environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(scratch / "cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }

    def start(self, *options: str, limit: int = -1) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, str(self._watched), str(limit)]
        command += ["run", NAME, "--out", str(self._out), "--epochs", str(self._epochs), "--checkpoint-every", "1"]
        command += options
        (self._watched / "progress").unlink(missing_ok=True)
        self.progress = Progress(self._watched / "progress")
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=self._environment, text=True, **pipes)

    def finish(self, *, limit: int = -1) -> tuple[int, str]:
        """Exit code, and what it says on standard error."""
        with self.start(limit=limit) as process:
            _, errors = process.communicate()
        return process.returncode, errors

    def seconds(self) -> dict[str, float]:
        """Of each phase, in a run that was never stopped."""
        seconds = json.loads((self._watched / "seconds.json").read_text())
        return {"reading a checkpoint": seconds["writing a checkpoint"], **seconds}

    def end(self) -> "End":
        return End.of(self.directory, self._epochs)


@dataclasses.dataclass
class End:
    """What a run ended with: the metrics without times, and every array of the last checkpoint."""

    metrics: list[dict[str, Any]]
    state: list[np.ndarray]

    @classmethod
    def of(cls, directory: RunDirectory, epochs: int) -> "End":
        spec = find(NAME).with_epochs(epochs)
        settings = {name: jnp.asarray(value) for name, value in spec.hyperparameters.items()}
        like = trainer_for(spec, 1_000, 10).init(jnp.int32(0), settings)
        with Checkpoints(directory.checkpoints) as checkpoints:
            restored = checkpoints.restore(like)
        assert restored is not None
        return cls(without_times(directory.read()), [np.asarray(leaf) for leaf in jax.tree.leaves(restored[0])])

    def equals(self, other: "End") -> bool:
        return self.metrics == other.metrics and all(map(np.array_equal, self.state, other.state))


def without_times(record: Record | None) -> list[dict[str, Any]]:
    lines = [] if record is None else record.metrics
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def epochs_to_repeat(directory: RunDirectory) -> int:
    """Epochs that are recorded, but not in a checkpoint: those are trained again."""
    record = directory.read()
    found = directory.checkpoints.iterdir() if directory.checkpoints.is_dir() else ()
    steps = [int(path.name) for path in found if path.name.isdigit()]
    return max(0, (0 if record is None else record.epochs) - max(steps, default=0) // STEPS)


if __name__ == "__main__":
    run_watched(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
