"""Queues as files: what a line may say, what holds for those after it, and what is refused."""

import pathlib

import pytest

import padam_optax
from padam_optax.cli.requests import Request, read_queue
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.records.store import read_all
from padam_optax.runner.queue import not_done

GIVEN = Request(
    names=[],
    table=None,
    figure=None,
    seed=[],
    seeds=None,
    epochs=None,
    dtype=None,
    moment_dtype=None,
    data_dir=None,
    data_label="",
    unknown_words="raise",
    out=pathlib.Path("runs"),
    jobs=1,
)
QUEUE = """\
# A campaign.

digits-adam digits-sgdm --seed 3 --seed 5   # two at the command line's settings

--out runs/cifar10 --dtype bfloat16 --data-dir "$IMAGES/in binary" --data-label cifar10-png --seeds 2 --jobs 3
cifar10-vgg16-*
cifar10-resnet18-padam --seed 7 --dtype float32 --jobs 1
--data-dir ~/ptb
ptb-lstm2-padam --epochs 20 --moment-dtype bfloat16 --unknown-words replace
--table 1 --seeds 3
"""


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> pathlib.Path:
        (tmp_path / "queue").write_text(text)
        return tmp_path / "queue"

    return write


def test_lines(written, monkeypatch):
    monkeypatch.setenv("IMAGES", "/images")
    first, vgg, one, text, table = read_queue(written(QUEUE), GIVEN)
    assert [(spec.name, seed) for spec, seed in first.runs()] == [
        (f"digits-{name}", seed) for name in ("adam", "sgdm") for seed in (3, 5)
    ]
    assert (first.out, first.jobs, first.data["data_dir"]) == (pathlib.Path("runs"), 1, None)
    assert [(spec.name, seed) for spec, seed in vgg.runs()] == [
        (f"cifar10-vgg16-{name}", seed) for name in PAPER_METHODS for seed in (0, 1)
    ]
    assert {spec.compute_dtype for spec, _ in vgg.runs()} == {"bfloat16"}
    assert vgg.data == {"data_dir": "/images/in binary", "data_label": "cifar10-png", "unknown_words": "raise"}
    assert (vgg.out, vgg.jobs) == (pathlib.Path("runs/cifar10"), 3)
    ((spec, seed),) = one.runs()
    assert (spec.name, seed, spec.compute_dtype, one.jobs) == ("cifar10-resnet18-padam", 7, "float32", 1)
    assert one.data == vgg.data
    ((spec, seed),) = text.runs()
    assert (spec.epochs, spec.moment_dtype, spec.compute_dtype, seed) == (20, "bfloat16", "float32", 0)
    assert text.data == {"data_dir": str(pathlib.Path.home() / "ptb"), "data_label": "", "unknown_words": "replace"}
    assert len(table.runs()) == 3 * len({spec.name for spec, _ in table.runs()}) > 3


def test_the_command_line_is_the_default(written):
    given = Request(**{**vars(GIVEN), "epochs": 3, "seeds": 4})
    (request,) = read_queue(written("digits-padam"), given)
    assert [(spec.epochs, seed) for spec, seed in request.runs()] == [(3, seed) for seed in range(4)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("digits-pdam", "no experiment called 'digits-pdam'. Did you mean digits-padam"),
        ("digits-?x*", "No experiment matches 'digits-?x*'"),
        ("digits-padam --deadline 3", "unrecognized arguments: --deadline 3"),
        ("digits-padam --epoch 3", "unrecognized arguments: --epoch 3"),
        ("digits-padam --epochs three", "invalid int value: 'three'"),
        ("digits-padam --epochs 0", "--epochs must be 1 or more, got 0"),
        ("digits-padam --jobs 0", "--jobs must be from 1 to 64, got 0"),
        ("digits-padam --jobs 65", "--jobs must be from 1 to 64, got 65"),
        ("digits-padam --seed 2147483648", "A seed must be from 0 to 2147483647, got 2147483648"),
        ("digits-padam --seeds 999999999999999", "--seeds must be from 1 to 10000"),
        ("digits-padam --seed 1 --seeds 2", "--seed and --seeds exclude each other"),
        ("digits-padam --dtype float16", "--dtype must be float32 or bfloat16, got 'float16'"),
        ("digits-padam --moment-dtype int8", "--moment-dtype must be float32, bfloat16 or bfloat16-nearest"),
        ("digits-padam --data-dir $NO_SUCH_FOLDER/x", "the environment has no $NO_SUCH_FOLDER"),
        ("digits-padam 'open", "No closing quotation"),
        ("--table 9", "no experiments for table 9"),
    ],
)
def test_lines_that_are_refused(written, monkeypatch, line, message):
    """The file and the line are named."""
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    path = written(f"# A comment\ndigits-adam\n{line}\n")
    with pytest.raises(ValueError) as caught:
        read_queue(path, GIVEN)
    assert str(caught.value).startswith(f"{path}, line 3: ")
    assert message in str(caught.value)


def test_the_campaign(monkeypatch):
    """What the repository says is measured next can be read, and is not what is recorded."""
    monkeypatch.setenv("DATA", "/data")
    records = pathlib.Path(padam_optax.__file__).parents[1] / "benchmarks" / "records"
    requests = read_queue(records / "QUEUE", GIVEN)
    known = read_all(records / "suites" / "cifar10-resnet18.jsonl")
    left = {
        (spec.name, seed)
        for request in requests
        for spec, seed in not_done(request.runs(), pathlib.Path("nowhere"), known, request.data_label)
    }
    listed = {(spec.name, seed) for request in requests for spec, seed in request.runs()}
    assert {("cifar10-resnet18-padam", 0), ("cifar10-resnet18-adabound", 0), ("ptb-lstm3-yogi", 2)} <= listed
    assert {(record.experiment.name, record.seed) for record in known}.isdisjoint(left)


@pytest.mark.parametrize("text", ["", "# nothing\n", "--seeds 3\n"])
def test_an_empty_queue(written, text):
    with pytest.raises(ValueError, match="names no experiment"):
        read_queue(written(text), GIVEN)
