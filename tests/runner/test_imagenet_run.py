"""An ImageNet experiment from JPEG files: stopped within an epoch, gone on with, evaluated on every image."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from padam_optax.data.images import DataError
from padam_optax.experiments import find
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import load_data, make_source
from padam_optax.runner.run import run
from padam_optax.training import processes
from padam_optax.training.loop import TrainState

CLASSES, TRAIN, VAL = 3, 7, 2
# Its own network, of 11.7 million parameters, trains in tests/models.
SPEC = dataclasses.replace(
    find("imagenet-resnet18-padam"), model="resnet10-mini", batch_size=4, epochs=2, milestones=(1,), train_examples=None
).with_task(image_size=32)
STEPS = CLASSES * TRAIN // 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for number in range(CLASSES):
            directory = root / split / f"n{number:08d}"
            directory.mkdir(parents=True)
            for image in range(count):
                pixels = random.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(directory / f"{image}.JPEG")
    return root


def without_times(record):
    return [
        {name: value for name, value in line.items() if name not in ("seconds", "examples_per_second")}
        for line in record.metrics
    ]


def test_stopped_and_resumed(folder, tmp_path, monkeypatch):
    """Bit-equal to a run never stopped, also with the stops after single steps, where the input's position counts."""
    data = load_data(SPEC, folder, "noise")
    whole = run(SPEC, 0, data, tmp_path / "whole")
    assert [line["epoch"] for line in whole.metrics] == [1, 2]
    assert {"train_error_top5", "test_error", "test_error_top5"} <= set(whole.metrics[0])
    assert (whole.data.train_examples, whole.data.test_examples) == (21, 6)
    assert whole.metrics[0]["test_error"] * 6 == pytest.approx(round(whole.metrics[0]["test_error"] * 6), abs=1e-5)
    monkeypatch.setattr("padam_optax.training.epoch._CALL_SECONDS", 0.0)
    pieces = 0
    while not (record := run(SPEC, 0, data, tmp_path / "pieces", should_stop=lambda: True)).finished:
        pieces += 1
        assert pieces <= SPEC.epochs * (STEPS + 1)
    assert pieces >= STEPS
    assert without_times(record) == without_times(whole)
    assert RunDirectory(tmp_path / "pieces", SPEC.name, 0).checkpoints.is_dir()


def test_what_a_folder_cannot_do(folder, tmp_path):
    data = load_data(SPEC, folder, "noise")
    with pytest.raises(ValueError, match="reestimate_statistics"):
        run(SPEC.with_task(reestimate_statistics=True), 0, data, tmp_path)
    with pytest.raises(DataError, match="from a folder"):
        load_data(dataclasses.replace(SPEC, train_examples=5), folder, "noise")


def test_folder_is_needed():
    with pytest.raises(DataError, match=r"--data-dir.*train/<class>"):
        load_data(SPEC, None, "")


class Reader:
    """Stands in for a trainer: keeps the pictures of each batch, those that count."""

    def __init__(self, devices: int):
        self.placement = types.SimpleNamespace(devices=devices, put_batch=lambda batch: batch)
        self.trained: list[list[bytes]] = []
        self.tested: list[list[bytes]] = []

    def train_batch(self, state, seed, hyperparameters, batch):
        self.trained.append([picture.tobytes() for picture in batch["images"]])
        return dataclasses.replace(state, step=state.step + 1)

    def next_epoch(self, state):
        return state, {}

    def evaluate_batch(self, state, batch, counts):
        self.tested.append([picture.tobytes() for picture in batch["images"][counts]])
        return {"loss": counts.sum()}


def read(data, monkeypatch, process: int, count: int) -> Reader:
    """What one of so many processes reads in an epoch and its evaluation."""
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(processes, "agreed", lambda value: value)
    reader = Reader(2)
    source = make_source(SPEC, data, reader, 0)
    zero = jnp.int32(0)
    source.train_epoch(TrainState(zero, zero, {}, {}, {}, {}, zero - 1), zero, {})
    # The first batch is there twice: it is compiled with a copy of the state.
    del reader.trained[0]
    source.evaluate(None)
    return reader


@pytest.mark.parametrize("count", [5, 6])
def test_two_processes_share_what_one_reads(folder, monkeypatch, count):
    """Each step's images are divided, and so are those of the evaluation: none is read twice, and none is left out.

    The two take equally many batches of the evaluation, though 5 images cannot be divided evenly.
    """
    monkeypatch.setattr("padam_optax.runner.datasets._EVAL_BATCH", 1)
    data = load_data(SPEC, folder, "noise")
    val = dataclasses.replace(data.val, names=data.val.names[:count], labels=data.val.labels[:count])
    data = dataclasses.replace(data, val=val)
    alone = read(data, monkeypatch, 0, 1)
    shares = [read(data, monkeypatch, process, 2) for process in range(2)]
    for step, batch in enumerate(alone.trained):
        parts = [share.trained[step] for share in shares]
        assert [len(part) for part in parts] == [SPEC.batch_size // 2] * 2
        assert sorted(parts[0] + parts[1]) == sorted(batch)
    assert len({picture for batch in alone.trained for picture in batch}) == STEPS * SPEC.batch_size
    assert len(shares[0].tested) == len(shares[1].tested)
    seen = [picture for share in shares for batch in share.tested for picture in batch]
    assert sorted(seen) == sorted(picture for batch in alone.tested for picture in batch)
    assert len(set(seen)) == count
