"""Runs on the digits: what they record, that they repeat bit for bit, and that stopping them changes nothing."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import largest_file
from tensorboardX.proto.event_pb2 import Event

import padam_optax
from padam_optax.data.images import DataError
from padam_optax.experiments import EXPERIMENTS
from padam_optax.records.files import StoreError
from padam_optax.records.lock import locked
from padam_optax.records.record import Record, RecordError
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import load_data
from padam_optax.runner.programs import trainer_for
from padam_optax.runner.run import run
from padam_optax.training import processes
from padam_optax.training.checkpoint import CheckpointError, Checkpoints, CheckpointWarning
from padam_optax.training.placement import Placement

ROOT = pathlib.Path(padam_optax.__file__).parents[1]
EPOCHS = 8
STEPS = 1_000 // 128
SPEC = EXPERIMENTS["digits-padam"].with_epochs(EPOCHS)
TIMES = {"seconds", "examples_per_second"}


@pytest.fixture(scope="module")
def data():
    return load_data(SPEC, None, "")


@pytest.fixture(scope="module")
def never_stopped(data, tmp_path_factory) -> Record:
    return run(SPEC, 0, data, tmp_path_factory.mktemp("whole"), checkpoint_every=0)


def last_state(out: pathlib.Path):
    """What the newest checkpoint holds."""
    settings = {name: jnp.asarray(value) for name, value in SPEC.hyperparameters.items()}
    like = trainer_for(SPEC, 1_000, 10).init(jnp.int32(0), settings)
    with Checkpoints(RunDirectory(out, SPEC.name, 0).checkpoints) as checkpoints:
        state, _ = checkpoints.restore(like)
    return state


@pytest.fixture(scope="module")
def final_state(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("with checkpoints")
    run(SPEC, 0, data, out)
    return last_state(out)


def assert_bit_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def without_times(record: Record) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in record.metrics]


def stop_after(epoch: int):
    """As Ctrl-C once that epoch is recorded."""

    def on_epoch(line):
        if line["epoch"] == epoch:
            raise KeyboardInterrupt

    return on_epoch


def start_and_stop(epoch: int, data, out: pathlib.Path, spec=SPEC, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(spec, 0, data, out, on_epoch=stop_after(epoch), **options)


def starts_anew(epochs: int):
    return pytest.warns(CheckpointWarning, match=f"holds {epochs} epochs but no checkpoint: the run starts anew")


def with_rate(learning_rate: float):
    return dataclasses.replace(SPEC, hyperparameters={**SPEC.hyperparameters, "learning_rate": learning_rate})


def test_metrics(never_stopped):
    assert never_stopped.finished
    assert not never_stopped.diverged
    assert [line["epoch"] for line in never_stopped.metrics] == list(range(1, EPOCHS + 1))
    for line in never_stopped.metrics:
        assert set(line) == {
            "epoch",
            "train_loss",
            "train_error",
            "test_loss",
            "test_error",
            "learning_rate",
            *TIMES,
        }
        assert 0 <= line["train_error"] <= 1
        assert 0 <= line["test_error"] <= 1
        assert line["seconds"] > 0
    rates = [line["learning_rate"] for line in never_stopped.metrics]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)


def test_learns(data, tmp_path):
    """In 56 steps, at ten times the rate: from chance, 0.9, to most digits."""
    record = run(with_rate(1.0), 0, data, tmp_path, checkpoint_every=0)
    assert record.metrics[-1]["train_loss"] < 0.5 * record.metrics[0]["train_loss"]
    assert record.metrics[-1]["test_error"] < 0.5


def test_config(never_stopped, data):
    config = never_stopped.config()
    assert set(config) == {"format", "experiment", "seed", "data", "versions", "device"}
    assert config["experiment"] == dataclasses.asdict(SPEC) | {
        "task": {"kind": "image_classification"} | dataclasses.asdict(SPEC.task)
    }
    assert never_stopped.experiment == SPEC
    assert config["seed"] == 0
    assert config["data"] == {
        "label": "digits",
        "train_examples": 1_000,
        "test_examples": 797,
        "sha256": data.sha256,
    }
    assert set(config["versions"]) == {"python", "padam_optax", "jax", "jaxlib", "optax", "flax", "numpy"}
    assert config["versions"]["padam_optax"] == padam_optax.__version__
    assert config["versions"]["jax"] == jax.__version__
    assert config["device"]["platform"] == jax.devices()[0].platform
    assert config["device"]["kind"]
    assert config["device"]["cpu_count"] >= 1
    assert (config["device"]["count"], config["device"]["processes"]) == (1, 1)


def test_same_seed_same_metrics(never_stopped, data, tmp_path):
    assert without_times(run(SPEC, 0, data, tmp_path)) == without_times(never_stopped)


def test_other_seed_other_metrics(never_stopped, data, tmp_path):
    other = run(SPEC, 1, data, tmp_path, checkpoint_every=0)
    assert all(one != two for one, two in zip(without_times(other), without_times(never_stopped), strict=True))
    assert other.seed == 1


def test_on_epoch_sees_what_is_recorded(data, tmp_path):
    lines = []

    def on_epoch(line):
        lines.append(line)
        assert RunDirectory(tmp_path, SPEC.name, 0).read().metrics == lines

    assert run(SPEC, 0, data, tmp_path, checkpoint_every=0, on_epoch=on_epoch).metrics == lines


@pytest.mark.parametrize(
    ("checkpoint_every", "stopped", "repeated_from"),
    [(1, 2, 3), (3, 2, 1), (3, 3, 4), (3, 5, 4), (0, 5, 1)],
    ids=["each epoch", "before the first", "at a checkpoint", "past a checkpoint", "no checkpoints"],
)
def test_resumed_equals_never_stopped(never_stopped, data, tmp_path, checkpoint_every, stopped, repeated_from):
    start_and_stop(stopped, data, tmp_path, checkpoint_every=checkpoint_every)
    lines = []
    with starts_anew(stopped) if repeated_from == 1 else contextlib.nullcontext():
        record = run(SPEC, 0, data, tmp_path, checkpoint_every=checkpoint_every, on_epoch=lines.append)
    assert lines[0]["epoch"] == repeated_from
    assert without_times(record) == without_times(never_stopped)


@pytest.mark.parametrize("step", ["save", "append"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_crash_while_recording(never_stopped, data, tmp_path, monkeypatch, step, after):
    """Between checkpoint and metrics too, whichever comes first: no epoch is missing or there twice."""
    from padam_optax.runner import run as module

    owner = {"save": module.Checkpoints, "append": module.RunDirectory}[step]
    whole = getattr(owner, step)
    calls = []

    def crash(self, *arguments):
        calls.append(None)
        if len(calls) < 3 or after:
            whole(self, *arguments)
        if len(calls) == 3:
            raise OSError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, crash)
        with pytest.raises(OSError, match="crash"):
            run(SPEC, 0, data, tmp_path, checkpoint_every=1)
    assert without_times(run(SPEC, 0, data, tmp_path, checkpoint_every=1)) == without_times(never_stopped)


def test_resumed_with_other_checkpoints(never_stopped, data, tmp_path):
    """Starting anew without checkpoints leaves none from before that a third attempt could take."""
    start_and_stop(5, data, tmp_path, checkpoint_every=1)
    with starts_anew(5):
        start_and_stop(2, data, tmp_path, checkpoint_every=0)
    with starts_anew(2):
        record = run(SPEC, 0, data, tmp_path)
    assert without_times(record) == without_times(never_stopped)


def newest_checkpoints(out: pathlib.Path) -> list[pathlib.Path]:
    """The newest first."""
    return sorted(RunDirectory(out, SPEC.name, 0).checkpoints.iterdir(), key=lambda path: -int(path.name))


def test_the_newest_checkpoint_is_damaged(never_stopped, final_state, data, tmp_path):
    start_and_stop(5, data, tmp_path, checkpoint_every=1)
    newest, before = newest_checkpoints(tmp_path)
    (newest / "state" / "manifest.ocdbt").write_bytes(b"")
    lines = []
    with pytest.warns(CheckpointWarning) as caught:
        record = run(SPEC, 0, data, tmp_path, checkpoint_every=1, on_epoch=lines.append)
    (warning,) = caught
    assert [path for path in (newest, before) if str(path) not in str(warning.message)] == []
    assert lines[0]["epoch"] == int(before.name) // STEPS + 1
    assert without_times(record) == without_times(never_stopped)
    assert_bit_equal(last_state(tmp_path), final_state)


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_run_in_the_same_folder_is_refused(data, tmp_path, monkeypatch, resume):
    """Before anything is compiled or written; of all processes that train together none goes on."""
    start_and_stop(2, data, tmp_path)
    path = RunDirectory(tmp_path, SPEC.name, 0).path
    left = {file: file.read_bytes() for file in path.glob("*.json*")}
    monkeypatch.setattr("padam_optax.runner.programs._trainer", None)
    with locked(path), pytest.raises(StoreError, match=rf"{path} is in use by process {os.getpid()} on "):
        run(SPEC, 0, data, tmp_path, resume=resume)
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "anywhere", lambda flag: True)
    with pytest.raises(StoreError, match=rf"{path} cannot be written; process 0 says why"):
        run(SPEC, 0, data, tmp_path, resume=resume)
    assert {file: file.read_bytes() for file in path.glob("*.json*")} == left


def test_what_ended_meanwhile_is_not_run_again(data, tmp_path, monkeypatch):
    """As where another process ends the run between the first look and the lock."""
    whole = run(SPEC, 0, data, tmp_path)
    begun = dataclasses.replace(whole, metrics=whole.metrics[:2])
    looks = iter([begun, whole])
    monkeypatch.setattr(RunDirectory, "read", lambda self: next(looks))
    monkeypatch.setattr("padam_optax.runner.programs._trainer", None)
    assert run(SPEC, 0, data, tmp_path) == whole


def test_a_folder_that_cannot_be_written(data, tmp_path, monkeypatch):
    """As on a read-only disk: a run that ended is read as ever, another ends in one line."""
    whole = run(SPEC, 0, data, tmp_path)

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(pathlib.Path, "mkdir", lambda *_, **__: refuse())
    assert run(SPEC, 0, data, tmp_path) == whole
    for options in ({"resume": False}, {"seed": 1}):
        with pytest.raises(StoreError, match="could not be written: Read-only file system"):
            run(SPEC, **{"seed": 0, "data": data, "out": tmp_path, **options})


def damage_all_checkpoints(path: pathlib.Path) -> None:
    for checkpoint in (path / "checkpoints").iterdir():
        (checkpoint / "state" / "manifest.ocdbt").unlink()


def remove_a_line(path: pathlib.Path) -> None:
    lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (path / "metrics.jsonl").write_bytes(b"".join(lines[:1] + lines[2:]))


LOST = {
    "each checkpoint": (damage_all_checkpoints, CheckpointError, "No checkpoint in .*manifest.ocdbt is missing"),
    "the folder": (lambda path: shutil.rmtree(path / "checkpoints"), RecordError, "5 epochs but no checkpoint"),
    "config": (lambda path: (path / "config.json").unlink(), RecordError, "checkpoints but no config.json"),
    "a line": (remove_a_line, RecordError, "metrics.jsonl lacks epoch 2,"),
    "metrics": (lambda path: (path / "metrics.jsonl").unlink(), RecordError, "metrics.jsonl lacks epoch 1, 2, 3, 4"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_is_never_trained_anew_unasked(never_stopped, data, tmp_path, case):
    lose, error, message = LOST[case]
    start_and_stop(5, data, tmp_path, checkpoint_every=1)
    path = RunDirectory(tmp_path, SPEC.name, 0).path
    lose(path)
    left = {file: file.read_bytes() for file in path.glob("*.json*")}
    with pytest.raises(error, match=message) as caught:
        run(SPEC, 0, data, tmp_path, checkpoint_every=1)
    assert "--no-resume" in str(caught.value)
    assert {file: file.read_bytes() for file in path.glob("*.json*")} == left
    record = run(SPEC, 0, data, tmp_path, resume=False, checkpoint_every=0)
    assert without_times(record) == without_times(never_stopped)


def test_a_disk_that_is_full_for_a_while(never_stopped, final_state, data, tmp_path):
    """The checkpoint of epoch 3 does not fit; what there was is intact, and the same call goes on from epoch 2."""
    with contextlib.ExitStack() as full, pytest.raises(CheckpointError, match="File too large"):
        run(
            SPEC,
            0,
            data,
            tmp_path,
            checkpoint_every=1,
            on_epoch=lambda line: line["epoch"] == 2 and full.enter_context(largest_file(10_000)),
        )
    assert [line["epoch"] for line in RunDirectory(tmp_path, SPEC.name, 0).read().metrics] == [1, 2, 3]
    lines = []
    record = run(SPEC, 0, data, tmp_path, checkpoint_every=1, on_epoch=lines.append)
    assert lines[0]["epoch"] == 3
    assert without_times(record) == without_times(never_stopped)
    assert_bit_equal(last_state(tmp_path), final_state)


def test_stopped_within_an_epoch_and_resumed(never_stopped, final_state, data, tmp_path, monkeypatch):
    """Asked to stop after every single step of two epochs: as many checkpoints, the same numbers."""
    monkeypatch.setattr("padam_optax.training.epoch._CALL_SECONDS", 0.0)
    monkeypatch.setattr("padam_optax.training.epoch._FIRST_STEPS", 1)
    done = []
    while not (record := run(SPEC, 0, data, tmp_path, should_stop=lambda: len(done) < 2 * STEPS)).finished:
        done.append(record.epochs)
    assert done == [step // STEPS for step in range(1, 2 * STEPS + 1)]
    assert without_times(record) == without_times(never_stopped)
    assert_bit_equal(last_state(tmp_path), final_state)


def test_told_to_stop_without_checkpoints(data, tmp_path):
    record = run(SPEC, 0, data, tmp_path, checkpoint_every=0, should_stop=lambda: True)
    assert not record.finished
    assert not RunDirectory(tmp_path, SPEC.name, 0).checkpoints.exists()


def events(out: pathlib.Path) -> list[tuple[str, int, float]]:
    """Name, step and value of each event of a run."""
    folder = RunDirectory(out, SPEC.name, 0).path / "tensorboard"
    found = []
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            # Each is its length, a checksum of that, a message, and a checksum of it.
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return sorted(found)


def test_event_files(data, tmp_path):
    """Each step once, resumed from before the last one too; a replaced run leaves none of its own."""
    start_and_stop(5, data, tmp_path, checkpoint_every=2, tensorboard=True)
    mine = RunDirectory(tmp_path, SPEC.name, 0).path / "tensorboard" / "notes.txt"
    mine.touch()
    record = run(SPEC, 0, data, tmp_path, checkpoint_every=2, tensorboard=True)
    found = events(tmp_path)
    assert {name for name, *_ in found} >= {"train/loss", "test/error", "learning/rate"}
    for name, field in (("train/loss", "train_loss"), ("learning/rate", "learning_rate")):
        expected = [(line["epoch"], pytest.approx(line[field], rel=1e-6)) for line in record.metrics]
        assert [(step, value) for each, step, value in found if each == name] == expected
    run(SPEC.with_epochs(1), 0, data, tmp_path, resume=False, checkpoint_every=0, tensorboard=True)
    assert {step for _, step, _ in events(tmp_path)} == {1}
    run(SPEC.with_epochs(1), 0, data, tmp_path, resume=False, checkpoint_every=0)
    assert events(tmp_path) == []
    assert mine.exists()


def test_a_run_that_shared_its_device_for_a_while(data, tmp_path):
    """The record says so however it goes on, as times of those epochs compare nothing; of a new one it does not."""
    start_and_stop(2, data, tmp_path, checkpoint_every=1, jobs=3)
    record = run(SPEC, 0, data, tmp_path, should_stop=lambda: True)
    assert (record.epochs, record.device.jobs) == (2, 3)
    assert run(SPEC.with_epochs(1), 0, data, tmp_path, resume=False).device.jobs == 1


def test_killed_and_resumed_equals_never_stopped(never_stopped, final_state, tmp_path):
    command = [sys.executable, "-m", "padam_optax", "run", SPEC.name, "--epochs", str(EPOCHS)]
    command += ["--checkpoint-every", "1", "--out", str(tmp_path)]
    pause = random.uniform(0, 0.2)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if "epoch 1:" in line:
                time.sleep(pause)
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL, f"not killed {pause} s after the first epoch"
    directory = RunDirectory(tmp_path, SPEC.name, 0)
    assert 1 <= len(directory.read().metrics) < EPOCHS, pause
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert without_times(directory.read()) == without_times(never_stopped), pause
    assert_bit_equal(last_state(tmp_path), final_state)


def test_finished_run_is_not_run_again(data, tmp_path, monkeypatch):
    """Nothing is even compiled."""
    first = run(SPEC, 0, data, tmp_path)
    monkeypatch.setattr("padam_optax.runner.programs._trainer", None)
    lines = []
    assert run(SPEC, 0, data, tmp_path, on_epoch=lines.append) == first
    assert lines == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hyperparameters": {**SPEC.hyperparameters, "p": 0.25}}, ["experiment", "hyperparameters"]),
        ({"epochs": EPOCHS + 1, "batch_size": 64}, ["experiment", "epochs", "batch_size"]),
    ],
)
def test_other_configuration_is_refused(data, tmp_path, change, words):
    start_and_stop(1, data, tmp_path)
    before = RunDirectory(tmp_path, SPEC.name, 0).read()
    with pytest.raises(ValueError) as caught:
        run(dataclasses.replace(SPEC, **change), 0, data, tmp_path)
    wanted = [*words, str(tmp_path), "--out", "--no-resume"]
    assert [word for word in wanted if word not in str(caught.value)] == []
    assert RunDirectory(tmp_path, SPEC.name, 0).read() == before


def test_other_data_are_refused(data, tmp_path):
    start_and_stop(1, data, tmp_path)
    with pytest.raises(ValueError, match=r"another data \(sha256 differ\)"):
        run(SPEC, 0, dataclasses.replace(data, sha256="0"), tmp_path)


@pytest.mark.parametrize("stopped", [None, 2], ids=["whole", "stopped"])
def test_replaced(never_stopped, data, tmp_path, stopped):
    """Nothing of the replaced run is left, its checkpoints included: one stopped goes on from its own."""
    run(with_rate(0.01), 0, data, tmp_path, checkpoint_every=1)
    if stopped:
        start_and_stop(stopped, data, tmp_path, resume=False, checkpoint_every=1)
        lines = []
        record = run(SPEC, 0, data, tmp_path, checkpoint_every=1, on_epoch=lines.append)
        assert lines[0]["epoch"] == stopped + 1
    else:
        record = run(SPEC, 0, data, tmp_path, resume=False, checkpoint_every=1)
    assert record.config() == never_stopped.config()
    assert without_times(record) == without_times(never_stopped)


def test_diverged(data, tmp_path):
    lines = []
    record = run(with_rate(1e30), 0, data, tmp_path, on_epoch=lines.append)
    assert record.diverged
    assert record.finished
    assert set(record.metrics[-1]) == {"epoch", "diverged_step"}
    epoch = record.metrics[-1]["epoch"]
    assert (epoch - 1) * STEPS <= record.metrics[-1]["diverged_step"] < epoch * STEPS
    assert lines == record.metrics
    assert run(with_rate(1e30), 0, data, tmp_path, on_epoch=lines.append) == record
    assert lines == record.metrics


@pytest.mark.usefixtures("never_stopped")
def test_other_numbers_compile_nothing(data, tmp_path, monkeypatch):
    """Another rate, whole numbers included, another p and another seed are arguments of the program there is."""
    from padam_optax.runner import programs as module

    def traced(*_, **__):
        raise AssertionError("compiled anew")

    monkeypatch.setattr(module, "make_optimizer", traced)
    other = dataclasses.replace(SPEC, hyperparameters={**SPEC.hyperparameters, "learning_rate": 1, "p": 0.25})
    assert run(other, 3, data, tmp_path, checkpoint_every=0).finished
    with pytest.raises(AssertionError, match="compiled anew"):
        run(dataclasses.replace(SPEC, factor=0.2), 0, data, tmp_path / "other", checkpoint_every=0)


def test_batch_must_be_filled(data, tmp_path):
    with pytest.raises(DataError, match="1000 training examples do not fill one batch of 1001"):
        run(dataclasses.replace(SPEC, batch_size=1_001), 0, data, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_batch_must_be_divisible_among_devices(data, tmp_path):
    mesh = jax.sharding.AbstractMesh((129,), ("data",))
    with pytest.raises(ValueError, match=r"a batch of 128 cannot be divided among 129 devices.*--devices"):
        run(SPEC, 0, data, tmp_path, placement=Placement(mesh))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("held_out", "sizes"), [(None, (600, 797)), (0.2, (480, 120))])
def test_load_data_takes_the_experiments_part(held_out, sizes):
    data = load_data(dataclasses.replace(SPEC, train_examples=600).with_task(held_out=held_out), None, "")
    assert (len(data.train), len(data.test)) == sizes


def test_load_data_needs_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PADAM_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"padam data fetch cifar10.*--data-dir"):
        load_data(EXPERIMENTS["cifar10-mini-padam"], None, "cifar10-jpeg")
