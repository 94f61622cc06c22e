"""The command `padam`: what it prints, writes and refuses. Only here do all seven optimizers train."""

import errno
import fractions
import importlib.util
import inspect
import io
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import warnings

import jax
import matplotlib.image
import pytest
from typer.testing import CliRunner

import padam_optax
from padam_optax import __main__, cli
from padam_optax.cli import console, demo, running, sweeping
from padam_optax.data.cifar import CIFAR10, read_cifar10
from padam_optax.data.imagenet import scan_image_folder
from padam_optax.data.images import DataError
from padam_optax.data.ptb import read_text
from padam_optax.experiments import EXPERIMENTS, pydoc, table, tuning
from padam_optax.records import packed
from padam_optax.records.record import DataSource, Device, Record
from padam_optax.records.store import RunDirectory, read_all
from padam_optax.runner import queue
from padam_optax.training.checkpoint import CheckpointError, CheckpointWarning

MINI = "cifar10-mini-padam"


def padam(*arguments) -> tuple[int, str, str]:
    """Exit code, output and errors of a call."""
    result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def words(text: str) -> str:
    """Without frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


def test_help_names_the_commands():
    code, output, _ = padam("--help")
    assert code == 0
    for command in ("run", "demo", "list", "report"):
        assert command in output


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (
            "run",
            [
                "--data-dir",
                "--data-label",
                "--epochs",
                "--seed",
                "--no-resume",
                "--checkpoint-every",
                "--out",
                "--devices",
            ],
        ),
        ("demo", ["--epochs", "--seeds", "--out", "downloads nothing"]),
        ("list", ["List the experiments"]),
        ("report", ["--out", "--table", "--figure", "--time-to-target", "RECORDS"]),
        ("check", ["RECORDS", "show it, do not, or cannot tell"]),
        ("data", ["fetch"]),
    ],
)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_commands(command, shown, option):
    code, output, _ = padam(command, option)
    assert code == 0
    assert [text for text in shown if text not in words(output)] == []


@pytest.mark.parametrize("command", ["list", "run", "sweep", "demo", "report", "check"])
def test_help_fills_narrow_lines(command, monkeypatch):
    """At 80 columns a line of a command's text ends where the next word has no room, wherever the source breaks it."""
    monkeypatch.setenv("COLUMNS", "80")
    _, output, _ = padam(command, "--help")
    lines = [line.strip() for line in output[: output.index("╭")].splitlines()]
    assert max(map(len, lines)) <= 78
    pairs = itertools.pairwise(lines)
    assert [line for line, after in pairs if line and after and len(line) + 1 + len(after.split()[0]) <= 78] == []


def test_no_command_shows_help():
    code, output, errors = padam()
    assert code == 2
    assert "Usage" in output + errors


def test_version():
    assert padam("--version") == (0, f"padam_optax {padam_optax.__version__}\n", "")


