"""What a run leaves on disk, and how it is read."""

import json
import pathlib
import re

import pytest
from full_disk import largest_file

from padam_optax.data.images import DataError
from padam_optax.records.store import Record, RunDirectory, read_all


def config(epochs: int = 3, **other) -> dict:
    return {"experiment": {"epochs": epochs}, **other}


def line(epoch: int) -> dict:
    return {"epoch": epoch, "train_loss": 1 / 3**epoch}


def written(out: pathlib.Path, epochs: int, name: str = "some-padam", seed: int = 0) -> RunDirectory:
    run = RunDirectory(out, name, seed)
    run.start(config(name=name, seed=seed), 0)
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
    assert record.config == config(name="some-padam", seed=0)
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
    run.start(config(), 3)
    run.append(line(4))
    assert run.read().metrics == [line(1), line(2), line(4)]


@pytest.mark.parametrize("damaged", [b'{"epo', b"", b"5", b"{}", b"\xff"])
def test_damaged_line(tmp_path, damaged):
    """Not the last one, so that no crash of ours explains it."""
    run = written(tmp_path, 3)
    path = run.path / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0], damaged + b"\n", lines[2])))
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}, line 2, is damaged"):
        read_all(tmp_path)


def test_damaged_config(tmp_path):
    run = written(tmp_path, 3)
    path = run.path / "config.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} is damaged"):
        run.read()


@pytest.mark.parametrize("kept", [0, 2, 3, 9])
def test_start_keeps_the_first_epochs(tmp_path, kept):
    run = written(tmp_path, 3)
    run.start(config(4, name="new"), kept)
    record = run.read()
    assert record.config == config(4, name="new")
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
    record = Record(config(3), metrics)
    assert (record.finished, record.diverged) == (finished, diverged)


def test_read_all_in_the_order_of_paths(tmp_path):
    for name, seed in (("b-adam", 0), ("a-padam", 1), ("a-padam", 0), ("a-adam", 2)):
        written(tmp_path / "below", 1, name, seed)
    found = [(record.config["name"], record.config["seed"]) for record in read_all(tmp_path)]
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
    run.start(config(), 1)
    assert files(tmp_path) == {"some-padam/seed-0/config.json", "some-padam/seed-0/metrics.jsonl"}


def test_a_full_disk_leaves_the_old_record(tmp_path):
    """What is written aside never takes the place of a whole file before it is whole itself."""
    run = written(tmp_path, 2)
    before = run.read()
    with (
        largest_file(50),
        pytest.raises(DataError, match=r"metrics\.jsonl could not be written: File too large.*intact"),
    ):
        run.start(config(9), 2)
    assert run.read() == before
    run.start(config(9), 2)
    assert run.read().metrics == [line(1), line(2)]


@pytest.mark.parametrize("room", [0, 7])
def test_a_full_disk_cuts_the_line_that_is_written_only(tmp_path, room):
    run = written(tmp_path, 2)
    path = run.path / "metrics.jsonl"
    with (
        largest_file(path.stat().st_size + room),
        pytest.raises(DataError, match=r"metrics\.jsonl could not be written: File too large"),
    ):
        run.append(line(3))
    assert run.read().metrics == [line(1), line(2)]
    run.start(config(), 2)
    run.append(line(3))
    assert run.read().metrics == [line(1), line(2), line(3)]
