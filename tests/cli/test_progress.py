"""What a progress bar says: whole epochs, the time left, and "compiling" while something is compiled."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from padam_optax.cli import app, training
from padam_optax.cli.console import Output
from padam_optax.cli.progress import Part, TimeLeft, progress_columns
from padam_optax.experiments import find
from padam_optax.records.record import DataSource, Device, Record
from padam_optax.runner.queue import Budget, Outcome

SPEC = find("digits-padam").with_epochs(2)


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def estimates(clock, left, seconds_an_epoch, first=1) -> list[float | None]:
    """Trains a part in two calls an epoch; the estimates after each."""
    found = []
    for epoch, seconds in enumerate(seconds_an_epoch, first):
        for share in (0.5, 1.0):
            clock.now += seconds / 2
            left.steps(epoch, share)
            found.append(left.seconds())
        left.epochs(epoch)
    return found


def test_compilation_is_left_out(clock):
    """The first calls take 60 s and 90 s; from then on an epoch takes 10 s and the estimate does not move."""
    parts = [Part(4, "digits", "padam"), Part(4, "digits", "padam")]
    left = TimeLeft(parts, clock=clock)
    left.begin(0)
    clock.now += 60
    left.steps(1, 0.5)
    assert left.seconds() is None
    clock.now += 5
    left.steps(1, 1.0)
    clock.now += 90
    left.epochs(1)
    assert left.seconds() == pytest.approx(70)
    assert estimates(clock, left, [10, 10, 10], first=2) == pytest.approx([65, 60, 55, 50, 45, 40])
    left.begin(1)
    assert estimates(clock, left, [10, 10, 10, 10]) == pytest.approx([35, 30, 25, 20, 15, 10, 5, 0])


def test_one_slow_epoch_of_many(clock):
    """An estimate from the last 30 s would say 9,000 s after it."""
    left = TimeLeft([Part(201)], clock=clock)
    left.begin(0)
    estimates(clock, left, [10] * 100)
    assert left.seconds() == pytest.approx(1010)
    estimates(clock, left, [90], first=101)
    assert left.seconds() == pytest.approx(100 * 1090 / 101)


def test_it_counts_down_in_between(clock):
    left = TimeLeft([Part(3)], clock=clock)
    left.begin(0)
    estimates(clock, left, [10])
    clock.now += 4
    assert left.seconds() == pytest.approx(16)
    clock.now += 100
    assert left.seconds() == 0


def test_parts_that_cost_more(clock):
    """What is measured of a kind is taken for it, and the mean of all for a kind that has not begun."""
    left = TimeLeft([Part(2, "small"), Part(2, "large"), Part(2, "small"), Part(2, "unknown")], clock=clock)
    left.begin(0)
    estimates(clock, left, [1, 1])
    left.begin(1)
    estimates(clock, left, [100])
    assert left.seconds() == pytest.approx(100 + 2 * 1 + 2 * 102 / 3)


def test_a_part_that_goes_on_from_a_checkpoint(clock):
    """The epochs before took no time here."""
    left = TimeLeft([Part(100)], clock=clock)
    left.begin(0)
    estimates(clock, left, [10], first=50)
    assert left.seconds() == pytest.approx(500)


def test_runs_of_one_network_cost_the_same_whatever_their_optimizer():
    adam, padam = Part.of(find("digits-adam")), Part.of(find("digits-padam"))
    assert adam.cost == padam.cost
    assert adam.program != padam.program
    assert Part.of(SPEC).cost != Part.of(find("cifar10-mini-padam")).cost


def test_whole_epochs():
    screen = io.StringIO()
    with Progress(*progress_columns(), console=Console(file=screen, width=100)) as progress:
        progress.add_task("digits-padam seed 0", total=1400, completed=1.6, left=TimeLeft([Part(1400)]))
    assert "1/1400 epochs" in " ".join(screen.getvalue().split())
    assert "left: -:--:--" in screen.getvalue()


@pytest.fixture
def described(monkeypatch) -> list[str]:
    """What the bars are described as, one after another."""
    found: list[str] = []

    def update(self, task, **changes):
        found.extend([changes["description"]] if "description" in changes else ["..."])

    monkeypatch.setattr(Progress, "update", update)
    return found


LINE = {"epoch": 1, "train_loss": 0.25, "test_error": 0.125, "examples_per_second": 1000.0}


def fake_run(spec, seed, data, out, **options) -> Record:
    for under_way in (True, False):
        options["on_compile"](under_way)
    options["on_steps"](1, 1.0)
    options["on_epoch"](LINE)
    return Record(spec, seed, DataSource("digits"), Device("cpu"), metrics=[LINE])


NAME = "digits-padam seed 0"
EXPECTED = [f"{NAME}: compiling", NAME, "...", "..."]


@pytest.mark.parametrize("command", [["run", "digits-padam"], ["demo", "--seeds", "1"]])
def test_compiling_is_said_while_compiling(tmp_path, monkeypatch, described, command):
    monkeypatch.setattr("padam_optax.runner.queue.run", fake_run)
    monkeypatch.setattr("padam_optax.cli.demo.digits.MINI", [SPEC])
    CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert described[:5] == [NAME, *EXPECTED]


def test_compiling_side_by_side(tmp_path, monkeypatch, described):
    def side_by_side(jobs, budget, *, on_event, **options):
        for event in ({"start": 0}, {"compile": True}, {"compile": False}, {"steps": [1, 1.0]}, {"epoch": LINE}):
            on_event(SPEC, 0, event)
        return Outcome([], [])

    monkeypatch.setattr("padam_optax.runner.jobs.run_side_by_side", side_by_side)
    monkeypatch.setattr(training, "STDERR", Output(stderr=True))
    training.run_jobs([], Budget(), {"checkpoint_every": 0}, [], None)
    assert described == EXPECTED


def test_compiling_of_a_sweep(tmp_path, described):
    """Once, and p is a fraction in what is said."""
    arguments = ["digits-padam", "--p", "1/8,1/4", "--epochs", "1", "--mode", "mapped", "--batch-configs", "1"]
    result = CliRunner().invoke(app, ["sweep", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert described == ["digits-padam: compiling", "digits-padam", "...", "...", "..."]
    assert "digits-padam, p = 1/8, seed 0: epoch 1: train loss" in result.stderr
    assert "0.125" not in result.output
