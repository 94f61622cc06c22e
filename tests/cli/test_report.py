"""The commands `padam report` and `padam check`: what they print, write and refuse. Nothing trains."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import matplotlib.image
import pytest
from fake_records import flat, records, small, trial, write
from malformed import malformed
from typer.testing import CliRunner

from padam_optax import cli
from padam_optax.experiments import EXPERIMENTS
from padam_optax.records import packed
from padam_optax.records.record import RecordError
from padam_optax.report import claims


def padam(*arguments) -> tuple[int, str, str]:
    """Exit code, output and errors of a call."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def words(text: str) -> str:
    """Without frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> pathlib.Path:
    """3 seeds of two of the paper's cells, one of them shortened too; and of the digits."""
    out = tmp_path_factory.mktemp("runs")
    for optimizer, errors in (("sgdm", [0.06, 0.07, 0.08]), ("padam", [0.05, 0.06, 0.07])):
        records(out, EXPERIMENTS[f"cifar10-vgg16-{optimizer}"], errors)
        records(out, EXPERIMENTS[f"digits-{optimizer}"], errors)
    records(out / "short", EXPERIMENTS["cifar10-vgg16-padam"].with_epochs(3), [0.3])
    return out


def test_report_prints_what_was_run(runs):
    code, output, _ = padam("report", runs)
    assert code == 0
    assert "Table 1: Test accuracy (%) after 200 epochs on CIFAR-10" in words(output)
    assert "digits on digits, 40 epochs, n = 3" in words(output)
    for number in (2, 3, 4):
        assert f"Table {number}" not in output
    assert "94.00" in output
    assert "3 of 200 epochs" in words(output)


def test_report_writes_everything(runs, tmp_path):
    out = tmp_path / "new" / "results"
    code, _, _ = padam("report", runs, "--out", out)
    assert code == 0
    pictures = {
        "figure-2.png",
        "figure-2-3-of-200-epochs.png",
        "cifar10-vgg16-on-cifar10-200-epochs.png",
        "cifar10-vgg16-on-cifar10-3-of-200-epochs.png",
    }
    written = {"results.md", "digits.md", "digits.png", *pictures, *(f"table-{number}.md" for number in range(1, 5))}
    assert {path.name for path in out.iterdir()} == written
    text = (out / "results.md").read_text()
    for address in (*pictures, "digits.png"):
        assert f"]({address})" in text
        assert matplotlib.image.imread(out / address).shape[1] > 1000
    for number in range(1, 5):
        assert f"Table {number}:" in text
    for claim in claims.CLAIMS.values():
        assert f"### {claim.statement}" in text
    assert "| VGGNet | paper | 93.71 |" in text
    assert "| cifar10-vgg16 on cifar10 | SGD-Momentum | 3 | +1.00 | +1.00 to +1.00 | ≥ -0.25 | shown |" in text
    assert "which differ by 0.24" in text
    assert "digits on digits, 40 epochs" in text
    assert padam("report", runs, "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "results.md").read_text() == text


def test_a_packed_file_is_read_as_the_folder_is(runs, tmp_path):
    file = tmp_path / "runs.jsonl"
    assert padam("pack", runs, "--out", file)[0] == 0
    for command in ("report", "check"):
        assert padam(command, file) == padam(command, runs)


def test_one_table(runs, tmp_path):
    code, output, _ = padam("report", runs, "--table", 3, "--out", tmp_path)
    assert code == 0
    assert "61.53" in output
    assert output.count("not run") == 14
    assert [path.name for path in tmp_path.iterdir()] == ["table-3.md"]
    assert "| 2-layer LSTM | paper |" in (tmp_path / "table-3.md").read_text()


def test_one_figure(runs, tmp_path):
    code, output, _ = padam("report", runs, "--figure", 2, "--out", tmp_path)
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure-2-3-of-200-epochs.png", "figure-2.png"]
    assert "VGGNet on cifar10: device abacus." in output
    code, output, _ = padam("report", runs, "--figure", 4, "--out", tmp_path / "none")
    assert (code, output) == (0, "Figure 4: not run.\n")
    assert not (tmp_path / "none").exists()


def test_time_to_target(runs, tmp_path):
    """With the trials, which are in a folder of their own."""
    for rate in (0.1, 1.0):
        spec = trial(EXPERIMENTS["digits-padam"], learning_rate=rate)
        write(tmp_path / "trials", spec, 0, flat(test_error=1.0))
    arguments = ["--time-to-target", "test_error=0.06", "--out", tmp_path / "out"]
    code, output, _ = padam("report", runs, tmp_path / "trials", *arguments)
    assert code == 0
    assert "until test_error is at most 0.06" in words(output)
    text = (tmp_path / "out" / "time-to-target.md").read_text()
    assert "| Padam | 2 of 3 | 1.0 ± 0.0 | 2 ± 0 | 2 |" in text
    assert "| SGD-Momentum | 1 of 3 | 1.0 | 2 | not recorded |" in text
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["time-to-target.md"]


def test_check(runs):
    """Exit code 0 though most cannot be told."""
    code, output, _ = padam("check", runs)
    assert code == 0
    text = words(output)
    for claim in claims.CLAIMS.values():
        assert claim.statement in text
    tables, runs = text.split("The claims on recorded runs")
    assert tables.count("Holds: it is true of") == 3
    assert tables.count("Cannot tell: the paper prints no number for it") == 2
    assert "Inconsistencies in the paper" in tables
    for number in ("76.42 and 76.66, which differ by 0.24", "70.07 for it and 70.23", "on the LSTMs Adam, AMSGrad"):
        assert number in tables
    assert "cannot tell (1 of 10 comparisons have 3 pairs of runs or more)" in text
    assert "+1.00 to +1.00" in runs


def leave_out(path: pathlib.Path, name: str) -> None:
    """Writes a JSON object again without one of its members."""
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({member: value for member, value in whole.items() if member != name}))