def test_list():
    """Whole names, even in 80 columns, each under its suite; p as a fraction."""
    code, output, _ = padam("list")
    assert code == 0
    assert "…" not in output
    rows = [words(line) for line in output.splitlines()]
    for name, spec in EXPERIMENTS.items():
        (place,) = (number for number, row in enumerate(rows) if row.startswith(f"{name} "))
        values = [f"{spec.hyperparameters['learning_rate']:g}"]
        if "p" in spec.hyperparameters:
            values.append(str(fractions.Fraction(spec.hyperparameters["p"]).limit_denominator(100)))
        printed = ", ".join(f"{result.value:.2f}" for result in spec.paper)
        assert rows[place].removeprefix(name).split() == f"{spec.epochs} {' '.join(values)} {printed}".split()
        assert [row for row in rows[:place] if row.endswith(":")][-1] == f"{spec.suite}:"
    assert "1/16" in output


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        (["--dataset", "digits"], {"dataset": "digits"}),
        (["--model", "vgg16", "--optimizer", "padam"], {"model": "vgg16", "optimizer": "padam"}),
        (["--dataset", "cifar10", "--table", 1], {"dataset": "cifar10"}),
    ],
)
def test_list_filtered(options, chosen):
    code, output, _ = padam("list", *options)
    assert code == 0
    among = table(1) if "--table" in options else EXPERIMENTS.values()
    expected = [spec.name for spec in among if all(getattr(spec, field) == value for field, value in chosen.items())]
    listed = [words(line).split()[0] for line in output.splitlines()[2:] if line.strip()]
    assert sorted(name for name in listed if not name.endswith(":")) == sorted(expected) != []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--dataset", "cifar"],
            "--dataset must be one of cifar10, cifar100, imagenet, ptb, digits, pydoc, got 'cifar'.",
        ),
        (["--model", "resnet"], "--model must be one of vgg16, resnet18, "),
        (["--optimizer", "pdam"], "--optimizer must be one of sgdm, adam, amsgrad, "),
        (
            ["--dataset", "ptb", "--model", "resnet18"],
            "--model must be one of awd-lstm, transformer with the other options, got 'resnet18'.",
        ),
    ],
)
def test_list_refuses(options, message):
    code, output, errors = padam("list", *options)
    assert (code, output) == (2, "")
    assert message in words(errors)


@pytest.mark.parametrize("command", ["run", "sweep", "demo"])
def test_git_ignores_what_commands_write(command):
    """Where they write by default."""
    function = {"run": running.run, "sweep": sweeping.sweep, "demo": demo.run_demo}[command]
    folder = inspect.signature(function).parameters["out"].default
    ignored = (pathlib.Path(padam_optax.__file__).parents[1] / ".gitignore").read_text().splitlines()
    assert f"/{folder}/" in ignored


def cut_file(folder: pathlib.Path) -> list:
    (folder / CIFAR10.train_files[0]).write_bytes(bytes(3_073 * 9_999))
    return [MINI, "--data-dir", folder, "--data-label", "some"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            lambda folder: ["digits-pdam"],
            ["no experiment called 'digits-pdam'", "Did you mean digits-padam", "padam list"],
        ),
        (lambda folder: ["[/bold]"], ["no experiment called '[/bold]'"]),
        (lambda folder: [MINI], ["cifar10 is not here", "padam data fetch cifar10", "--data-dir"]),
        (lambda folder: [MINI, "--data-dir", folder], ["--data-label"]),
        (lambda folder: [MINI, "--data-dir", folder, "--data-label", "cifar10"], ["'cifar10'", "checksums"]),
        (
            lambda folder: [MINI, "--data-dir", folder / "nowhere", "--data-label", "some"],
            ["nowhere/data_batch_1.bin does not exist", "test_batch.bin"],
        ),
        (cut_file, ["data_batch_1.bin is truncated", "30,726,927 bytes", "expected 30,730,000"]),
        (lambda folder: ["digits-padam", "--epochs", "0"], ["--epochs"]),
        (lambda folder: ["digits-padam", "--seed", "-1"], ["--seed"]),
        (lambda folder: ["digits-padam", "--seed", 2**31], ["--seed", "2147483647"]),
        (lambda folder: ["digits-padam", "--seeds", 999_999_999_999_999], ["--seeds", "10000"]),
        (
            lambda folder: ["digits-padam", "--data-dir", folder],
            ["digits comes with scikit-learn: leave out --data-dir"],
        ),
        (
            lambda folder: ["pydoc-padam", "--data-label", "my"],
            ["pydoc comes with Python: leave out --data-label", "'my'"],
        ),
        (
            lambda folder: ["digits-padam", "--data-dir", "~nobody-at-all/x"],
            ["'~nobody-at-all/x' begins with the home folder of an unknown user"],
        ),
        (lambda folder: ["digits-padam", "--checkpoint-every", "-1"], ["--checkpoint-every"]),
        (lambda folder: [], ["Name an experiment", "--table", "padam list"]),
        (lambda folder: ["--table", 7], ["no experiments for table 7", "1, 2, 3, 4"]),
        (lambda folder: ["--figure", 9], ["no experiments for figure 9", "1, 2, 3, 4"]),
        (lambda folder: ["digits-padam", "--seed", 1, "--seeds", 2], ["--seed and --seeds"]),
        (lambda folder: ["digits-padam", "--dtype", "float16"], ["float32 or bfloat16", "'float16'"]),
        (lambda folder: ["digits-padam", "--deadline", -1], ["--deadline"]),
    ],
    ids=[
        "unknown",
        "markup",
        "no folder",
        "no label",
        "reserved label",
        "missing file",
        "truncated file",
        "no epoch",
        "negative seed",
        "large seed",
        "many seeds",
        "a folder for the digits",
        "a label for the help texts",
        "no such user",
        "negative checkpoints",
        "no name",
        "no table",
        "no figure",
        "seed and seeds",
        "dtype",
        "negative deadline",
    ],
)
def test_run_refuses(tmp_path, monkeypatch, arguments, shown):
    """One message, no traceback, exit code 2, nothing written."""
    monkeypatch.setenv("PADAM_DATA_DIR", str(tmp_path / "cache"))
    code, output, errors = padam("run", *arguments(tmp_path), "--out", tmp_path / "runs")
    assert (code, output) == (2, "")
    assert [text for text in shown if text not in words(errors)] == []
    assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


