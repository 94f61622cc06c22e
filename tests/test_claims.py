"""The paper's claims on made-up records and on its own tables; its tables beside records; times to a target."""

import pathlib

import pytest
from fake_records import write

from padam_optax.experiments import paper as printed
from padam_optax.experiments.records import read_all
from padam_optax.experiments.spec import OPTIMIZERS, PaperRow, PaperTable
from padam_optax.report import claims, figures, page, paper, tables
from padam_optax.report.claims import Verdict, judge


@pytest.mark.parametrize(
    ("differences", "threshold", "verdict"),
    [
        ([1.0, 1.1, 0.9], 0.0, Verdict.SHOWN),
        ([-1.0, -1.1, -0.9], 0.0, Verdict.NOT_SHOWN),
        ([1.0, -1.0, 0.5], 0.0, Verdict.CANNOT_TELL),
        ([1.0, 1.1], 0.0, Verdict.CANNOT_TELL),
        ([1.0], 0.0, Verdict.CANNOT_TELL),
        ([], 0.0, Verdict.CANNOT_TELL),
        ([-0.1, -0.12, -0.11], -0.25, Verdict.SHOWN),
        ([-0.1, -0.12, -0.11], 0.0, Verdict.NOT_SHOWN),
        ([0.0, 0.0, 0.0], 0.0, Verdict.NOT_SHOWN),
    ],
)
def test_verdicts(differences, threshold, verdict):
    finding = judge("claim", "suite", differences, threshold)
    assert finding.verdict == verdict
    assert finding.n == len(differences)


def test_interval_is_students():
    """2.776 is the 97.5% quantile for 4 degrees of freedom."""
    finding = judge("claim", "suite", [1.0, 2.0, 3.0, 4.0, 5.0], 0.0)
    half = 2.776 * 2.5**0.5 / 5**0.5
    assert finding.mean == 3
    assert finding.interval == pytest.approx((3 - half, 3 + half), abs=1e-3)


def of(out: pathlib.Path, **changes) -> dict[str, claims.Finding]:
    return {finding.claim: finding for finding in claims.check(tables.suites(read_all(out)), **changes)}


def test_differences_are_paired_by_seed(tmp_path):
    """Only seeds that both finished: 0, 2 and 3 of SGD with momentum, which is better in 4 and diverged in 1."""
    for seed, error in enumerate([0.10, 0.11, 0.12, 0.13]):
        write(tmp_path, "padam", seed, error, 0.1)
    for seed, error in {0: 0.15, 2: 0.18, 3: 0.17, 4: 0.01}.items():
        write(tmp_path, "sgdm", seed, error, 0.2)
    write(tmp_path, "sgdm", 1, 0.5, 0.1, done=1, diverged=True)
    findings = of(tmp_path)
    accuracy = findings["Accuracy within 0.25 points of SGD with momentum"]
    assert (accuracy.n, accuracy.mean, accuracy.threshold) == (3, pytest.approx(5.0), -0.25)
    assert accuracy.verdict == Verdict.SHOWN
    start = findings["Lower train loss than SGD with momentum over the first 10% of the epochs"]
    assert (start.n, start.mean) == (3, pytest.approx(0.2))
    assert findings["Better accuracy than Adam"].n == 0


def test_perplexity_falls(tmp_path):
    for seed in range(3):
        write(tmp_path, "padam", seed, 0.1, 0.1, test_perplexity=60.0 + seed)
        write(tmp_path, "sgdm", seed, 0.1, 0.1, test_perplexity=63.0 + 1.1 * seed)
    finding = of(tmp_path)["Perplexity at most that of SGD with momentum"]
    assert (finding.threshold, finding.mean) == (0.0, pytest.approx(3.1))
    assert finding.verdict == Verdict.SHOWN


