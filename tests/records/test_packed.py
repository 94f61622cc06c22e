"""Many runs in one file: lossless both ways, on all that is committed, and nothing is lost or misplaced on the way."""

import json
import pathlib
import re

import pytest
from full_disk import largest_file

from padam_optax.records import packed
from padam_optax.records.files import StoreError
from padam_optax.records.record import RecordError
from padam_optax.records.store import read_all

ROOT = pathlib.Path(__file__).parents[2]
RECORDS = ROOT / "benchmarks" / "records"
COMMITTED = sorted(RECORDS.rglob("*.jsonl"))
SMALL = ROOT / "tests" / "support" / "data" / "records" / "small.jsonl"


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def runs(tmp_path) -> pathlib.Path:
    """A folder of 13 runs."""
    packed.unpack(SMALL, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def line(tmp_path):
    """Writes a file of one or more runs, the last one changed, and returns it."""

    def write(count: int = 1, **changes) -> pathlib.Path:
        rows = [json.loads(text) for text in SMALL.read_text().splitlines()[:count]]
        rows[-1] |= changes
        file = tmp_path / "changed.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return file

    return write


@pytest.mark.parametrize("file", [*COMMITTED, SMALL], ids=lambda file: file.stem)
def test_lossless(file, tmp_path):
    """Unpacked and packed again it is the same to the byte, and reading it is reading the folder.

    An infinity, which earlier versions wrote as no JSON has it, becomes a text, and nothing else changes.
    """
    count = len(file.read_bytes().splitlines())
    assert packed.unpack(file, tmp_path / "runs") == count
    assert packed.pack(tmp_path / "runs", tmp_path / "again.jsonl") == count
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes().replace(b": Infinity", b': "Infinity"')
    records = read_all(file)
    assert len(records) == count
    assert records == read_all(tmp_path / "runs")


def test_the_table_of_what_is_committed():
    text = (RECORDS / "README.md").read_text()
    named = re.findall(r"^\| `([^`]+\.jsonl)` \|", text, re.MULTILINE)
    assert sorted(named) == [file.relative_to(RECORDS).as_posix() for file in COMMITTED]


def test_form(runs):
    """The files that `padam run` writes: indented JSON, and one object a line."""
    config = (runs / "own" / "small-adamw" / "seed-0" / "config.json").read_text()
    assert config == json.dumps(json.loads(config), indent=2) + "\n"
    metrics = (runs / "own" / "small-adamw" / "seed-0" / "metrics.jsonl").read_text()
    assert metrics == "".join(json.dumps(json.loads(line)) + "\n" for line in metrics.splitlines())
    row = json.loads(SMALL.read_text().splitlines()[0])
    assert list(row) == ["run", "config", "metrics"]


def test_read_all_takes_both(runs, tmp_path):
    packed.pack(runs / "own", runs / "own.jsonl")
    records = read_all(runs / "own")
    assert read_all(runs) == [*read_all(runs / "jpeg"), *records, *read_all(runs / "short"), *records]
    (tmp_path / "packed").mkdir()
    (runs / "own.jsonl").rename(tmp_path / "packed" / "own.jsonl")
    assert read_all(tmp_path / "packed") == records


def test_checkpoints_stay_behind(runs, tmp_path):
    (runs / "own" / "small-adamw" / "seed-0" / "checkpoints" / "3").mkdir(parents=True)
    (runs / "own" / "small-adamw" / "seed-0" / "checkpoints" / "3" / "values").write_text("3")
    packed.pack(runs, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == SMALL.read_bytes()


def test_line_cut_short_is_left_out(runs, tmp_path):
    """As in reading a folder."""
    path = runs / "own" / "small-adamw" / "seed-0" / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"epo')
    packed.pack(runs, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == SMALL.read_bytes()


def test_no_runs(tmp_path):
    assert packed.pack(tmp_path, tmp_path / "none.jsonl") == 0
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", r"config\.json is damaged: not JSON"),
        ("config.json", '{"experiment": {}}', r"config\.json is not a whole record"),
        ("metrics.jsonl", '{"epoch": 1}\n\n{"epoch": 2}\n', r"metrics\.jsonl, line 2, is damaged"),
        ("metrics.jsonl", '{"epoch": "1"}\n', r"metrics\.jsonl, line 1: epoch must be int, got '1'"),
    ],
)
def test_a_damaged_run_packs_nothing(runs, tmp_path, name, text, message):
    file = tmp_path / "kept.jsonl"
    file.write_text("before")
    (runs / "own" / "small-adamw" / "seed-0" / name).write_text(text)
    with pytest.raises(RecordError, match=message):
        packed.pack(runs, file)
    assert file.read_text() == "before"


@pytest.mark.parametrize("read", [packed.read, read_all, lambda file: packed.unpack(file, file.parent / "to")])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"{", "line 3 is damaged: not JSON"),
        (b"", "line 3 is damaged: not JSON"),
        (b"\xff", "line 3 is damaged: not JSON"),
        (b"5", "line 3 is damaged: expected a JSON object with 'run', 'config', 'metrics'"),
        (b'{"run": "a/seed-0", "config": {}}', "line 3 is damaged: expected a JSON object with"),
        (b'{"run": "a/seed-0", "config": {}, "metrics": [], "more": 1}', "line 3 is not a packed run"),
        (b'{"run": 5, "config": {}, "metrics": []}', "line 3 is not a packed run"),
        (b'{"run": "a/seed-0", "config": {}, "metrics": {}}', "line 3 is not a packed run"),
        (b'{"run": "a/seed-0", "config": {}, "metrics": []}', "line 3 is not a whole record"),
    ],
)
def test_damaged_line(tmp_path, read, damage, message):
    """Its number is named, and nothing of the file is unpacked."""
    lines = SMALL.read_bytes().splitlines()
    file = tmp_path / "damaged.jsonl"
    file.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:], b""]))
    with pytest.raises(RecordError, match=message):
        read(file)
    assert contents(tmp_path).keys() == {"damaged.jsonl"}