def test_the_home_folder(tmp_path, monkeypatch):
    """A shell leaves `~` in `--out=~/x`: the command expands it wherever a path is given."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    given = []
    monkeypatch.setattr("padam_optax.runner.datasets.load_data", lambda spec, data_dir, **_: given.append(data_dir))
    monkeypatch.setattr("padam_optax.runner.queue.run", lambda spec, seed, data, out, **_: given.append(out))
    with pytest.raises(AttributeError):  # There is no record.
        padam("run", "digits-padam", "--out=~/runs", "--data-dir=~/data")
    assert set(map(str, given)) == {str(tmp_path / "home" / "data"), str(tmp_path / "home" / "runs")}
    directory = RunDirectory("~/runs", "digits-padam", 0)
    directory.start(Record(EXPERIMENTS["digits-padam"], 0, DataSource("digits"), Device("cpu")), 0)
    assert padam("report", tmp_path / "home" / "runs", "--out=~/tables")[0] == 0
    assert padam("pack", tmp_path / "home" / "runs", "--out=~/runs.jsonl")[0] == 0
    assert packed.unpack("~/runs.jsonl", "~/again") == len(read_all("~/again")) == len(packed.read("~/runs.jsonl")) == 1
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"runs", "tables", "runs.jsonl", "again"}
    for read in (read_cifar10, scan_image_folder, read_text):
        with pytest.raises(DataError, match=str(tmp_path / "home" / "cifar")):
            read("~/cifar", "some")
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


def test_nothing_begins_after_the_deadline(tmp_path):
    code, output, _ = padam("run", "digits-padam", "--seeds", 2, "--deadline", 0, "--out", tmp_path / "runs")
    assert code == 0
    assert "Stopped by the deadline" in output
    assert all(f"digits-padam seed {seed}: 0 of 40 epochs done" in output for seed in (0, 1))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_the_data_are_read(tmp_path, monkeypatch, number, code):
    """Nothing is trained: the signal holds until the reading is done."""
    monkeypatch.setattr("padam_optax.runner.datasets.load_data", lambda *_, **__: signal.raise_signal(number))
    exit_code, output, errors = padam("run", "digits-padam", "--out", tmp_path / "runs")
    assert exit_code == code
    assert f"{number.name}: stopping once the data are read." in errors
    assert f"Stopped by {number.name}" in output
    assert "digits-padam seed 0: 0 of 40 epochs done" in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["digits-padam", "--jobs", 0], "--jobs"),
        (["digits-padam", "--jobs", 65], "--jobs"),
        (["digits-padam", "--jobs", 2, "--devices", 2], "--jobs is for one device"),
        (["digits-padam", "--jobs", 2, "--coordinator", "here:1"], "--jobs is for one device"),
        (["digits-padam", "--queue", "QUEUE"], "leave out names, --table and --figure"),
        (["--table", 1, "--queue", "QUEUE"], "leave out names, --table and --figure"),
        (["--queue", "QUEUE"], "QUEUE, line 1: There is no experiment called 'digits-none'"),
        (["--queue", "nowhere"], "nowhere"),
        (["digits-padam", "--recorded", "nowhere"], "nowhere"),
    ],
)
def test_jobs_and_queues_that_are_refused(tmp_path, monkeypatch, options, shown):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("QUEUE").write_text("digits-none\n")
    code, output, errors = padam("run", *options, "--out", "runs")
    assert (code, output) == (2, "")
    assert shown in words(errors)
    assert "Traceback" not in errors
    assert not pathlib.Path("runs").exists()


def test_a_queue_side_by_side(tmp_path, monkeypatch):
    """Two processes compile the same program at once and share what is kept of it; then nothing is left to do."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = jax.config.values["jax_compilation_cache_dir"]
    (tmp_path / "queue").write_text("digits-padam --seeds 2 --jobs 2\ndigits-padam --epochs 1 --jobs 2 # again\n")
    options = [
        "--queue",
        tmp_path / "queue",
        "--epochs",
        2,
        "--out",
        tmp_path / "runs",
        "--cache-dir",
        tmp_path / "kept",
    ]
    try:
        code, output, errors = padam("run", *options)
        assert code == 0, errors
        assert "skipped: 0 runs" in output
        assert all(
            f"digits-padam seed {seed}: epoch 2: train loss" in text for seed in (0, 1) for text in (output, errors)
        )
        assert "CUDA MPS" not in errors
        assert {record.device.jobs for record in read_all(tmp_path / "runs")} == {2}
        assert list((tmp_path / "kept").glob("*-cache"))
        assert padam("run", *options) == (0, "Recorded already, and skipped: 2 runs.\n", "")
        packed.pack(tmp_path / "runs", tmp_path / "runs.jsonl")
        options = [*options, "--out", tmp_path / "elsewhere", "--recorded", tmp_path / "runs.jsonl"]
        assert padam("run", *options) == (0, "Recorded already, and skipped: 2 runs.\n", "")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_fetch_refuses(tmp_path):
    code, output, errors = padam("data", "fetch", "cifar", "--cache-dir", tmp_path)
    assert (code, output) == (2, "")
    assert "'cifar'" in errors
    assert "cifar10, cifar100" in errors


