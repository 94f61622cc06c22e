"""Runs side by side: how many at once, what is divided, and what becomes of each."""

import collections
import json
import os
import queue
import signal
import subprocess
import sys

import pytest

from padam_optax.experiments import EXPERIMENTS, find
from padam_optax.experiments.spec import Role
from padam_optax.records.record import DataSource, Device, Record
from padam_optax.records.store import RunDirectory
from padam_optax.runner import jobs as module
from padam_optax.runner.job import Task, perform
from padam_optax.runner.jobs import Job, memory_share, mps_is_on, run_side_by_side
from padam_optax.runner.queue import Budget

SPEC = find("digits-padam").with_epochs(1)


def task(out, **changes) -> Task:
    fields = {
        "experiment": SPEC,
        "seed": 0,
        "data": {"data_dir": None, "data_label": ""},
        "out": str(out),
        "options": {"checkpoint_every": 1},
        "jobs": 2,
        "seconds": None,
        "began": 0.0,
        "cores": [],
        "imports": [],
        "programs": None,
    }
    return Task(**{**fields, **changes})


@pytest.mark.parametrize("name", ["cifar10-resnet18-padam", "imagenet-vgg16-yogi", "ptb-lstm3-adabound", "pydoc-padam"])
def test_a_task_is_told_losslessly(tmp_path, name):
    told = Task.from_json(task(tmp_path, experiment=EXPERIMENTS[name]).to_json())
    assert told.experiment.fields(Role.RESULT) == EXPERIMENTS[name].fields(Role.RESULT)
    assert told == task(tmp_path, experiment=told.experiment)


def test_what_a_process_tells(tmp_path):
    """The compiled program is that of any run; the record says how many shared the device."""
    told = []
    assert perform(task(tmp_path), told.append) == 0
    # The initial state, and the steps.
    assert told[:5] == [{"start": 0}, *[{"compile": under_way} for under_way in (True, False)] * 2]
    record = RunDirectory(tmp_path, SPEC.name, 0).read()
    assert [event["epoch"] for event in told if "epoch" in event] == record.metrics
    assert record.device.jobs == 2
    told.clear()
    assert perform(task(tmp_path, data={"data_dir": None, "data_label": "my"}), told.append) == 2
    assert [list(event) for event in told] == [["start"], ["error"]]
    assert "leave out --data-label" in told[1]["error"]


