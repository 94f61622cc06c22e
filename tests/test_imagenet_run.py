"""An ImageNet experiment from JPEG files: stopped within an epoch, gone on with, evaluated on every image."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from padam_optax.experiments import DataError, find
from padam_optax.experiments.datasets import load_data
from padam_optax.experiments.records import RunDirectory
from padam_optax.experiments.run import run

CLASSES, TRAIN, VAL = 3, 7, 2
SPEC = dataclasses.replace(
    find("imagenet-resnet18-padam"), image_size=32, batch_size=4, epochs=2, milestones=(1,), train_examples=None
)
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
    assert (whole.config["data"]["train_examples"], whole.config["data"]["test_examples"]) == (21, 6)
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
        run(dataclasses.replace(SPEC, reestimate_statistics=True), 0, data, tmp_path)
    with pytest.raises(DataError, match="from a folder"):
        load_data(dataclasses.replace(SPEC, train_examples=5), folder, "noise")


def test_folder_is_needed():
    with pytest.raises(DataError, match=r"--data-dir.*train/<class>"):
        load_data(SPEC, None, "")
