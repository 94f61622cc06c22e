"""What a run leaves on disk, and how it is read."""

import dataclasses
import json
import pathlib
import re

import pytest
from full_disk import largest_file

from padam_optax.experiments import EXPERIMENTS, find
from padam_optax.experiments.methods import ParameterGroup
from padam_optax.experiments.spec import Experiment, ImageClassification
from padam_optax.records.files import StoreError
from padam_optax.records.record import DataSource, Device, Record, RecordError, SharedProgram, from_json
from padam_optax.records.store import RunDirectory, read_all


def begun(epochs: int = 3, name: str = "some-padam", seed: int = 0) -> Record:
    spec = dataclasses.replace(find("digits-padam"), name=name, epochs=epochs)
    return Record(spec, seed, DataSource("digits"), Device("abacus"))


def line(epoch: int) -> dict:
    return {"epoch": epoch, "train_loss": 1 / 3**epoch}


def written(out: pathlib.Path, epochs: int, name: str = "some-padam", seed: int = 0) -> RunDirectory:
    run = RunDirectory(out, name, seed)
    run.start(begun(name=name, seed=seed), 0)
    for epoch in range(1, epochs + 1):
        run.append(line(epoch))
    return run


def files(out: pathlib.Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


def test_where(tmp_path):
    written(tmp_path, 1, "cifar10-mini-padam", 4)
    folder = "cifar10-mini-padam/seed-4"
    assert files(tmp_path) == {f"{folder}/config.json", f"{folder}/metrics.jsonl"}
    assert RunDirectory(tmp_path, "cifar10-mini-padam", 4).checkpoints == tmp_path / folder / "checkpoints"


def test_comes_back(tmp_path):
    """Floats to their last bit, one JSON object a line."""
    run = written(tmp_path, 3)
    record = run.read()
    assert record == dataclasses.replace(begun(), metrics=record.metrics)
    assert record.metrics == [line(1), line(2), line(3)]
    text = (run.path / "metrics.jsonl").read_text()
    assert list(map(json.loads, text.splitlines())) == record.metrics


def test_never_started(tmp_path):
    assert RunDirectory(tmp_path, "some-padam", 0).read() is None
    assert read_all(tmp_path) == []
    assert read_all(tmp_path / "nowhere") == []


def test_started_only(tmp_path):
    record = written(tmp_path, 0).read()
    assert record.metrics == []
    assert not record.finished
    assert not record.diverged


@pytest.mark.parametrize("cut", [1, 5, len(json.dumps(line(3)))])
def test_line_cut_short_is_left_out(tmp_path, cut):
    """Even one that only lacks its end: it may be a number's first digits."""
    run = written(tmp_path, 3)
    path = run.path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert run.read().metrics == [line(1), line(2)]
    run.start(begun(), 3)
    run.append(line(3))
    assert run.read().metrics == [line(1), line(2), line(3)]


@pytest.mark.parametrize("damaged", [b'{"epo', b"", b"5", b"{}", b"\xff"])
def test_damaged_line(tmp_path, damaged):
    """Not the last one, so that no crash of ours explains it."""
    run = written(tmp_path, 3)
    path = run.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0], damaged + b"\n", lines[2])))
    with pytest.raises(RecordError, match=f"^{re.escape(str(path))}, line 2, is damaged"):
        read_all(tmp_path)


def test_damaged_config(tmp_path):
    run = written(tmp_path, 3)
    path = run.path / "config.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(RecordError, match=f"^{re.escape(str(path))} is damaged"):
        run.read()


@pytest.mark.parametrize("kept", [0, 2, 3, 9])
def test_start_keeps_the_first_epochs(tmp_path, kept):
    run = written(tmp_path, 3)
    run.start(begun(4, name="new"), kept)
    record = run.read()
    assert record == dataclasses.replace(begun(4, name="new"), metrics=record.metrics)
    assert record.metrics == [line(epoch) for epoch in range(1, min(kept, 3) + 1)]


@pytest.mark.parametrize(
    ("metrics", "finished", "diverged"),
    [
        ([], False, False),
        ([line(1), line(2)], False, False),
        ([line(1), line(2), line(3)], True, False),
        ([line(1), {"epoch": 2, "diverged_step": 9}], True, True),
    ],
)
def test_finished(metrics, finished, diverged):
    record = dataclasses.replace(begun(3), metrics=metrics)
    assert (record.finished, record.diverged) == (finished, diverged)


def test_read_all_in_the_order_of_paths(tmp_path):
    for name, seed in (("b-adam", 0), ("a-padam", 1), ("a-padam", 0), ("a-adam", 2)):
        written(tmp_path / "below", 1, name, seed)
    found = [(record.experiment.name, record.seed) for record in read_all(tmp_path)]
    assert found == [("a-adam", 2), ("a-padam", 0), ("a-padam", 1), ("b-adam", 0)]