@pytest.mark.parametrize(("best", "verdict"), [(1 / 8, Verdict.SHOWN), (2 / 5, Verdict.NOT_SHOWN)])
def test_middle_p(tmp_path, best, verdict):
    for p, name in {1 / 16: "small-padam-p1_16", 1 / 8: "small-padam", 2 / 5: "small-padam-p2_5"}.items():
        for seed in range(3):
            write(tmp_path, "padam", seed, 0.1 + abs(p - best) + 0.001 * seed, 0.1, name=name, p=p)
    records = read_all(tmp_path)
    found = claims.check([], claims.runs_over_p(records))
    assert [finding.claim.rpartition(" ")[2] for finding in found] == ["0.0625", "0.4"]
    assert found[1].verdict == verdict
    assert {finding.n for finding in found} == {3}


def test_runs_that_chose_settings_are_no_results(tmp_path):
    write(tmp_path, "padam", 0, 0.1, 0.1, held_out=0.2)
    assert of(tmp_path) == {}
    assert claims.runs_over_p(read_all(tmp_path)) == []


def test_the_papers_own_tables():
    """Every row bears the two claims out; what the text says of three of them, in one case only."""
    found = claims.check_printed(printed.TABLES)
    assert len(found) == 2 * sum(len(table.rows) for table in printed.TABLES.values())
    assert all(entry.holds for entry in found)
    differences = {(entry.row, entry.claim.startswith("As good")): entry.difference for entry in found}
    assert differences["Table 4, WideResNet", True] == -0.24
    assert differences["Table 3, 2-layer LSTM", True] == 1.84
    assert differences["Table 1, ResNet", False] == 0.38
    assert [(entry.place, entry.holds) for entry in claims.statements(printed.TABLES)] == [
        ("Section 5.1", True),
        ("Appendix D", False),
        ("Section 5.1", False),
    ]
    texts = [entry.found for entry in claims.statements(printed.TABLES)]
    assert "a gap of 0.24" in texts[1]
    assert "70.07 against 70.23" in texts[2]


TABLE = PaperTable("Accuracy", 3, (PaperRow("small", "Net", "test_error", (90.0, 80.0, 81.0, 82.0, 83.0, 84.0, 95.0)),))
MARKDOWN = """\
Table 9: Accuracy. Mean ± standard deviation; left out: not finished, of another length, or diverged.

|  |  | SGD-Momentum | Adam | AMSGrad | AdamW | Yogi | AdaBound | Padam |
|---|---|---|---|---|---|---|---|---|
| Net | paper | 90.00 | 80.00 | 81.00 | 82.00 | 83.00 | 84.00 | 95.00 |
|  | measured on made-up, abacus; 3 left out | 89.00 ± 1.41 (n = 2) | not run | diverged | not run | not run | not run | 94.00 (n = 1) |
|  | difference | -1.00 |  |  |  |  |  | -1.00 |
|  | measured on other, abacus | 50.00 (n = 1) | not run | not run | not run | not run | not run | not run |
|  | difference | -40.00 |  |  |  |  |  |  |
"""  # noqa: E501


def test_table_beside_the_papers(tmp_path):
    write(tmp_path / "a", "sgdm", 0, 0.12, 0.1)
    write(tmp_path / "a", "sgdm", 1, 0.10, 0.1)
    write(tmp_path / "a", "sgdm", 2, 0.10, 0.1, epochs=2)
    write(tmp_path / "a", "padam", 0, 0.06, 0.1)
    write(tmp_path / "a", "adam", 0, 0.06, 0.1, done=1)
    write(tmp_path / "a", "amsgrad", 0, 0.06, 0.1, done=1, diverged=True)
    write(tmp_path / "b", "sgdm", 0, 0.5, 0.1, label="other")
    assert paper.markdown(9, TABLE, paper.compare(TABLE, read_all(tmp_path))) == MARKDOWN


def test_nothing_recorded_is_not_run():
    (comparison,) = paper.compare(TABLE, [])
    assert paper.lines(comparison)[1] == ["measured", *["not run"] * len(OPTIMIZERS)]