@pytest.mark.parametrize(
    "run", ["../seed-0", "a/../../seed-0", "/a/seed-0", "a//seed-0", "./seed-0", "", ".", "..", "seed-0/..", "a/other"]
)
def test_unpacks_only_runs_and_only_inside(line, tmp_path, run):
    with pytest.raises(RecordError, match="line 2 names the folder"):
        packed.unpack(line(2, run=run), tmp_path / "to")
    assert contents(tmp_path).keys() == {"changed.jsonl"}


def test_unpacks_no_folder_twice(line, tmp_path):
    first = json.loads(SMALL.read_text().splitlines()[0])["run"]
    with pytest.raises(RecordError, match=r"line 2 names the folder .* but an earlier line names it too"):
        packed.unpack(line(2, run=first), tmp_path / "to")
    assert contents(tmp_path).keys() == {"changed.jsonl"}


def test_unpacking_overwrites_nothing(runs):
    (runs / "short" / "small-padam" / "seed-0" / "metrics.jsonl").write_text("")
    (runs / "own" / "small-adamw" / "seed-0" / "config.json").unlink()
    before = contents(runs)
    with pytest.raises(FileExistsError, match="is there already; unpack to another folder"):
        packed.unpack(SMALL, runs)
    assert contents(runs) == before


def test_a_full_disk_leaves_the_old_file(runs, tmp_path):
    file = tmp_path / "kept.jsonl"
    packed.pack(runs / "own", file)
    before = file.read_bytes()
    with (
        largest_file(len(before)),
        pytest.raises(StoreError, match=r"kept\.jsonl could not be written: File too large.*intact"),
    ):
        packed.pack(runs, file)
    assert file.read_bytes() == before
    packed.pack(runs, file)
    assert file.read_bytes() == SMALL.read_bytes()


def test_a_full_disk_unpacks_nothing(tmp_path):
    """What was written before is gone too, so that the same command can be given again."""
    largest = 500
    assert {len(text) > largest for text in SMALL.read_text().splitlines()} == {True}
    with largest_file(largest), pytest.raises(StoreError, match="could not be written: File too large"):
        packed.unpack(SMALL, tmp_path / "to")
    assert contents(tmp_path) == {}
    assert packed.unpack(SMALL, tmp_path / "to") == 13