@pytest.mark.parametrize("command", ["report", "check"])
@pytest.mark.parametrize(
    ("spoil", "shown"),
    [
        (lambda folder: None, "holds no recorded runs"),
        (lambda folder: folder.rmdir(), "does not exist"),
        (
            lambda folder: (
                write(folder, EXPERIMENTS["digits-padam"], 0, flat(test_error=0.1)),
                (folder / "digits-padam" / "seed-0" / "metrics.jsonl").write_text("no\n"),
            ),
            "metrics.jsonl, line 1, is damaged: not JSON: b'no'.",
        ),
        (
            lambda folder: (
                write(folder, EXPERIMENTS["digits-padam"], 0, flat(test_error=0.1)),
                (folder / "digits-padam" / "seed-0" / "config.json").write_text('{"experiment": {}}'),
            ),
            "config.json is not a whole record: it has no 'name'.",
        ),
        (
            lambda folder: (
                write(folder, EXPERIMENTS["digits-padam"], 0, flat(test_error=0.1)),
                leave_out(folder / "digits-padam" / "seed-0" / "config.json", "data"),
            ),
            "config.json has no data.",
        ),
        (
            lambda folder: [
                write(folder / part, EXPERIMENTS["digits-padam"], 0, flat(test_error=error))
                for part, error in (("a", 0.1), ("b", 0.2))
            ],
            "recorded twice with different results",
        ),
    ],
    ids=["empty", "not there", "cut metrics", "no experiment", "no data", "two results"],
)
def test_bad_records(runs, tmp_path, command, spoil, shown):
    """One message, no traceback, exit code 2; also where another folder is good."""
    folder = tmp_path / "bad"
    folder.mkdir()
    spoil(folder)
    code, output, errors = padam(command, runs, folder)
    assert (code, output) == (2, "")
    assert shown in words(errors)
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--table", 5], "no table 5"),
        (["--figure", 5, "--out", "OUT"], "no figure 5"),
        (["--figure", 2], "--out"),
        (["--time-to-target", "test_error"], "METRIC=VALUE"),
        (["--time-to-target", "test_error=low"], "METRIC=VALUE"),
        (["--time-to-target", "accuracy=0.1"], "no metric 'accuracy'"),
    ],
)
def test_report_refuses(runs, tmp_path, arguments, shown):
    """Before it writes anything."""
    out = tmp_path / "out"
    code, output, errors = padam("report", runs, *(out if text == "OUT" else text for text in arguments))
    assert (code, output) == (2, "")
    assert shown in words(errors)
    assert not out.exists()


def test_report_writes_nothing_but_its_own_files(tmp_path):
    """A name from a record leads nowhere else, and takes no file of the report's own or of another."""
    hostile = ["../../README", "/tmp/README", "..", "table-1", "Results", "figure-1", "x-three", "a b", "a-b"]
    for suite in hostile:
        spec = dataclasses.replace(small("padam", suite=suite), name=f"{suite.replace('/', '').strip('.')}-padam")
        write(tmp_path / "in", spec, 0, flat(test_error=0.1, train_loss=0.5), label="../../label")
    for optimizer in ("sgdm", "adam", "padam"):
        write(tmp_path / "in", small(optimizer, suite="x"), 0, flat(test_error=0.1, train_loss=0.5))
    out = tmp_path / "some" / "where" / "out"
    assert padam("report", tmp_path / "in", "--out", out)[0] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and tmp_path / "in" not in path.parents]
    assert {path.parent for path in written} == {out}
    own = {f"table-{number}.md" for number in range(1, 5)} | {"results.md"}
    # A table and a picture of each suite.
    assert len({path.name.casefold() for path in written}) == 2 * (len(hostile) + 1) + len(own)
    assert (out / "table-1.md").read_text(encoding="utf-8").startswith("Table 1:")
    assert (out / "results.md").read_text(encoding="utf-8").startswith("# Results")


