"""One run in a process of its own: `jobs` starts the process, gives it a task, and reads its events.

The process reads a line of JSON from standard input and writes one line of JSON an event to standard output. When
standard input ends, the process that started it has ended; it then stops, as on SIGTERM.
"""

import dataclasses
import importlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from padam_optax.data.images import DataError
from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import DataSource, Device, Record, from_json

Tell = Callable[[Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Task:
    """The task of a process.

    Attributes:
      experiment: What to run.
      seed: The run's seed.
      data: Arguments of `datasets.load_data`: `data_dir`, `data_label`, `unknown_words`.
      out: Folder of all records.
      options: Arguments of `run.run`.
      jobs: How many runs share the device.
      seconds: How long the whole queue may take, or None for no limit.
      began: When the queue began, in seconds as `time.time` counts them.
      cores: Processor cores to use; all if empty, or if the system cannot bind a process to cores.
      imports: Modules to import first.
      programs: Folder of compiled programs, as `compiled.keep_programs` takes it.
    """

    experiment: Experiment
    seed: int
    data: Mapping[str, Any]
    out: str
    options: Mapping[str, Any]
    jobs: int
    seconds: float | None
    began: float
    cores: Sequence[int]
    imports: Sequence[str]
    programs: str | None

    def to_json(self) -> str:
        """A line that `from_json` reads."""
        # A record holds an experiment without loss.
        config = Record(self.experiment, self.seed, DataSource(""), Device("")).config()
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps({**fields, "experiment": config})

    @classmethod
    def from_json(cls, line: str) -> "Task":
        """The task that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        fields["experiment"] = from_json(fields["experiment"], []).experiment
        return cls(**fields)


def perform(task: Task, tell: Tell) -> int:
    """Runs a task; `tell` gets each event as a mapping with one key: `start`, `compile`, `steps`, `epoch`,
    `warning` or `error`.

    Returns:
      The process's exit code, which is 0, or 2 for an error that the user can mend.
    """
    from padam_optax.runner.compiled import forget_damaged, keep_programs
    from padam_optax.runner.datasets import load_data
    from padam_optax.runner.queue import Budget, run_queue

    if task.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, task.cores)
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
        if category.__module__.startswith("padam_optax."):
            tell({"warning": str(message)})
        elif not forget_damaged(str(message)):
            others(message, category, *where, **options)

    warnings.showwarning = show
    try:
        for name in task.imports:
            importlib.import_module(name)
        keep_programs(task.programs)
        budget = Budget(task.seconds, time.time() - task.began)
        with budget.listening():
            run_queue(
                [(task.experiment, task.seed)],
                lambda experiment: load_data(experiment, **task.data),
                task.out,
                budget,
                jobs=task.jobs,
                on_start=lambda experiment, seed: tell({"start": seed}),
                on_compile=lambda under_way: tell({"compile": under_way}),
                on_steps=lambda epoch, share: tell({"steps": [epoch, share]}),
                on_epoch=lambda line: tell({"epoch": line}),
                **task.options,
            )
    except (DataError, OSError, ValueError, KeyError) as error:
        tell({"error": str(error.args[0]) if isinstance(error, KeyError) else str(error)})
        return 2
    finally:
        warnings.showwarning = others
    return 0


def main() -> None:
    """Performs the task that standard input names."""
    # What libraries print must not mix with the events.
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    line = sys.stdin.readline()
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.exit(perform(Task.from_json(line), lambda event: _write(events, event)))


def _write(events: TextIO, event: Mapping[str, Any]) -> None:
    try:
        events.write(json.dumps(event) + "\n")
        events.flush()
    except OSError:
        # Nobody reads the events any more. The record is on disk, and the end of standard input stops the run.
        pass


def _stop_with_parent() -> None:
    # Not through `sys.stdin`: Python waits for it at exit.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