def test_read_all_takes_runs_only(tmp_path):
    """Other programs have a config.json too."""
    written(tmp_path, 1)
    other = tmp_path / "some-padam" / "notes"
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert len(read_all(tmp_path)) == 1


def test_no_part_is_left_behind(tmp_path):
    run = written(tmp_path, 2)
    run.start(begun(), 1)
    assert files(tmp_path) == {"some-padam/seed-0/config.json", "some-padam/seed-0/metrics.jsonl"}


def test_no_link_is_followed_to_another_file(tmp_path):
    """The names of what is written aside cannot be foreseen."""
    run = written(tmp_path, 1)
    other = tmp_path / "other"
    other.write_text("another file")
    for name in ("config.json.part", "metrics.jsonl.part"):
        (run.path / name).symlink_to(other)
    run.start(begun(), 1)
    assert other.read_text() == "another file"
    assert run.read().metrics == [line(1)]


def test_checkpoints_behind_a_link_are_not_removed(tmp_path):
    run = written(tmp_path, 1)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "3").mkdir(parents=True)
    run.checkpoints.symlink_to(elsewhere)
    with pytest.raises(StoreError, match=rf"^{run.checkpoints} is a link to {elsewhere}: .*Remove the link"):
        run.discard_checkpoints()
    assert (elsewhere / "3").is_dir()
    run.checkpoints.unlink()
    run.checkpoints.mkdir()
    (run.checkpoints / "3").symlink_to(elsewhere)
    run.discard_checkpoints()
    assert (elsewhere / "3").is_dir()
    assert not run.checkpoints.exists()


def test_a_full_disk_leaves_the_old_record(tmp_path):
    """What is written aside never takes the place of a whole file before it is whole itself."""
    run = written(tmp_path, 2)
    before = run.read()
    with (
        largest_file(50),
        pytest.raises(StoreError, match=r"metrics\.jsonl could not be written: File too large.*intact"),
    ):
        run.start(begun(9), 2)
    assert run.read() == before
    run.start(begun(9), 2)
    assert run.read().metrics == [line(1), line(2)]


@pytest.mark.parametrize("room", [0, 7])
def test_a_full_disk_cuts_the_line_that_is_written_only(tmp_path, room):
    run = written(tmp_path, 2)
    path = run.path / "metrics.jsonl"
    with (
        largest_file(path.stat().st_size + room),
        pytest.raises(StoreError, match=r"metrics\.jsonl could not be written: File too large"),
    ):
        run.append(line(3))
    assert run.read().metrics == [line(1), line(2)]
    run.start(begun(), 2)
    run.append(line(3))
    assert run.read().metrics == [line(1), line(2), line(3)]


@pytest.mark.parametrize("spec", EXPERIMENTS.values(), ids=EXPERIMENTS)
def test_every_experiment_comes_back(spec):
    """Through JSON, its task, group and paper's numbers included."""
    record = Record(spec, 3, DataSource("some", 10, 5, "sum"), Device("abacus", "cpu", 2, 8, 2), {"jax": "1"})
    assert from_json(json.loads(json.dumps(record.config())), []) == record


def test_how_a_sweep_shared_its_program_comes_back():
    record = dataclasses.replace(begun(), sweep=SharedProgram("mapped", 4))
    assert from_json(json.loads(json.dumps(record.config())), []) == record


def changed(path: str, value) -> dict:
    """A record's JSON with another value at a place such as `experiment.task.kind`."""
    config = json.loads(json.dumps(begun().config()))
    *parts, last = path.split(".")
    place = config
    for part in parts:
        place = place[part]
    place[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seed", "0", "seed must be int, got '0'"),
        ("seed", True, "seed must be int, got True"),
        ("experiment.name", 5, "experiment.name must be str, got 5"),
        ("experiment.epochs", None, "experiment.epochs must be int, got None"),
        ("experiment.hyperparameters.p", "1/8", "experiment.hyperparameters.p must be float, got '1/8'"),
        ("experiment.milestones", [20, "30"], r"experiment.milestones\[1\] must be int, got '30'"),
        ("experiment.milestones", 20, "experiment.milestones must be .*, got 20"),
        ("experiment.task.kind", "poetry", "experiment.task.kind must be one of image_classification, language_mod"),
        ("experiment.task.held_out", "all", "experiment.task.held_out must be float, got 'all'"),
        ("experiment.color", "red", "experiment.'color' is unknown; experiment has name, suite"),
        ("experiment", [], "experiment must be a JSON object"),
        ("experiment.moment_dtype", 16, "experiment.moment_dtype must be .*, got 16"),
        ("data.label", None, "data.label must be str, got None"),
        ("device", {}, "has no device.kind"),
        ("format", 99, "has the format 99; this version reads 2"),
    ],
)
def test_what_is_no_record(path, value, message):
    with pytest.raises(RecordError, match=f"^here.* {message}|^here:? {message}"):
        from_json(changed(path, value), [], "here")


