"""Runs on a text: what they record, that they repeat bit for bit, and that stopping them changes nothing."""

import dataclasses
import math
import pathlib
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import padam_optax
from padam_optax.data.images import DataError
from padam_optax.experiments import EXPERIMENTS
from padam_optax.records.record import Record
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import load_data
from padam_optax.runner.programs import trainer_for
from padam_optax.runner.queue import projected_seconds
from padam_optax.runner.run import run
from padam_optax.training.checkpoint import Checkpoints

ROOT = pathlib.Path(padam_optax.__file__).parents[1]
TIMES = {"seconds", "examples_per_second"}
BASE = EXPERIMENTS["ptb-lstm2-padam"]
SPEC = dataclasses.replace(
    BASE.with_epochs(4),
    batch_size=4,
    model_options={**BASE.model_options, "embedding": 6, "hidden": 8},
).with_task(window=20, eval_columns=(2, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """A text with some order in it: each word is followed by one of two."""
    random, words, path = np.random.default_rng(0), [0], tmp_path_factory.mktemp("text")
    for _ in range(1_200):
        words.append((2 * words[-1] + int(random.integers(2))) % 23)
    for split, (start, stop) in {"train": (0, 800), "valid": (800, 1_000), "test": (1_000, 1_200)}.items():
        lines = [" ".join(f"w{word}" for word in words[at : at + 20]) for at in range(start, stop, 20)]
        (path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def data(folder):
    return load_data(SPEC, folder, "order")


@pytest.fixture(scope="module")
def never_stopped(data, tmp_path_factory) -> tuple[Record, object]:
    out = tmp_path_factory.mktemp("whole")
    return run(SPEC, 0, data, out), last_state(out, data)


def last_state(out: pathlib.Path, data):
    """What the newest checkpoint holds."""
    settings = {name: jnp.asarray(value) for name, value in SPEC.hyperparameters.items()}
    like = trainer_for(SPEC, len(data.train), len(data.vocabulary)).init(jnp.int32(0), settings)
    with Checkpoints(RunDirectory(out, SPEC.name, 0).checkpoints) as checkpoints:
        state, _ = checkpoints.restore(like)
    return state


def without_times(record: Record) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in record.metrics]


def assert_bit_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_metrics(never_stopped, data):
    """The test text in the validation text's 2 columns after each epoch, and in 1 at the end of the run."""
    record, state = never_stopped
    names = ("loss", "perplexity", "perplexity_rows")
    # 210 tokens: 105 rows in 2 columns, 210 in 1.
    each, last = {"valid": 105, "test": 105}, {"final_test": 210}
    assert record.finished
    for line in record.metrics:
        splits = each | last if line["epoch"] == SPEC.epochs else each
        sets = {f"{split}_{name}" for split in splits for name in names}
        assert set(line) == {"epoch", "train_loss", "train_objective", "learning_rate", *sets, *TIMES}
        for split, rows in splits.items():
            assert line[f"{split}_perplexity"] == pytest.approx(math.exp(line[f"{split}_loss"]), rel=1e-5)
            by_rows = math.exp(line[f"{split}_loss"] * (rows - 1) / rows)
            assert line[f"{split}_perplexity_rows"] == pytest.approx(by_rows, rel=1e-5)
        assert line["train_objective"] > line["train_loss"]
    assert record.data.label == "order"
    assert record.data.train_examples == len(data.train) == 840
    assert record.experiment == SPEC
    assert [line["learning_rate"] for line in record.metrics] == pytest.approx([0.01, 0.01, 0.001, 0.0001])
    # At the start of an epoch the carried state is zero.
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(state.model_state))


def test_learns(data, tmp_path):
    """From 24 words to the two that may follow, as far as 8 epochs with all dropouts go."""
    fast = dataclasses.replace(
        EXPERIMENTS["ptb-lstm2-adam"].with_epochs(8),
        batch_size=4,
        task=dataclasses.replace(SPEC.task, window=10, random_window=False),
        model_options={**SPEC.model_options, "embedding": 32, "hidden": 32},
        hyperparameters={**EXPERIMENTS["ptb-lstm2-adam"].hyperparameters, "learning_rate": 0.02},
    )
    record = run(fast, 0, data, tmp_path, checkpoint_every=0)
    assert record.metrics[0]["test_perplexity"] < 24
    assert record.metrics[-1]["test_perplexity"] < 12


def test_stopped_within_an_epoch_and_resumed(never_stopped, data, tmp_path, monkeypatch):
    """Asked to stop after every single step of two epochs: the carried state is part of each checkpoint."""
    monkeypatch.setattr("padam_optax.training.epoch._CALL_SECONDS", 0.0)
    monkeypatch.setattr("padam_optax.training.epoch._FIRST_STEPS", 1)
    done = []
    while not (record := run(SPEC, 0, data, tmp_path, should_stop=lambda: max(done, default=0) < 2)).finished:
        done.append(record.epochs)
        assert len(done) < 50
    assert done.count(0) > 5
    assert done.count(1) > 5
    assert without_times(record) == without_times(never_stopped[0])
    assert_bit_equal(last_state(tmp_path, data), never_stopped[1])


def test_killed_and_resumed(never_stopped, data, folder, tmp_path):
    """Through `padam run`, with what a user passes; the specification is this test's."""
    program = f"""
import dataclasses, sys
sys.path.insert(0, {str(ROOT / "tests" / "runner")!r})
from test_language_runs import SPEC
from padam_optax import experiments
from padam_optax.experiments import EXPERIMENTS
EXPERIMENTS[SPEC.name] = SPEC
from padam_optax.cli import app
app()
"""
    command = [sys.executable, "-c", program, "run", SPEC.name, "--data-dir", str(folder), "--data-label", "order"]
    command += ["--checkpoint-every", "1", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if "epoch 1:" in line:
                assert "validation perplexity" in line
                assert "tokens/s" in line
                process.kill()
                break
    assert process.returncode == -signal.SIGKILL
    assert 1 <= RunDirectory(tmp_path, SPEC.name, 0).read().epochs < SPEC.epochs
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert without_times(RunDirectory(tmp_path, SPEC.name, 0).read()) == without_times(never_stopped[0])
    assert_bit_equal(last_state(tmp_path, data), never_stopped[1])


def test_diverged_step_counts_all_windows(data, tmp_path):
    broken = dataclasses.replace(SPEC, hyperparameters={**SPEC.hyperparameters, "learning_rate": 1e38})
    record = run(broken, 0, data, tmp_path, checkpoint_every=0)
    assert record.diverged
    assert record.metrics[-1]["diverged_step"] >= 1


def test_projected_from_records_of_the_same_network(data, tmp_path):
    run(SPEC, 0, data, tmp_path, checkpoint_every=0)
    assert projected_seconds(SPEC, tmp_path) > 0
    larger = dataclasses.replace(SPEC, model_options={**SPEC.model_options, "hidden": 9})
    assert projected_seconds(larger, tmp_path) is None


def test_in_bfloat16(data, tmp_path):
    """With windows of one length: five lengths are five programs."""
    whole = SPEC.with_epochs(1).with_task(random_window=False)
    half = dataclasses.replace(whole, compute_dtype="bfloat16")
    (exact,), (line,) = (
        run(spec, 0, data, tmp_path / spec.compute_dtype, checkpoint_every=0).metrics for spec in (whole, half)
    )
    assert line["train_loss"] != exact["train_loss"]
    assert line["train_loss"] == pytest.approx(exact["train_loss"], rel=0.01)


def test_unknown_words_are_the_users_choice(folder, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text((folder / f"{split}.txt").read_text())
    with (tmp_path / "test.txt").open("a") as file:
        file.write("w0 never w0\n")
    with pytest.raises(DataError, match="'never'"):
        load_data(SPEC, tmp_path, "order")
    assert "<unk>" in load_data(SPEC, tmp_path, "order", unknown_words="replace").vocabulary


def test_penn_treebank_must_be_fetched_or_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PADAM_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"padam data fetch ptb.*--data-dir"):
        load_data(BASE, None, "")


def test_help_texts():
    """What `padam demo --task language` reads: other words in every Python, always enough of them."""
    spec = EXPERIMENTS["pydoc-padam"]
    data = load_data(spec, None, "")
    assert data.label == "pydoc-topics"
    assert len(data.train) == spec.train_examples
    assert len(data.vocabulary) == spec.task.vocabulary
    assert min(len(data.valid), len(data.test)) > 2_000
    assert data.vocabulary.index("<eos>") < 10
