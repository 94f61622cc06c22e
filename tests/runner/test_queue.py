"""Queues of runs: what is begun, what is left, and why it stopped."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading

import jax
import pytest
from typer.testing import CliRunner

from padam_optax.cli import app
from padam_optax.experiments import find
from padam_optax.records.record import DataSource, Device, Record
from padam_optax.records.store import RunDirectory, read_all
from padam_optax.runner import queue
from padam_optax.runner.queue import Budget, not_done, projected_seconds, run_queue

SPEC = find("digits-padam").with_epochs(10)


def recorded(out, seconds: list[float], *, device: str | None = None, jobs: int = 1, **changes) -> None:
    """A record with these times an epoch."""
    spec = dataclasses.replace(SPEC, **{"name": "digits-other", **changes})
    directory = RunDirectory(out, spec.name, 0)
    directory.start(Record(spec, 0, DataSource("digits"), Device(device or jax.devices()[0].device_kind, jobs=jobs)), 0)
    for epoch, value in enumerate(seconds, start=1):
        directory.append({"epoch": epoch, "seconds": value})


def test_projection_is_the_first_epoch_and_the_median_of_the_others(tmp_path):
    assert projected_seconds(SPEC, tmp_path) is None
    recorded(tmp_path, [20.0, 1.0, 2.0, 9.0])
    assert projected_seconds(SPEC, tmp_path) == 20 + 9 * 2


@pytest.mark.parametrize("other", [{"model": "resnet18"}, {"train_examples": 5}, {"device": "another"}])
def test_projection_ignores_runs_of_another_cost(tmp_path, other):
    recorded(tmp_path, [20.0, 1.0], **other)
    assert projected_seconds(SPEC, tmp_path) is None


def test_projection_ignores_runs_on_another_number_of_devices(tmp_path):
    recorded(tmp_path, [20.0, 1.0])
    assert projected_seconds(SPEC, tmp_path, devices=1) is not None
    assert projected_seconds(SPEC, tmp_path, devices=2) is None


def test_projection_ignores_runs_that_shared_the_device_with_others(tmp_path):
    recorded(tmp_path, [20.0, 1.0], jobs=3)
    assert projected_seconds(SPEC, tmp_path) is None
    assert projected_seconds(SPEC, tmp_path, jobs=3) is not None


def test_what_is_done_is_left_out(tmp_path):
    """By the record's experiment, seed and, where it lies elsewhere, data; not by its name alone."""
    whole = SPEC.with_epochs(2)
    recorded(tmp_path, [1.0, 1.0], name=SPEC.name, epochs=2, milestones=whole.milestones)
    runs = [(whole, 0), (whole, 1), (SPEC, 0)]
    assert not_done(runs, tmp_path) == [(whole, 1), (SPEC, 0)]
    known = read_all(tmp_path)
    assert not_done(runs, tmp_path / "other") == runs
    assert not_done(runs, tmp_path / "other", known) == [(whole, 1), (SPEC, 0)]
    assert not_done(runs, tmp_path / "other", known, "digits-of-mine") == runs


@pytest.fixture
def begun(monkeypatch) -> list[int]:
    """The seeds that were begun; a run takes no time and is finished."""
    seeds = []

    def fake(experiment, seed, data, out, **options):
        seeds.append(seed)
        return Record(experiment.with_epochs(1), seed, DataSource("digits"), Device("cpu"), metrics=[{"epoch": 1}])

    monkeypatch.setattr(queue, "run", fake)
    return seeds


@pytest.mark.parametrize(
    ("limit", "spent", "starts"),
    [(None, 0, True), (100, 0, True), (100, 70, False), (30, 0, True)],
    ids=["no limit", "fits", "does not fit any more", "never fits: in pieces"],
)
def test_what_cannot_finish_is_not_begun(tmp_path, begun, limit, spent, starts):
    recorded(tmp_path, [20.0, 2.0, 2.0])
    budget = Budget(limit)
    budget._began -= spent
    outcome = run_queue([(SPEC, 4)], lambda spec: None, tmp_path, budget)
    assert begun == ([4] if starts else [])
    assert outcome.left == ([] if starts else [(SPEC, 4, 0)])


def test_what_was_begun_goes_on(tmp_path, begun):
    recorded(tmp_path, [20.0, 2.0, 2.0], name=SPEC.name)
    budget = Budget(100)
    budget._began -= 99
    run_queue([(SPEC, 0)], lambda spec: None, tmp_path, budget)
    assert begun == [0]


def test_after_a_signal_the_rest_is_left(tmp_path, begun):
    budget = Budget()
    heard = []
    before = signal.getsignal(signal.SIGTERM)
    with budget.listening(heard.append):
        os.kill(os.getpid(), signal.SIGTERM)
        outcome = run_queue([(SPEC, 0), (SPEC, 1)], lambda spec: None, tmp_path, budget)
    assert begun == outcome.records == []
    assert [(seed, done) for _, seed, done in outcome.left] == [(0, 0), (1, 0)]
    assert heard == ["SIGTERM"] == [budget.reason]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
def test_signals_that_ask_for_a_stop(name):
    """Each is told of once, in a thread of its own: the main one may be in a compiled program."""
    number = getattr(signal, name)
    before = signal.getsignal(number)
    heard, budget = [], Budget()
    with budget.listening(lambda name: heard.append((name, threading.current_thread() is threading.main_thread()))):
        signal.raise_signal(number)
        if number != signal.SIGINT:
            signal.raise_signal(number)
        assert budget.reason == name
    assert heard == [(name, False)]
    assert signal.getsignal(number) is before


def test_a_hangup_that_is_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        budget = Budget()
        with budget.listening():
            signal.raise_signal(signal.SIGHUP)
            assert budget.reason is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_asked_to_stop(tmp_path, begun):
    budget = Budget(1_000)
    budget.stop("a failure of its output")
    assert run_queue([(SPEC, 0)], lambda spec: None, tmp_path, budget).left == [(SPEC, 0, 0)]
    assert budget.reason == "a failure of its output"


def test_a_second_interrupt_does_not_wait():
    budget = Budget()
    with budget.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert budget.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_pipe_that_is_closed_leaves_a_checkpoint(tmp_path):
    """As `padam run ... 2>&1 | head -1`."""
    command = [sys.executable, "-m", "padam_optax", "run", "digits-padam", "--epochs", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert "epoch 1:" in process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 128 + signal.SIGPIPE
    directory = RunDirectory(tmp_path, "digits-padam", 0)
    assert directory.read().epochs >= 1
    assert directory.has_checkpoints()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_leaves_a_checkpoint_and_says_what_is_left(tmp_path, number, code):
    """Until then the same command is refused, and so is one that would replace the run."""
    command = [sys.executable, "-m", "padam_optax", "run", "digits-padam", "--epochs", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 2:" in line:
                for option in ("--resume", "--no-resume"):
                    second = CliRunner().invoke(app, [*command[3:], option])
                    assert second.exit_code == 2
                    assert f"is in use by process {process.pid} on " in second.stderr
                process.send_signal(number)
                break
        output, errors = process.communicate()
    assert process.returncode == code, errors
    (done,) = re.findall(r"digits-padam seed 0: (\d+) of 100000 epochs done", output)
    directory = RunDirectory(tmp_path, "digits-padam", 0)
    assert directory.read().epochs == int(done) >= 2
    assert [path for path in directory.checkpoints.iterdir() if path.name.isdigit()]
    assert "Traceback" not in errors
    assert json.loads((directory.path / "config.json").read_text())["seed"] == 0