@pytest.mark.parametrize("config", [None, [], {}, {"experiment": 5}, {"experiment": {"name": "x"}}, {"format": 2}])
def test_what_is_no_record_at_all(config):
    with pytest.raises(RecordError, match=r"^here"):
        from_json(config, [], "here")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([None], "must be a JSON object, got None"),
        ([{}], "has no epoch"),
        ([{"epoch": "1"}], ": epoch must be int, got '1'"),
        ([{"epoch": 1}, {"epoch": 1.5}], ": epoch must be int, got 1.5"),
        ([{"epoch": 0}], ": epoch must be at least 1, got 0"),
    ],
)
def test_lines_without_an_epoch(lines, message):
    with pytest.raises(RecordError, match=f"^here: line {len(lines)} of the metrics ?{message}"):
        from_json(begun().config(), lines, "here")


# As version 0.1.0 wrote them, shortened.
OLD = {
    "model": "small-cnn",
    "dataset": "digits",
    "epochs": 40,
    "milestones": [20, 30],
    "paper": [{"metric": "test_error", "value": 94.94, "source": "Table 1"}],
}
OLD_LANGUAGE = {
    "layers": 2,
    "embedding": 128,
    "hidden": 128,
    "vocabulary": 2000,
    "window": 35,
    "random_window": False,
    "eval_columns": [10, 10],
    "word_dropout": 0.1,
    "input_dropout": 0.4,
    "between_dropout": 0.25,
    "output_dropout": 0.4,
    "weight_dropout": 0.5,
    "activation_regularization": 2.0,
    "temporal_regularization": 1.0,
    "gradient_clip": 0.25,
}


def upgraded(name: str, settings: dict, optimizer: str = "padam", **other) -> Experiment:
    experiment = OLD | {"name": name, "optimizer": optimizer, "hyperparameters": settings} | other
    return from_json(
        {"experiment": experiment, "seed": 0, "data": {"label": "x"}, "device": {"kind": "y"}}, []
    ).experiment


@pytest.mark.parametrize(
    ("name", "suite", "variant_of", "trial"),
    [
        ("cifar10-mini-padam", "cifar10-mini", None, ()),
        ("cifar10-mini-padam-falling-p", "cifar10-mini", "cifar10-mini-padam", ()),
        ("cifar10-resnet18-padam-p1_4", "cifar10-resnet18", "cifar10-resnet18-padam", ()),
        ("digits-padam@learning_rate=0.1,p=0.25", "digits", "digits-padam", ("learning_rate", "p")),
        ("something-else", "something-else", None, ()),
    ],
)
def test_identity_of_old_records(name, suite, variant_of, trial):
    found = upgraded(name, {"learning_rate": 0.1, "p": 0.25})
    assert (found.suite, found.variant_of, found.trial) == (suite, variant_of, trial)
    assert found.paper[0].table == 1
    assert found.bias_correction == "official"


@pytest.mark.parametrize(
    ("more", "optimizer"),
    [
        ({}, "padam"),
        ({"final_p": 0.0}, "padam-falling"),
        ({"final_p": 0.0, "rate_p": 0.25, "root": 1e-3}, "padam-falling-converted"),
        ({"rate_p": 0.25, "root": 1e-3}, "padam-converted"),
        ({"group_p": 0.4, "rate_p": 0.25, "root": 1e-3, "group_root": 1e-2}, "padam-by-group-converted"),
        ({"normalized_weight_decay": 0.025}, "padamw"),
    ],
)
def test_forms_of_padam_in_old_records(more, optimizer):
    found = upgraded("a-padam", {"learning_rate": 0.1, "p": 0.25, **more})
    assert found.optimizer == optimizer
    assert found.group == (ParameterGroup(most_axes=1) if "group_p" in more else None)


def test_tasks_of_old_records():
    images = upgraded("a-padam", {"learning_rate": 0.1}, held_out=0.2, augmentation=["flip"], norm_scale_init="uniform")
    assert images.task == ImageClassification(augmentation=("flip",), held_out=0.2)
    assert images.model_options == {"norm_scale_init": "uniform"}
    assert images.is_trial
    text = upgraded("a-padam", {"learning_rate": 0.1}, language=OLD_LANGUAGE)
    assert text.task == find("ptb-mini-padam").task
    assert text.model_options == find("ptb-mini-padam").model_options