def test_a_process_stops_when_the_one_that_started_it_has_ended(tmp_path):
    command = [sys.executable, "-m", "padam_optax.runner.job"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdin.write(task(tmp_path, experiment=SPEC.with_epochs(100_000)).to_json() + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if "epoch" in json.loads(line):
                break
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0
    directory = RunDirectory(tmp_path, SPEC.name, 0)
    assert 1 <= directory.read().epochs < 100_000
    assert directory.has_checkpoints()


class Fakes:
    """Processes that end when asked to, with a record or without."""

    def __init__(self, monkeypatch):
        self.running: dict[int, Fake] = {}
        self.most = 0
        self.codes = collections.defaultdict(int)
        monkeypatch.setattr(module, "_Process", lambda *arguments: Fake(self, *arguments))

    def end(self, seed: int) -> None:
        fake = self.running.pop(seed)
        if not self.codes[seed]:
            line = {"epoch": 1, "train_loss": 1.0}
            directory = RunDirectory(fake.job.out, SPEC.name, seed)
            directory.start(Record(SPEC, seed, DataSource("digits"), Device("cpu", jobs=2)), 0)
            directory.append(line)
            fake.tell({"epoch": line})
        fake.tell({"end": self.codes[seed]})


class Fake:
    cores = ()

    def __init__(self, fakes, job, budget, used, imports, programs, number, events):
        self.fakes, self.job, self.number, self.events = fakes, job, number, events
        self.signals = []
        self.popen = self
        fakes.running[job.seed] = self
        fakes.most = max(fakes.most, len(fakes.running))
        self.tell({"start": job.seed})

    def tell(self, event):
        self.events.put((self.number, event))

    def send_signal(self, number):
        if self.job.seed in self.fakes.running:
            self.fakes.codes[self.job.seed] = -number
            self.fakes.end(self.job.seed)

    def kill(self):
        self.fakes.running.pop(self.job.seed)

    def wait(self):
        pass

    def last_words(self, code):
        return f"code {code}"


@pytest.fixture
def fakes(monkeypatch):
    return Fakes(monkeypatch)


@pytest.mark.parametrize(("limits", "most"), [([1, 1, 1], 1), ([2, 2, 2, 2], 2), ([8, 8, 8], 3), ([3, 2, 3, 3], 2)])
def test_as_many_at_once_as_all_of_them_allow(tmp_path, fakes, limits, most):
    """In order; each is in the outcome."""
    begun = []

    def on_event(spec, seed, event):
        if "start" in event:
            begun.append(seed)
            # The oldest ends once no other can begin.
            if len(fakes.running) == most or len(begun) == len(limits):
                fakes.end(min(fakes.running))
        elif "end" in event and fakes.running and len(begun) == len(limits):
            fakes.end(min(fakes.running))

    queued = [Job(SPEC, seed, tmp_path, limit) for seed, limit in enumerate(limits)]
    outcome = run_side_by_side(queued, Budget(), on_event=on_event)
    assert begun == [record.seed for record in outcome.records] == list(range(len(limits)))
    assert fakes.most == most
    assert (outcome.left, outcome.failed) == ([], [])


def test_one_that_fails_does_not_stop_the_others(tmp_path, fakes):
    fakes.codes.update({0: 2, 1: -signal.SIGKILL})
    told = []

    def on_event(spec, seed, event):
        told.append((seed, event))
        if "start" in event:
            if seed == 0:
                fakes.running[0].tell({"error": "no such file"})
            fakes.end(seed)

    outcome = run_side_by_side([Job(SPEC, seed, tmp_path, 3) for seed in range(3)], Budget(), on_event=on_event)
    assert [record.seed for record in outcome.records] == [2]
    assert outcome.failed == [(SPEC, 0, "no such file"), (SPEC, 1, "code -9")]
    assert (1, {"error": "code -9"}) in told


def test_all_stop_together(tmp_path, fakes):
    """What has begun and what has not is left; none of it has failed."""
    budget = Budget()

    def on_event(spec, seed, event):
        if "start" in event and seed == 1:
            fakes.end(0)
            budget.stop("SIGTERM")

    outcome = run_side_by_side([Job(SPEC, seed, tmp_path, 2) for seed in range(5)], budget, on_event=on_event)
    assert [record.seed for record in outcome.records] == [0]
    assert [(seed, done) for _, seed, done in outcome.left] == [(1, 0), (2, 0), (3, 0), (4, 0)]
    assert outcome.failed == []
    assert fakes.running == {}


def test_none_is_left_after_an_interrupt_that_does_not_wait(tmp_path, fakes):
    def on_event(spec, seed, event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side([Job(SPEC, seed, tmp_path, 2) for seed in range(2)], Budget(), on_event=on_event)
    assert fakes.running == {}


def test_how_a_process_ended(monkeypatch, tmp_path):
    """By its last words, or by the signal that ended it."""
    for code, words in (("raise MemoryError('too much')", "MemoryError: too much"), ("pass", "ended with code 5")):
        monkeypatch.setattr(sys, "executable", tmp_path / "python")
        (tmp_path / "python").write_text(
            f'#!/bin/sh\n{os.path.realpath("/proc/self/exe")} -c "{code}" || exit 5\nexit 5\n'
        )
        (tmp_path / "python").chmod(0o755)
        events = queue.SimpleQueue()
        process = module._Process(Job(SPEC, 0, tmp_path, 1), Budget(), [], [], None, 0, events)
        assert events.get(timeout=60) == (0, {"end": 5})
        assert words in process.last_words(5)
        assert "SIGKILL" in process.last_words(-9)


def test_memory_is_divided(monkeypatch):
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    assert memory_share(3) == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.300"}
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".2")
    assert memory_share(3) == {}


def test_cores_are_divided(monkeypatch):
    """Evenly; those that others have come last, and none is left without."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5, 7})
    assert module._free_cores([], 2) == [0, 1]
    assert module._free_cores([0, 1], 2) == [2, 5]
    assert module._free_cores([0, 1, 2, 5], 8) == [7]
    assert module._free_cores([0, 1, 2, 5, 7], 8) == [0]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert module._free_cores([], 2) == []


@pytest.mark.parametrize(
    ("programs", "state"),
    [
        ({}, None),
        ({"nvidia-smi": "true"}, False),
        ({"nvidia-smi": "true", "nvidia-cuda-mps-control": "cat >/dev/null; echo 1234"}, True),
        (
            {"nvidia-smi": "true", "nvidia-cuda-mps-control": "echo Cannot find MPS control daemon process; exit 1"},
            False,
        ),
    ],
    ids=["no GPU", "no MPS", "on", "off"],
)
def test_whether_mps_is_on(tmp_path, monkeypatch, programs, state):
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert mps_is_on() is state
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert mps_is_on() is None
