"""The report's table of experiments that change one thing in another, beside that one."""

import dataclasses

from fake_records import flat, small, write

from padam_optax.records.store import read_all
from padam_optax.report.results import PAPER, Paper, Results
from padam_optax.report.tables import suites
from padam_optax.report.variants import changes, variant_grids


def test_changes_in_words():
    base = small("padam")
    spec = dataclasses.replace(base, hyperparameters={"p": 1.0, "learning_rate": 0.1, "root": 0.25})
    assert changes(base, spec) == "p=1, root=0.25"
    spec = dataclasses.replace(base, hyperparameters={"learning_rate": 0.1}, bias_correction="debiased")
    assert changes(base, spec) == "no p, bias_correction=debiased"


def test_report(tmp_path):
    base = small("padam", suite="ours")
    settings = {"learning_rate": 0.1, "p": 1.0}
    spec = dataclasses.replace(base, name="ours-padam-p1", hyperparameters=settings, variant_of=base.name)
    paper = Paper({}, {base.name: base, spec.name: spec})
    assert Results(paper).variants == {base.name: [spec]}
    assert Results(paper).own_suites == ["ours"]
    for seed, error in enumerate((0.10, 0.12, 0.14, 0.50)):
        write(tmp_path, base, seed, flat(test_error=error, train_loss=0.5))
    assert variant_grids(Results(paper, read_all(tmp_path))) == []
    for seed, error in enumerate((0.11, 0.14, 0.17)):
        write(tmp_path, spec, seed, flat(test_error=error, train_loss=0.25))
    write(tmp_path, spec, 3, flat(test_error=0.9, train_loss=0.5), done=1, diverged=True)
    (grid,) = variant_grids(Results(paper, read_all(tmp_path)))
    assert [line.heads for line in grid.lines] == [("ours-padam", ""), ("ours-padam-p1", "p=1")]
    # Accuracies fall by 1, 2 and 3 points: 2 ± t(2 degrees) 4.303 x 1 / sqrt(3).
    assert [" ".join(cell.parts) for cell in grid.lines[1].cells] == [
        "3", "86.00 ± 3.00", "0.2500 ± 0.0000", "-2.00 (-4.48 to +0.48)",
    ]  # fmt: skip
    assert "Diverged and in no mean: ours-padam-p1 1." in grid.caption
    assert [suite.name for suite in suites(Results(paper, read_all(tmp_path)))] == ["ours"]


def test_the_papers_figure_1_is_no_variant():
    assert set(Results(PAPER).variants) == {"ptb-mini-padam-reference"}
