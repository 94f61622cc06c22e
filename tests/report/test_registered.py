"""What others register or record shows up in the report: methods, experiments, suites and sweeps that are not ours."""

import dataclasses
from collections.abc import Iterator

import pytest
from fake_records import SMALL, flat, records, small, trial, write

from padam_optax.experiments import EXPERIMENTS, register
from padam_optax.experiments.methods import METHODS, Method
from padam_optax.experiments.methods import register as register_method
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.records.store import read_all
from padam_optax.report import figures, page, tables, targets
from padam_optax.report.claims import on_records
from padam_optax.report.naming import UNKNOWN_COLOR
from padam_optax.report.results import PAPER, Paper, Results
from padam_optax.report.sweeps import Sweep
from padam_optax.report.variants import variant_grids

SEVEN = [METHODS[method].title for method in PAPER_METHODS]


@pytest.fixture
def lion() -> Iterator[Method]:
    """A method that somebody registers, after ours."""
    yield register_method(Method("lion", "Lion", "#123456", {"learning_rate": 1e-4}, lambda values, context: None))
    del METHODS["lion"]


def drawn(suite: tables.Suite, tmp_path, monkeypatch):
    """The test's panel of a suite's picture."""
    saved = []
    monkeypatch.setattr(figures, "save", lambda figure, path: saved.append(figure) or path)
    figures.training_curves(suite, tmp_path / "curves.png")
    return saved[0].axes[1]


def test_a_method_has_a_column_and_a_curve(tmp_path, monkeypatch, lion):
    for optimizer in ("lion", "padam"):
        found = records(tmp_path, small(optimizer, suite="ours"), [0.1, 0.2])
    (suite,) = tables.suites(Results(SMALL, found))
    grid = tables.suite_grid(suite)
    assert list(grid.columns) == [*SEVEN, "Lion"]
    assert grid.lines[1].cells[-1].parts == ("85.00", "± 7.07")
    assert [line.get_label() for line in drawn(suite, tmp_path, monkeypatch).lines] == ["Padam", "Lion"]
    assert drawn(suite, tmp_path, monkeypatch).lines[1].get_color() == lion.color
    (grid,) = targets.target_grids(Results(SMALL, found), "test_error", 0.15)
    assert [line.heads for line in grid.lines if line.cells[0].parts == ("1 of 2",)] == [("Padam",), ("Lion",)]


def test_a_registered_experiment_is_known_to_the_command(tmp_path, lion):
    """Without any of the paper's methods beside it there is no column for them."""
    spec = register(small("lion", suite="theirs"))
    try:
        found = Results(PAPER, records(tmp_path, spec.with_epochs(2), [0.1]))
        (suite,) = tables.suites(found)
        assert suite.title == "theirs on cifar10, 2 of 3 epochs"
        assert tables.suite_grid(suite).columns == ("Lion",)
        assert "theirs on cifar10, 2 of 3 epochs, n = 1" in page.results_page(page.contents(found), {})
    finally:
        del EXPERIMENTS[spec.name]


def test_a_method_that_is_not_registered_goes_by_its_name(tmp_path, monkeypatch):
    for optimizer in ("lion", "sgdm"):
        found = records(tmp_path, small(optimizer, suite="theirs"), [0.1, 0.2])
    (suite,) = tables.suites(Results(PAPER, found))
    assert list(tables.suite_grid(suite).columns) == [*SEVEN, "lion"]
    axes = drawn(suite, tmp_path, monkeypatch)
    assert [(line.get_label(), line.get_color()) for line in axes.lines] == [
        ("SGD-Momentum", METHODS["sgdm"].color),
        ("lion", UNKNOWN_COLOR),
    ]


def test_order_of_columns_is_that_of_the_registry(tmp_path, lion):
    for optimizer in ("zorro", "lion", "padam-falling", "adam"):
        found = records(tmp_path, small(optimizer, suite="theirs"), [0.1])
    (suite,) = tables.suites(Results(PAPER, found))
    assert list(tables.suite_grid(suite).columns) == [*SEVEN, "Padam, p falling", "Lion", "zorro"]


def test_two_experiments_with_one_method(tmp_path, monkeypatch):
    """Each has a column and a curve of its own, under its own name; the claims are about the first."""
    first = small("padam", suite="theirs")
    second = dataclasses.replace(first, name="theirs-quick", hyperparameters={"learning_rate": 1.0, "p": 0.125})
    paper = Paper({}, {spec.name: spec for spec in (first, second, small("sgdm", suite="theirs"))})
    for spec, error in zip(paper.experiments.values(), (0.1, 0.2, 0.3), strict=True):
        found = records(tmp_path, spec, [error] * 3)
    (suite,) = tables.suites(Results(paper, found))
    grid = tables.suite_grid(suite)
    assert list(grid.columns) == [*SEVEN[:-1], "theirs-padam", "theirs-quick"]
    assert [" ".join(cell.parts) for cell in grid.lines[1].cells[-2:]] == ["90.00 ± 0.00", "80.00 ± 0.00"]
    styles = {line.get_label(): line.get_linestyle() for line in drawn(suite, tmp_path, monkeypatch).lines}
    assert styles == {"SGD-Momentum": "-", "theirs-padam": "-", "theirs-quick": "--"}
    (evidence,) = [each for each in on_records(Results(paper, found)) if each.claim == "accuracy"]
    assert evidence.difference == pytest.approx(20)