@pytest.mark.parametrize("deadline", ["0", "-1", "nan"])
def test_fetch_refuses_a_deadline_that_is_none(tmp_path, deadline):
    code, output, errors = padam("data", "fetch", "ptb", "--cache-dir", tmp_path / "cache", "--deadline", deadline)
    assert (code, output) == (2, "")
    assert "--deadline (deadline) must be a positive number of seconds" in errors
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def interrupted(monkeypatch):
    """As if Ctrl-C came twice; the process does not end."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    for name in ("queue.run", "sweep.Sweeper.train"):
        monkeypatch.setattr(f"padam_optax.runner.{name}", interrupt)
    monkeypatch.setattr(console, "_at_once", False)


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("checkpoint", [True, False])
def test_interrupted(tmp_path, checkpoint):
    """Ctrl-C ends with 130, speaks of a checkpoint where there is one, and leaves without Python's own end."""
    if checkpoint:
        (RunDirectory(tmp_path, "digits-padam", 0).checkpoints / "7").mkdir(parents=True)
    code, _, errors = padam("run", "digits-padam", "--out", tmp_path)
    assert code == 130
    way = (
        "goes on from the last checkpoint of digits-padam seed 0" if checkpoint else "starts anew, without a checkpoint"
    )
    assert f"Stopped at once. The same command {way}." in errors
    assert console._at_once