def test_what_is_skipped_is_said(tmp_path):
    write(tmp_path, small("padam"), 0, flat(test_error=0.1))
    copied = tmp_path / "small-padam" / "seed-0 (copy)\x1b[2J"
    (tmp_path / "small-padam" / "seed-0").rename(copied)
    write(tmp_path, small("padam"), 0, flat(test_error=0.1))
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "padam_optax", "report", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment)
    assert result.returncode == 0
    assert result.stderr.count("Skipped, because it is not a run:") == 1
    assert "seed-0 (copy)�[2J" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_falls_back_to_what_the_terminal_can_show(runs, tmp_path, encoding):
    """Files are in UTF-8 all the same, and nothing half-written is left."""
    environment = {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "PYTHONUTF8": "0",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
    }
    written = ["--out", str(tmp_path / "out")] if encoding == "ascii" else []
    for arguments in (["report", str(runs), *written], ["check", str(runs)]):
        command = [sys.executable, "-m", "padam_optax", *arguments]
        result = subprocess.run(command, capture_output=True, encoding=encoding, env=environment)
        assert (result.returncode, result.stderr) == (0, "")
        table = arguments[0] == "report"
        assert ("+-1.00" if encoding == "ascii" else "±1.00") in result.stdout or not table
        assert ">= -0.25" in result.stdout or table
    if written:
        assert "±" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
        assert not list((tmp_path / "out").glob("*.part"))


def test_a_picture_that_cannot_be_written(runs, tmp_path):
    """One line, and no part of it is left."""
    (tmp_path / "digits.png").mkdir()
    code, _, errors = padam("report", runs, "--out", tmp_path)
    assert (code, len(errors.strip().splitlines())) == (2, 1)
    assert "digits.png" in errors
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_malformed_records_are_refused_in_one_line_or_reported(tmp_path):
    """What is read, of the checks' own variants, can be reported too; `tests/records` has those that are refused."""
    file = tmp_path / "file.jsonl"
    for place, (what, text) in enumerate(malformed()):
        file.write_text(text + "\n", encoding="utf-8")
        try:
            packed.read(file)
        except RecordError:
            if place % 200:
                continue
        code, _, errors = padam("report" if place % 3 else "check", file)
        assert code == 0 or (code == 2 and str(file) in words(errors).replace(" ", "")), what
        assert len(errors.strip().splitlines()) == (code == 2), what


@pytest.mark.parametrize(
    ("command", "folder"),
    [
        (["run", "digits-padam", "--epochs", "1"], "digits-padam"),
        (["run", "digits-padam", "--epochs", "1", "--deadline", "60"], "other"),
        (["sweep", "digits-padam", "--epochs", "1", "--p", "1/8"], "digits-padam@p=0.125"),
    ],
)
@pytest.mark.parametrize(
    ("config", "lines", "shown"),
    [
        ('{"format": 2, "experiment": {"name": 5}}', "", "config.json has no seed"),
        ("[" * 100_000, "", "config.json is damaged: not JSON"),
        (
            '{"format": 2, "experiment": ' + "[" * 500 + "]" * 500 + "}",
            "",
            "config.json is not a record: it is nested more than",
        ),
        (None, '{"epoch": null}\n', "metrics.jsonl, line 1: epoch must be int, got None"),
        (None, '{"epoch": 1}\n{"epoch": 1}\n', "metrics.jsonl holds epoch 1 twice, the second time on line 2"),
    ],
    ids=["missing", "not JSON", "nested", "null", "doubled"],
)
def test_run_and_sweep_refuse_what_report_refuses(tmp_path, command, folder, config, lines, shown):
    write(tmp_path, dataclasses.replace(small("padam"), name=folder), 0, flat(test_error=0.1))
    path = tmp_path / folder / "seed-0"
    if config is not None:
        (path / "config.json").write_text(config, encoding="utf-8")
    (path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    for arguments in ([*command, "--out", str(tmp_path)], ["report", str(tmp_path)]):
        code, _, errors = padam(*arguments)
        assert code == 2
        assert shown in words(errors)
        assert "Traceback" not in errors


def test_no_folder():
    for command in ("report", "check"):
        code, _, errors = padam(command)
        assert code == 2
        assert "RECORDS" in errors


def test_the_home_folder_is_found_in_arguments(tmp_path, monkeypatch):
    """Also where the shell leaves `~` as it is, as within quotes."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs").mkdir()
    code, _, errors = padam("pack", "~/runs", "--out", "~/all.jsonl")
    assert (code, "holds no recorded runs" in errors) == (2, True)
    for command in (("report", "~/none"), ("pack", "~/none", "--out", "x"), ("unpack", "~/runs", "--out", "x")):
        code, _, errors = padam(*command)
        assert code == 2
        assert "Path '~/none' does not exist" in errors or "File '~/runs' is a directory" in errors