def test_time_to_target(tmp_path):
    """Errors are twice as large before the last epoch of three, each of two seconds."""
    for seed, error in enumerate([0.1, 0.2, 0.4]):
        write(tmp_path, "padam", seed, error, 0.1)
    write(tmp_path, "sgdm", 0, 0.5, 0.1)
    for trial in range(2):
        write(tmp_path, "padam", trial, 0.5, 0.1, name="small-padam@learning_rate=1", held_out=0.2)
    records = read_all(tmp_path)
    (suite,) = tables.suites(records)
    rows = {row.method: row for row in paper.time_to_target(suite.records, "small", "test_error", 0.3, records)}
    assert rows["padam"] == paper.TimeToTarget("padam", 2, 3, 2.0, 4.0, 2)
    assert rows["sgdm"] == paper.TimeToTarget("sgdm", 0, 1, None, None, 0)
    with pytest.raises(ValueError, match="no metric 'accuracy'; they have epoch, train_loss"):
        paper.time_to_target(suite.records, "small", "accuracy", 0.3, records)


def panels(number: int, out: pathlib.Path, monkeypatch) -> list[figures.Panel]:
    drawn = []
    monkeypatch.setattr(figures, "draw", lambda rows, title, path: drawn.extend([*rows, title]) or path)
    figures.paper_figure(number, read_all(out), out / "figure.png")
    return [panel for row in drawn[:-1] for panel in row]


def test_figure_1_has_a_curve_for_each_p(tmp_path, monkeypatch):
    for p, name in {1 / 16: "cifar10-resnet18-padam-p1_16", 1 / 8: "cifar10-resnet18-padam"}.items():
        write(tmp_path, "padam", 0, 0.1, 0.1, name=name, p=p)
    first, second = panels(1, tmp_path, monkeypatch)
    assert list(first.curves) == ["p = 0.0625", "p = 0.125"]
    assert dict(second.curves) == {}


@pytest.mark.parametrize(("number", "data"), [(2, "cifar10"), (4, "cifar100")])
def test_figures_2_and_4(tmp_path, monkeypatch, number, data):
    """Loss above error for three networks; only the longest runs of an experiment."""
    write(tmp_path, "adam", 0, 0.1, 0.1, suite=f"{data}-vgg16")
    write(tmp_path, "padam", 0, 0.1, 0.1, suite=f"{data}-vgg16")
    write(tmp_path, "padam", 1, 0.1, 0.1, suite=f"{data}-vgg16", epochs=2)
    found = panels(number, tmp_path, monkeypatch)
    assert [panel.metric for panel in found] == ["train_loss"] * 3 + ["test_error"] * 3
    assert [panel.title for panel in found] == ["VGGNet", "ResNet", "WideResNet"] * 2
    assert {name: len(runs) for name, runs in found[0].curves.items()} == {"Adam": 1, "Padam": 1}


def test_figure_3(tmp_path, monkeypatch):
    write(tmp_path, "padam", 0, 0.3, 0.1, suite="imagenet-vgg16", test_error_top5=0.1)
    write(tmp_path, "sgdm", 0, 0.3, 0.1, suite="ptb-lstm3", test_perplexity=61.0)
    found = panels(3, tmp_path, monkeypatch)
    assert [panel.metric for panel in found] == ["test_error", "test_error_top5", "test_perplexity"] * 2
    assert [list(panel.curves) for panel in found] == [["Padam"], ["Padam"], [], [], [], ["SGD-Momentum"]]


def test_results_page(tmp_path):
    """Pictures that it links are there; what was not run is said."""
    write(tmp_path / "runs", "padam", 0, 0.1, 0.1)
    write(tmp_path / "runs", "padam", 0, 0.05, 0.1, suite="cifar10-resnet18", epochs=200)
    path = page.write(read_all(tmp_path / "runs"), printed.TABLES, tmp_path / "page")
    text = path.read_text()
    for name in ("small.png", "figure-1.png", "figure-2.png"):
        assert f"]({name})" in text
        assert (tmp_path / "page" / name).stat().st_size > 5_000
    assert "Figure 3: not run." in text
    assert not (tmp_path / "page" / "figure-4.png").exists()
    assert "measured on made-up, abacus | not run" in text
    assert "95.00 (n = 1)" in text
    assert "disagrees" in text
    assert not list((tmp_path / "page").glob("*.part"))
    assert text == page.write(read_all(tmp_path / "runs"), printed.TABLES, tmp_path / "page").read_text()