@pytest.mark.usefixtures("interrupted")
def test_other_commands_interrupted(tmp_path, monkeypatch):
    code, _, errors = padam("demo", "--out", tmp_path)
    assert (code, "anew, without a checkpoint" in errors) == (130, True)
    code, _, errors = padam("sweep", "digits-padam", "--p", "1/4", "--out", tmp_path)
    assert (code, "trains the unfinished runs" in errors) == (130, True)
    monkeypatch.setattr("padam_optax.data.download.fetch", queue.run)
    code, _, errors = padam("data", "fetch", "ptb")
    assert (code, errors) == (130, "Stopped at once.\n")


def test_interrupted_sweep(tmp_path, monkeypatch):
    """The first Ctrl-C is answered before the epoch ends; nothing begins after it."""
    monkeypatch.setattr("padam_optax.runner.datasets.load_data", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    code, output, errors = padam("sweep", "digits-padam", "--p", "1/4", "--out", tmp_path / "out")
    assert code == 130
    assert "SIGINT: stopping once the epoch under way is done" in words(errors)
    assert "Stopped by SIGINT" in output
    assert not (tmp_path / "out").exists()


class Lost(io.StringIO):
    """What cannot be written to."""

    def __init__(self, number: int):
        super().__init__()
        self.error = OSError(number, os.strerror(number))

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 2), (errno.EPIPE, 141)])
def test_output_that_cannot_be_written(monkeypatch, number, code):
    """A full disk is one line; of a reader that has gone away a command says nothing."""
    lost = console.Output()
    lost.file = Lost(number)
    monkeypatch.setattr("padam_optax.cli.listing.STDOUT", lost)
    exit_code, _, errors = padam("list")
    assert exit_code == code
    expected = "Error: Standard output or error cannot be written: No space left on device.\n"
    assert errors == (expected if code == 2 else "")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO])
def test_errors_that_cannot_be_written(tmp_path, monkeypatch, number):
    """A run is asked to stop, and ends as it does then."""
    lost = console.Output(stderr=True)
    lost.file = Lost(number)
    for module in ("console", "training", "running"):
        monkeypatch.setattr(f"padam_optax.cli.{module}.STDERR", lost)
    asked = []

    def fake(spec, seed, data, out, **options):
        line = {"epoch": 1, "train_loss": 0.25, "test_error": 0.125, "examples_per_second": 1000.0}
        asked.append(options["should_stop"]())
        options["on_epoch"](line)
        asked.append(options["should_stop"]())
        return Record(spec, seed, DataSource("digits"), Device("cpu"), metrics=[line])

    monkeypatch.setattr("padam_optax.runner.queue.run", fake)
    code, output, _ = padam("run", "digits-padam", "--out", tmp_path)
    assert asked == [False, True]
    assert code == (141 if number == errno.EPIPE else 2)
    assert "Stopped by a failure of its output" in output
    assert "1 of 40 epochs done" in output


