"""Several runs side by side on one device, each in a process of its own."""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from padam_optax.experiments.spec import Experiment
from padam_optax.records.store import RunDirectory
from padam_optax.runner.job import Task
from padam_optax.runner.queue import Budget, Outcome

# What JAX may take of a GPU's memory in all; the rest is for its libraries.
_MEMORY = 0.9
_LAST_LINES = 20

OnEvent = Callable[[Experiment, int, Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Job:
    """A run among others.

    Attributes:
      experiment: What to run.
      seed: With which seed.
      out: Folder of all records.
      jobs: How many runs at once it allows, itself included.
      data: Arguments of `datasets.load_data` beside the experiment.
      options: Arguments of `run.run` that JSON can say, such as `resume` and `checkpoint_every`.
    """

    experiment: Experiment
    seed: int
    out: pathlib.Path
    jobs: int
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run_side_by_side(
    jobs: Sequence[Job],
    budget: Budget,
    *,
    imports: Sequence[str] = (),
    programs: str | pathlib.Path | None = None,
    on_event: OnEvent = lambda experiment, seed, event: None,
) -> Outcome:
    """Runs jobs in order, as many at once as each that is running and the next one allow.

    The device's memory and the processor's cores are divided evenly. A run that fails or diverges does not stop the
    others. When the budget ends, all stop with a checkpoint.

    Args:
      jobs: What to run.
      budget: When to stop. The caller listens for signals (`Budget.listening`).
      imports: Modules that each process imports first, as they may register what is run.
      programs: Where compiled programs are kept, see `compiled.keep_programs`.
      on_event: Told what happens in a run as a mapping with one key: `start`; `compile`, whether it begins or ends;
        `steps`, an epoch and the share of it that is done; `epoch`, its line of the metrics; `warning` or `error`, a
        text; `end`, the exit code.

    Returns:
      What became of each, in the order of `jobs`.
    """
    waiting = collections.deque(enumerate(jobs))
    running: dict[int, _Process] = {}
    events: queue.SimpleQueue[tuple[int, Mapping[str, Any]]] = queue.SimpleQueue()
    errors: dict[int, str] = {}
    asked = False
    try:
        while waiting or running:
            if budget.reason is not None and not asked:
                asked = True
                waiting.clear()
                for process in running.values():
                    process.popen.send_signal(signal.SIGTERM)
            while waiting and len(running) < min(each.jobs for _, each in [*_jobs_of(running, jobs), waiting[0]]):
                number, job = waiting.popleft()
                used = [core for process in running.values() for core in process.cores]
                running[number] = _Process(job, budget, used, imports, programs, number, events)
            try:
                number, event = events.get(timeout=0.2)
            except queue.Empty:
                continue
            job = jobs[number]
            if "end" in event:
                process = running.pop(number)
                # A signal that comes before it listens ends it.
                stopped = asked and event["end"] == -signal.SIGTERM
                if event["end"] and number not in errors and not stopped:
                    errors[number] = process.last_words(event["end"])
                    on_event(job.experiment, job.seed, {"error": errors[number]})
            elif "error" in event:
                errors[number] = event["error"]
            on_event(job.experiment, job.seed, event)
    finally:
        # Only where something was raised here, such as by a second Ctrl-C.
        for process in running.values():
            process.popen.kill()
            process.popen.wait()
    return _outcome(jobs, errors)


def _jobs_of(running: Mapping[int, "_Process"], jobs: Sequence[Job]) -> list[tuple[int, Job]]:
    return [(number, jobs[number]) for number in running]


def _outcome(jobs: Sequence[Job], errors: Mapping[int, str]) -> Outcome:
    outcome = Outcome([], [], [])
    for number, job in enumerate(jobs):
        if number in errors:
            outcome.failed.append((job.experiment, job.seed, errors[number]))
            continue
        record = RunDirectory(job.out, job.experiment.name, job.seed).read()
        if record is not None and record.finished:
            outcome.records.append(record)
        else:
            outcome.left.append((job.experiment, job.seed, 0 if record is None else record.epochs))
    return outcome


class _Process:
    """A job's process, and the threads that hear from it."""

    def __init__(
        self,
        job: Job,
        budget: Budget,
        used: Sequence[int],
        imports: Sequence[str],
        programs: str | pathlib.Path | None,
        number: int,
        events: "queue.SimpleQueue[tuple[int, Mapping[str, Any]]]",
    ):
        self.cores = _free_cores(used, job.jobs)
        self._lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)
        # A session of its own: Ctrl-C is for the process that started it, which passes it on.
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "padam_optax.runner.job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | memory_share(job.jobs),
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        task = Task(
            job.experiment,
            job.seed,
            job.data,
            str(job.out),
            job.options,
            job.jobs,
            budget.seconds,
            time.time() - (0.0 if budget.seconds is None else budget.seconds - budget.left),
            self.cores,
            imports,
            None if programs is None else str(programs),
        )
        assert self.popen.stdin is not None
        # One that has ended already says why.
        with contextlib.suppress(OSError):
            self.popen.stdin.write(task.to_json() + "\n")
            self.popen.stdin.flush()
        self._errors = threading.Thread(target=self._keep_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._listen, args=(number, events), daemon=True).start()

    def last_words(self, code: int) -> str:
        """What a process that ended without a word of its own said on standard error, or how it ended."""
        self._errors.join()
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}; memory may have run out"
        return next(reversed(self._lines), f"its process ended with code {code}")

    def _listen(self, number: int, events: "queue.SimpleQueue[tuple[int, Mapping[str, Any]]]") -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                events.put((number, json.loads(line)))
        code = self.popen.wait()
        assert self.popen.stdin is not None
        with contextlib.suppress(OSError):
            self.popen.stdin.close()
        events.put((number, {"end": code}))

    def _keep_errors(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            self._lines.extend(line.strip() for line in lines if line.strip())


def memory_share(jobs: int) -> dict[str, str]:
    """What tells JAX to take its share of a GPU's memory; a setting of the user's stands."""
    names = {"XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"}
    return {} if names & os.environ.keys() else {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY / jobs:.3f}"}


def _free_cores(used: Sequence[int], jobs: int) -> list[int]:
    """A share of the processor's cores, those that the fewest others have; none where the system cannot say."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    taken = collections.Counter(used)
    return sorted(sorted(cores, key=lambda core: taken[core])[: max(1, len(cores) // jobs)])


def mps_is_on() -> bool | None:
    """Whether NVIDIA's CUDA MPS runs, without which processes take turns on a GPU; None where there is no such GPU."""
    if os.environ.get("JAX_PLATFORMS") == "cpu" or shutil.which("nvidia-smi") is None:
        return None
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        return False
    try:
        done = subprocess.run([control], input="get_server_list\n", capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and "cannot find" not in (done.stdout + done.stderr).lower()
