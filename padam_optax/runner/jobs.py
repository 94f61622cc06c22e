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

# The share of a GPU's memory that all runs may take together; the rest is for JAX's libraries.
_MEMORY = 0.9
_LAST_LINES = 20

OnEvent = Callable[[Experiment, int, Mapping[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Job:
    """One of several runs side by side.

    Attributes:
      experiment: What to run.
      seed: The run's seed.
      out: Folder of all records.
      jobs: How many runs at once it allows, itself included.
      data: Arguments of `datasets.load_data` beside the experiment.
      options: Arguments of `run.run` that JSON can hold, such as `resume` and `checkpoint_every`.
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
    """Runs jobs in order. As many run at once as the running jobs and the next one all allow.

    The runs divide the device's memory and the processor's cores evenly. A run that fails or diverges does not stop the
    others. When the budget ends, all runs stop with a checkpoint.

    Args:
      jobs: What to run.
      budget: When to stop. The caller listens for signals (`Budget.listening`).
      imports: Modules that each process imports first; they may register the experiments.
      programs: Folder of compiled programs, see `compiled.keep_programs`.
      on_event: Called with experiment, seed and event, a mapping with one key: `start`; `compile`, True at its begin
        and False at its end; `steps`, an epoch and the share of it that is done; `epoch`, its line of the metrics;
        `warning` or `error`, a text; `end`, the exit code.

    Returns:
      The outcome of each job, in the order of `jobs`.
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
                # A signal ends a process that does not listen yet.
                stopped = asked and event["end"] == -signal.SIGTERM
                if event["end"] and number not in errors and not stopped:
                    errors[number] = process.last_words(event["end"])
                    on_event(job.experiment, job.seed, {"error": errors[number]})
            elif "error" in event:
                errors[number] = event["error"]
            on_event(job.experiment, job.seed, event)
    finally:
        # Some still run only if an exception was raised here, such as by a second Ctrl-C.
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
    """A job's process, and the threads that read its output."""

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
        # A session of its own, so that Ctrl-C reaches only the process that started it, which passes it on.
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
        # A process that has ended already says why on standard error.
        with contextlib.suppress(OSError):
            self.popen.stdin.write(task.to_json() + "\n")
            self.popen.stdin.flush()
        self._errors = threading.Thread(target=self._keep_errors, daemon=True)
        self._errors.start()
        threading.Thread(target=self._listen, args=(number, events), daemon=True).start()

    def last_words(self, code: int) -> str:
        """Why a process ended without an error event: its last line on standard error, or its signal or exit code."""
        self._errors.join()
        if code < 0:
            return f"{signal.Signals(-code).name} ended its process; memory may have run out"
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
    """Environment variables that give each run its share of a GPU's memory; empty if the user has set one."""
    names = {"XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"}
    return {} if names & os.environ.keys() else {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{_MEMORY / jobs:.3f}"}


def _free_cores(used: Sequence[int], jobs: int) -> list[int]:
    """A share of the processor's cores, least used first; empty if the system cannot list its cores."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    taken = collections.Counter(used)
    return sorted(sorted(cores, key=lambda core: taken[core])[: max(1, len(cores) // jobs)])


def mps_is_on() -> bool | None:
    """Whether NVIDIA's CUDA MPS runs; None without an NVIDIA GPU. Without MPS, processes take turns on a GPU."""
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