def test_experiments_of_different_lengths(tmp_path):
    for spec in (small("padam", suite="theirs"), small("sgdm", suite="theirs", epochs=5)):
        found = records(tmp_path, spec, [0.1])
    (suite,) = tables.suites(Results(PAPER, found))
    assert suite.title == "theirs on cifar10, 3 to 5 epochs"


def test_the_papers_tables_and_claims_keep_their_seven(tmp_path, lion):
    """What else is trained in a suite of theirs stands beside their methods in a table of our own."""
    spec = small("lion", epochs=3)
    paper = dataclasses.replace(SMALL, experiments={**SMALL.experiments, spec.name: spec})
    alone = Results(paper, records(tmp_path, SMALL.experiments["small-padam"], [0.2]))
    assert tables.suites(alone) == []
    found = Results(paper, records(tmp_path, spec, [0.1]))
    table = tables.paper_table(1, found)
    assert list(table.columns) == SEVEN
    assert table == tables.paper_table(1, alone)
    (suite,) = tables.suites(found)
    grid = tables.suite_grid(suite)
    assert list(grid.columns) == [*SEVEN, "Lion"]
    assert [cell.parts[0] for cell in grid.lines[1].cells[-2:]] == ["80.00", "90.00"]
    assert {each.rival for each in on_records(found)} <= {*SEVEN, "p = 1/4", "p = 1/16"}
    contents = page.contents(found)
    names = [*(name for _, name in contents.networks), *(table.name for table in contents.suites)]
    assert len(set(names)) == len(names) == 2


def test_another_run_of_a_papers_method_is_no_cell(tmp_path):
    """An experiment of one of the paper's suites and methods under another name takes no cell of its table."""
    other = dataclasses.replace(small("padam"), name="my-padam", hyperparameters={"learning_rate": 1.0, "p": 0.25})
    for paper in (SMALL, dataclasses.replace(SMALL, experiments={**SMALL.experiments, other.name: other})):
        found = Results(paper, records(tmp_path, other, [0.1]))
        assert not tables.has_runs(1, found)
        (suite,) = tables.suites(found)
        assert tables.suite_grid(suite).columns[-2:] == ("small-padam", "my-padam")


def test_a_variant_of_what_nobody_knows_is_a_suite_by_itself(tmp_path):
    spec = dataclasses.replace(small("padam", suite="theirs"), name="theirs-padam-p1", variant_of="theirs-padam")
    found = Results(PAPER, records(tmp_path, spec, [0.1]))
    assert [suite.title for suite in tables.suites(found)] == ["theirs-padam-p1 on cifar10, 3 epochs"]
    assert variant_grids(found) == []
    base = small("padam", suite="theirs")
    found = Results(PAPER, records(tmp_path, base, [0.1]))
    assert [suite.title for suite in tables.suites(found)] == ["theirs on cifar10, 3 epochs"]
    (grid,) = variant_grids(found)
    assert [line.heads[0] for line in grid.lines] == [base.name, spec.name]


def test_a_sweep_of_any_method(tmp_path, lion):
    """Its name and its settings are data: a name that looks like none is as good as another."""
    base = small("lion", suite="theirs")
    for rate, error in ((0.1, 0.3), (0.2, 0.1)):
        spec = dataclasses.replace(trial(base, learning_rate=rate), name=f"run {rate}")
        write(tmp_path, spec, 0, flat(test_error=error))
    found = Sweep.of(read_all(tmp_path), "test_error")
    assert found.name == "theirs-lion"
    assert [point.chosen for point in found.points] == [{"learning_rate": 0.2}, {"learning_rate": 0.1}]
    assert "| learning_rate = 0.2 | **10.00** |" in found.grid().markdown()


def test_options_of_a_model_that_come_back_as_lists(tmp_path):
    """JSON has no tuples: a run is not said to depart from its own experiment."""
    spec = small("padam", suite="theirs", model_options={"widths": (16, 32), "rates": {"first": (0.1, 0.2)}})
    for changed, expected in ((spec, ()), (dataclasses.replace(spec, model_options={}), ("no widths", "no rates"))):
        found = Results(Paper({}, {spec.name: spec}), records(tmp_path / str(len(expected)), changed, [0.1]))
        assert [group.conditions.departures for group in found.groups([spec.name])] == [expected]
