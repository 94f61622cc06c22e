"""The command `padam sweep`: what it writes, and what it says about wrong arguments before anything compiles."""

import pytest
from typer.testing import CliRunner

from padam_optax.cli import app
from padam_optax.records.store import read_all


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["sweep", *arguments])


def test_grid(tmp_path):
    """Records, a table that begins with the best, a map and the curves; a second call trains nothing."""
    arguments = ["digits-padam", "--learning-rate", "0.1,1", "--p", "1/4,1/2", "--epochs", "3", "--out", str(tmp_path)]
    arguments += ["--mode", "mapped", "--batch-configs", "2"]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    records = read_all(tmp_path)
    assert len(records) == 4
    assert all(record.experiment.task.held_out == 0.2 for record in records)
    text = (tmp_path / "digits-padam.md").read_text()
    assert text.startswith("digits-padam on digits, 0.2 of its training set held out, 3 epochs, n = 1, best first.")
    best = min(records, key=lambda record: record.metrics[-1]["test_error"])
    rate = best.experiment.hyperparameters["learning_rate"]
    first = text.splitlines()[4]
    assert first.startswith(f"| learning_rate = {rate:g}, p = ")
    assert f"**{100 * best.metrics[-1]['test_error']:.2f}**" in first
    assert "4 runs, 12 of 12 epochs trained" in text
    assert "mapped, 2 at once" in text
    for name in ("digits-padam-map.png", "digits-padam-p.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")}
    assert invoke(*arguments).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("metrics.jsonl")} == written


def test_search(tmp_path):
    arguments = ["digits-padam", "--learning-rate", "0.1:1:log", "--epochs", "3", "--out", str(tmp_path)]
    arguments += ["--search", "optuna", "--trials", "2", "--mode", "mapped", "--batch-configs", "2"]
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    assert len(read_all(tmp_path)) == 2
    assert (tmp_path / "digits-padam.sqlite3").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits-padm", "--p", "1/4"], "Did you mean digits-padam"),
        (["digits-padam"], "The grid is empty"),
        (["digits-padam", "--p", "0.7"], "p must be in [0, 1/2], got 0.7"),
        (["digits-sgdm", "--p", "0.25"], "digits-sgdm has no 'p'; it has learning_rate, momentum, weight_decay"),
        (["digits-padam", "--p", "1:2:3"], "expected numbers or fractions, separated by commas"),
        (["digits-padam", "--set", "b1"], "--set takes NAME=VALUES"),
        (["digits-padam", "--p", ".1", "--set", "p=.2"], "p is given twice: '.1' and '.2'"),
        (["digits-padam", "--set", "b1=.1", "--set", "b1=.2"], "b1 is given twice"),
        (["digits-padam", "--p", "1/4", "--seeds", "999999999999999"], "10000"),
        (["digits-padam", "--p", "1:2:log:99999999999"], "must be from 2 to 10,000"),
        (["digits-padam", "--p", "1/4", "--data-dir", "."], "digits comes with scikit-learn: leave out --data-dir"),
        (["digits-padam", "--p", "1/4", "--mode", "fast"], "--mode must be vectorized, mapped or sharded"),
        (["digits-padam", "--p", "1/4", "--search", "optuna"], "go together"),
        (["digits-padam", "--p", "1/4", "--search", "grid", "--trials", "2"], "--search must be optuna"),
        (["ptb-mini-padam", "--p", "1/4", "--held-out", "0.1"], "--held-out is for images"),
        (["imagenet-resnet18-padam", "--p", "1/4"], "imagenet needs --data-dir"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    result = invoke(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