def test_help_on_a_full_disk():
    """It comes from the library of the command line."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "padam_optax", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: Standard output cannot be written: No space left on device.\n"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), CheckpointError("No checkpoint is whole.")])
def test_files_that_cannot_be_used(tmp_path, monkeypatch, error):
    """A line for the warning before it, one for the error, and no traceback."""

    def fail(*_, **__):
        warnings.warn("The newest was [damaged].", CheckpointWarning, stacklevel=1)
        raise error

    monkeypatch.setattr("padam_optax.runner.queue.run", fail)
    code, output, errors = padam("run", "digits-padam", "--out", tmp_path)
    assert (code, output) == (2, "")
    found = [line for line in errors.splitlines() if line.startswith(("Warning", "Error"))]
    assert found == ["Warning: The newest was [damaged].", f"Error: {error}"]
    assert "Traceback" not in errors


@pytest.mark.parametrize(("diverged", "code"), [(False, 0), (True, 1)])
def test_run_summary_and_exit_code(tmp_path, monkeypatch, diverged, code):
    """Each run on a line; a diverged one is a failure for a script. Without --seed the experiment's first is taken."""
    calls = []

    def fake(spec, seed, data, out, **options):
        calls.append((spec.name, spec.epochs, seed, out, options["resume"], options["checkpoint_every"]))
        line = {"epoch": 2, "train_loss": 0.25, "test_error": 0.125, "examples_per_second": 1000.0}
        if diverged:
            line = {"epoch": 2, "diverged_step": 13}
        options["on_epoch"](line)
        return Record(spec.with_epochs(2), seed, DataSource("digits"), Device("cpu"), metrics=[line])

    monkeypatch.setattr("padam_optax.runner.queue.run", fake)
    options = ["--epochs", 2, "--seed", 3, "--seed", 5, "--out", tmp_path, "--no-resume", "--checkpoint-every", 0]
    exit_code, output, errors = padam("run", "digits-padam", "digits-adam", *options)
    assert exit_code == code
    assert calls == [(f"digits-{name}", 2, seed, tmp_path, False, 0) for name in ("padam", "adam") for seed in (3, 5)]
    text = (
        "epoch 2: the loss or a gradient is not finite at step 13"
        if diverged
        else "epoch 2: train loss 0.2500, test error 12.50 %"
    )
    for spec, _, seed, *_ in calls:
        assert f"{spec} seed {seed}: {text}" in output
        assert f"{spec} seed {seed}: {text}" in errors
    calls.clear()
    padam("run", "digits-padam", "--out", tmp_path)
    assert calls == [("digits-padam", 40, 0, tmp_path, True, 5)]


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """Folder and output of a demonstration of one epoch and one seed."""
    out = tmp_path_factory.mktemp("demonstration")
    code, output, _ = padam("demo", "--epochs", 1, "--seeds", 1, "--out", out)
    assert code == 0
    return out, output


def test_demo_prints_the_table(demonstration):
    out, output = demonstration
    (table,) = [output[: output.index("The curves: ")]]
    for name in (
        "Momentum",
        "Adam",
        "AMSGrad",
        "AdamW",
        "Yogi",
        "AdaBound",
        "Padam",
        "accuracy",
        "loss",
        "rate",
        "p = 1/4",
    ):
        assert name in table
    assert "digits-mini on digits, 1 of 40 epochs, n = 1" in words(table)
    assert "not run" not in table
    assert "demonstration: such short training" in words(output)
    for record in read_all(out):
        assert f"{100 - 100 * record.metrics[-1]['test_error']:.2f}" in table
        assert f"{record.metrics[-1]['train_loss']:.4f}" in table


def test_demo_writes_records_and_picture(demonstration):
    out, _ = demonstration
    assert matplotlib.image.imread(out / "digits-mini.png").shape == (480, 1200, 4)
    records = read_all(out)
    assert {record.experiment.optimizer for record in records} == set(tuning.SPACES)
    assert all(record.finished and not record.diverged for record in records)
    assert {record.data for record in records} == {records[0].data}


def test_demo_takes_what_is_there(demonstration, monkeypatch):
    """Once more: nothing trains, the same table."""
    out, output = demonstration

    def train(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr("padam_optax.runner.programs._trainer", train)
    assert padam("demo", "--epochs", 1, "--seeds", 1, "--out", out)[:2] == (0, output)


@pytest.mark.parametrize(
    ("task", "recipe", "suite", "epochs"),
    [("language", "LSTM", "pydoc", 8), ("transformer", "TRANSFORMER", "pydoc-transformer", 4)],
)
def test_demo_on_a_text(task, recipe, suite, epochs, tmp_path, monkeypatch):
    """The same with an LSTM and a transformer: perplexities. One of the optimizers will do."""
    (spec,) = (spec for spec in getattr(pydoc, recipe) if spec.optimizer == "padam")
    monkeypatch.setattr(pydoc, recipe, (spec,))
    code, output, errors = padam("demo", "--task", task, "--epochs", 1, "--seeds", 1, "--out", tmp_path)
    assert code == 0
    assert f"{suite} on pydoc-topics, 1 of {epochs} epochs, n = 1" in words(output)
    assert "perplexity" in words(output)
    assert "validation perplexity" in errors
    assert (tmp_path / f"{suite}.png").is_file()
    (record,) = read_all(tmp_path)
    assert 1 < record.metrics[-1]["test_perplexity"] < 1_000


def test_the_last_line_of_a_language_model():
    """After the curve's perplexity that of the test text in its own number of columns, which tables use."""
    line = {"epoch": 2, "train_loss": 4.5, "valid_perplexity": 80, "test_perplexity": 75, "final_test_perplexity": 74.5}
    expected = "epoch 2: train loss 4.5000, validation perplexity 80.00, test 75.00, final test 74.50"
    assert console.to_line(line) == expected


def test_report(demonstration, tmp_path):
    out, output = demonstration
    code, printed, _ = padam("report", out, "--out", tmp_path / "tables")
    assert code == 0
    table, _, rest = printed.partition("Written: ")
    assert output.startswith(table)
    assert rest.strip() == str(tmp_path / "tables" / "results.md")
    written = {path.name for path in (tmp_path / "tables").iterdir()}
    assert written == {
        "digits-mini.md",
        "digits-mini.png",
        "results.md",
        *(f"table-{number}.md" for number in (1, 2, 3, 4)),
    }
    text = (tmp_path / "tables" / "digits-mini.md").read_text()
    assert "| Test accuracy (%) |" in text
    assert "n = 1" in text


def test_report_of_one_table(demonstration):
    code, printed, _ = padam("report", demonstration[0], "--table", 4)
    assert code == 0
    assert "Table 4" in printed
    assert "CIFAR-100" in printed
    assert "not run" in words(printed)


def test_time_to_target(demonstration):
    code, printed, _ = padam("report", demonstration[0], "--time-to-target", "test_error=1")
    assert code == 0
    assert "Padam 1 of 1 1.0 " in words(printed)
    for target, shown in (("test_error", "METRIC=VALUE"), ("accuracy=1", "no metric 'accuracy'")):
        code, _, errors = padam("report", demonstration[0], "--time-to-target", target)
        assert code == 2
        assert shown in words(errors)


def test_check(demonstration):
    """One seed is no verdict."""
    code, printed, _ = padam("check", demonstration[0])
    assert code == 0
    assert "cannot" in printed
    assert "│ shown" not in printed
    assert "which differ by 0.24" in words(printed)


def test_report_on_nothing(tmp_path):
    code, output, errors = padam("report", tmp_path)
    assert (code, output) == (2, "")
    assert f"{tmp_path} holds no recorded runs" in errors


def test_report_on_a_folder_that_is_not_there(tmp_path):
    assert padam("report", tmp_path / "nowhere")[0] == 2


@pytest.mark.parametrize("missing", [["typer"], ["matplotlib", "sklearn"]])
def test_missing_extras(monkeypatch, missing):
    """They are named, with what installs them, before the command line is imported."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else find_spec(name))
    monkeypatch.delitem(sys.modules, "padam_optax.cli")
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert str(caught.value) == (
        f'padam needs packages that are not installed ({", ".join(missing)}): pip install "padam_optax[experiments]"'
    )
    assert "padam_optax.cli" not in sys.modules


BARE = """
import subprocess
import sys
for name in sys.argv[2:]:
    sys.modules[name] = None  # as if it were not installed
try:
    exec(sys.argv[1])
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("import padam_optax.models.vgg", "flax"),
        ("import padam_optax.training.loop", "flax"),
        ("import padam_optax.report.tables", "rich"),
        ("from padam_optax.data.digits import read_digits; read_digits()", "sklearn"),
    ],
)
def test_missing_extras_of_the_library(code, missing):
    """Whoever imports a part that needs more than the core reads what installs it."""
    done = subprocess.run([sys.executable, "-c", BARE, code, missing], capture_output=True, text=True, check=True)
    assert 'pip install "padam_optax[experiments]"' in done.stdout


def test_main_runs_the_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["padam", "--version"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"padam_optax {padam_optax.__version__}\n"
