"""Tables and curves from small records written for the purpose."""

import dataclasses
import fractions
import io
import json
import pathlib
import re
import statistics

import fake_records
import matplotlib.image
import pytest
from recorded import RESULTS_PAGE, ROOT, recorded
from rich.console import Console

from padam_optax.experiments import EXPERIMENTS, tuning
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.paper import TABLES as PAPER_TABLES
from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.store import RunDirectory, read_all
from padam_optax.report import figures, page, summary, tables, targets
from padam_optax.report.claims import on_records
from padam_optax.report.naming import method_title
from padam_optax.report.results import PAPER, Paper, Results

EPOCHS = 3
GUIDE = ROOT / "docs" / "choosing.md"
# Where the paper has no tables all experiments are our own, and those of the records are the only ones.
NOTHING = Paper({}, {})


def suites_in(out: pathlib.Path, paper: Paper = NOTHING) -> list[tables.Suite]:
    """The suites of the runs recorded in a folder."""
    return tables.suites(Results(paper, read_all(out)))


def write(
    out: pathlib.Path,
    optimizer: str,
    seed: int,
    error: float,
    loss: float,
    *,
    suite: str = "small",
    label: str = "made-up",
    epochs: int = EPOCHS,
    **state,
) -> None:
    """A run whose last epoch has this test error and training loss; both were twice as large in the epochs before."""

    def metrics(epoch: int) -> dict[str, float]:
        factor = 1 if epoch == epochs else 2
        return {"train_loss": factor * loss, "test_error": factor * error}

    spec = fake_records.small(optimizer, suite=suite, epochs=epochs)
    fake_records.write(out, spec, seed, metrics, label=label, **state)


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> tables.Suite:
    """Padam best in accuracy, Adam in loss; AMSGrad and one Yogi diverged; AdamW stopped; no AdaBound."""
    out = tmp_path_factory.mktemp("records")
    for seed, (error, loss) in enumerate([(0.10, 0.50), (0.12, 0.40), (0.11, 0.60)]):
        write(out, "sgdm", seed, error, loss)
    for seed, (error, loss) in enumerate([(0.20, 0.010), (0.201, 0.013)]):
        write(out, "adam", seed, error, loss)
    write(out, "amsgrad", 0, 0.3, 0.1, done=1, diverged=True)
    write(out, "adamw", 0, 0.3, 0.1, done=2)
    write(out, "yogi", 0, 0.25, 0.2)
    write(out, "yogi", 1, 0.25, 0.2, done=0, diverged=True)
    write(out, "padam", 0, 0.0512345, 0.123456)
    (found,) = suites_in(out)
    return found


CAPTION = (
    "small on made-up, 3 epochs, n = 1 to 3, device abacus: mean ± standard deviation at the last epoch; best mean in"
    " bold. Diverged and in no mean: AMSGrad 1, Yogi 1. Not finished: AdamW 1."
)
MARKDOWN = f"""{CAPTION}

| | SGD-Momentum | Adam | AMSGrad | AdamW | Yogi | AdaBound | Padam |
|---|---|---|---|---|---|---|---|
| Learning rate | 0.1 | 0.1 | 0.1 | - | 0.1 | - | 0.1, p = 1/8 |
| Test accuracy (%) | 89.00 ± 1.00 | 79.95 ± 0.07 | diverged | not finished | 75.00 | not run | **94.88** |
| Train loss | 0.5000 ± 0.1000 | **0.0115 ± 0.0021** | diverged | not finished | 0.2000 | not run | 0.1235 |
"""


def test_suite(suite):
    assert (suite.name, suite.quality, suite.group.length) == ("small", "test_error", f"{EPOCHS} epochs")
    assert {name for name, runs in suite.group.finished.items() if runs} == {
        "small-sgdm",
        "small-adam",
        "small-amsgrad",
        "small-yogi",
        "small-padam",
    }
    assert {name for name, runs in suite.group.unfinished.items() if runs} == {"small-adamw"}


def test_markdown(suite):
    assert tables.suite_grid(suite).markdown() == MARKDOWN


def test_caption(suite):
    assert tables.caption(suite) == CAPTION


def test_caption_of_equal_counts(tmp_path):
    for optimizer in ("adam", "padam"):
        for seed in range(2):
            write(tmp_path, optimizer, seed, 0.1, 0.1)
    (suite,) = suites_in(tmp_path)
    assert tables.caption(suite) == (
        "small on made-up, 3 epochs, n = 2, device abacus: mean ± standard deviation at the last epoch; best mean in"
        " bold."
    )


def test_nothing_finished(tmp_path):
    write(tmp_path, "padam", 0, 0.1, 0.1, done=1)
    (suite,) = suites_in(tmp_path)
    assert "n = 0" in tables.caption(suite)
    assert tables.suite_grid(suite).markdown().count("not run") == 2 * (len(PAPER_METHODS) - 1)
    assert tables.suite_grid(suite).markdown().count("not finished") == 2
    assert "**" not in tables.suite_grid(suite).markdown()


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [([0.25], 0.25, None), ([0.1, 0.3], 0.2, 0.1 * 2**0.5), ([1.0, 2.0, 3.0, 4.0], 2.5, (5 / 3) ** 0.5)],
)
def test_mean_and_sample_deviation(tmp_path, values, mean, deviation):
    for seed, value in enumerate(values):
        write(tmp_path, "padam", seed, 0.1, value)
    found = summary.final(read_all(tmp_path), "train_loss")
    assert found.n == len(values)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == (None if deviation is None else pytest.approx(deviation))


def test_last_epoch_counts_not_the_best(tmp_path):
    write(tmp_path, "padam", 0, 0.4, 0.4, epochs=2)
    run = RunDirectory(tmp_path, "small-padam", 0)
    run.start(run.read(), 1)
    run.append({"epoch": 2, "train_loss": 9.0, "test_error": 0.95})
    assert summary.final(read_all(tmp_path), "test_error").mean == pytest.approx(5)


def test_suites_are_kept_apart(tmp_path):
    """By recipe, data and length; each label has a table of its own."""
    for suite, label, epochs in (("two", "a", 3), ("one", "b", 3), ("one", "a", 4), ("one", "a", 3)):
        write(tmp_path / f"{label}{epochs}", "padam", 0, 0.1, 0.1, suite=suite, label=label, epochs=epochs)
    found = [suite.title for suite in suites_in(tmp_path)]
    assert found == ["one on a, 4 epochs", "one on a, 3 of 4 epochs", "one on b, 3 of 4 epochs", "two on a, 3 epochs"]


SETTINGS = {
    "bfloat16": ({"compute_dtype": "bfloat16"}, "activations in bfloat16"),
    "a rate near it": ({"hyperparameters": {"learning_rate": 0.1000001, "p": 0.125}}, "learning_rate=0.1000001"),
    "another batch": ({"batch_size": 64}, "batch_size=64"),
}


@pytest.mark.parametrize(("changes", "said"), SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("known", [True, False])
def test_settings_are_kept_apart(tmp_path, changes, said, known):
    """No table, picture or verdict has runs of one experiment with different settings, whoever knows the experiment."""
    spec = fake_records.small("padam")
    other = dataclasses.replace(spec, **changes)
    metrics = {"train_loss": 1.0, "seconds": 1.0}
    for seed in range(3):
        fake_records.write(tmp_path / "a", spec, seed, fake_records.flat(test_error=0.2, **metrics))
        fake_records.write(tmp_path / "b", other, seed, fake_records.flat(test_error=0.4, **metrics))
        fake_records.write(
            tmp_path / "a", fake_records.small("sgdm"), seed, fake_records.flat(test_error=0.3, **metrics)
        )
    found = Results(Paper({}, {spec.name: spec} if known else {}), read_all(tmp_path))
    first, second = tables.suites(found)
    assert (first.title, second.title) == ("small on cifar10, 3 epochs", f"small on cifar10, 3 epochs, {said}")
    assert "80.00 ± 0.00" in tables.suite_grid(first).markdown()
    assert "60.00 ± 0.00" in tables.suite_grid(second).markdown()
    assert said in tables.caption(second)
    assert len({name for _, name in page.suite_files([first, second])}) == 2
    (evidence,) = [each for each in on_records(found) if each.claim == "accuracy" and each.n]
    assert (evidence.n, evidence.difference) == (3, pytest.approx(10))
    grids = targets.target_grids(found, "test_error", 0.2)
    assert ["3 of 3" in grid.markdown() for grid in grids] == [True, False]


def test_all_devices_are_named(tmp_path):
    for seed, device in enumerate(("lathe", "abacus")):
        write(tmp_path, "padam", seed, 0.1, 0.1, device=device)
    (suite,) = suites_in(tmp_path)
    assert "n = 2, device abacus, lathe: " in tables.caption(suite)


def test_a_run_in_two_folders_counts_once(tmp_path):
    for folder in "ab":
        write(tmp_path / folder, "padam", 0, 0.1, 0.1)
    (suite,) = suites_in(tmp_path)
    assert "n = 1," in tables.caption(suite)
    write(tmp_path / "c", "padam", 0, 0.2, 0.1)
    with pytest.raises(ValueError, match="small-padam, seed 0, on made-up was recorded twice with different results"):
        suites_in(tmp_path)


def test_language(tmp_path, monkeypatch):
    """Perplexity takes the place of the test error, and less of it is better."""
    for optimizer, perplexity in (("sgdm", 80.0), ("padam", 70.0)):
        for seed in range(2):
            spec = fake_records.small(optimizer, suite="ptb-mini", dataset="ptb", task=LanguageModelling())
            metrics = {"train_loss": 4.0, "test_perplexity": perplexity + seed, "test_error": 0.5}
            fake_records.write(tmp_path, spec, seed, fake_records.flat(**metrics))
    (suite,) = suites_in(tmp_path)
    text = tables.suite_grid(suite).markdown()
    assert "| Test perplexity | 80.50 ± 0.71 | not run |" in text
    assert "**70.50 ± 0.71**" in text
    assert "accuracy" not in text
    loss, perplexity, title = axes_of(suite, tmp_path, monkeypatch)
    assert [axes.get_ylabel() for axes in (loss, perplexity)] == ["Train loss", "Test perplexity"]
    assert perplexity.lines[0].get_ydata() == pytest.approx([80.5] * EPOCHS)
    assert loss.yaxis.get_major_formatter()(4.0) == "4"
    assert title.startswith("Penn Treebank, small CNN, 3 epochs")
    found = {
        each.claim: each for each in on_records(Results(NOTHING, read_all(tmp_path))) if each.rival == "SGD-Momentum"
    }
    assert found.keys() == {"perplexity", "start"}
    assert found["perplexity"].difference == pytest.approx(10)


def test_trials_are_no_results(tmp_path):
    """Neither the runs of a search, nor those that were scored on held-out examples."""
    spec = fake_records.small("padam")
    for trial in (fake_records.trial(spec, p=1.0), spec.with_task(held_out=0.2)):
        fake_records.write(tmp_path, trial, 0, fake_records.flat(test_error=0.1))
    for paper in (NOTHING, Paper({}, {spec.name: spec})):
        assert suites_in(tmp_path, paper) == []


def test_terminal_table_fits_80_columns(suite):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.suite_grid(suite).rich_table())
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for cell in ("94.88", "89.00", "±1.00", "0.0115", "±0.0021", "diverged", "not run", "Momentum", "AdaBound"):
        assert cell in text
    assert "made-up" in text


def axes_of(suite, tmp_path, monkeypatch, *methods):
    """The figure's axes, loss and error, and its title, as drawn."""
    import matplotlib.figure

    drawn = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *rest, **options):
        drawn.append(figure)
        save(figure, *rest, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    figures.training_curves(suite, tmp_path / "curves.png", *methods)
    (figure,) = drawn
    return (*figure.axes, figure.get_suptitle())


def test_picture(suite, tmp_path):
    path = figures.training_curves(suite, tmp_path / "folder" / "curves.png")
    assert path == tmp_path / "folder" / "curves.png"
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]
    pixels = matplotlib.image.imread(path)
    assert pixels.shape == (480, 1200, 4)
    assert path.stat().st_size > 10_000
    assert pixels[:, :600].std() > 0.05
    assert pixels[:, 600:].std() > 0.05


def test_curves(suite, tmp_path, monkeypatch):
    loss, error, title = axes_of(suite, tmp_path, monkeypatch)
    assert title == "made-up, small CNN, 3 epochs\n(n = 1-3, mean and standard deviation)"
    assert error.get_yscale() == "log"
    assert loss.get_yscale() == "log"
    assert error.get_ylabel() == "Test error (%)"
    drawn = ["SGD-Momentum", "Adam", "Yogi", "Padam"]
    for axes, expected in ((loss, [1.0, 1.0, 0.5]), (error, [22.0, 22.0, 11.0])):
        assert [line.get_label() for line in axes.lines] == drawn
        assert axes.lines[0].get_xdata() == pytest.approx([1, 2, 3])
        assert axes.lines[0].get_ydata() == pytest.approx(expected)
    (legend,) = error.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == drawn
    assert len({line.get_color() for line in error.lines}) == len(drawn)


def test_a_spike_leaves_the_picture(tmp_path, monkeypatch):
    """A panel ends at twice its highest first or last value where one in between would hide the rest."""
    for optimizer, loss in (("adam", 0.5), ("padam", 0.4)):
        write(tmp_path, optimizer, 0, 0.1, loss)
    path = tmp_path / "small-adam" / "seed-0" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    spike = json.loads(lines[1])
    path.write_text("\n".join([lines[0], json.dumps(spike | {"train_loss": 1e6}), *lines[2:]]) + "\n")
    (suite,) = suites_in(tmp_path)
    loss, error, _ = axes_of(suite, tmp_path, monkeypatch)
    assert loss.get_ylim()[1] == pytest.approx(2 * loss.lines[0].get_ydata()[0])
    assert [text.get_text() for text in loss.texts] == ["a curve leaves the picture"]
    assert not error.texts


def test_picture_without_a_curve(tmp_path):
    """All diverged: an empty picture rather than a warning or an error."""
    write(tmp_path, "padam", 0, 0.1, 0.1, done=1, diverged=True)
    (suite,) = suites_in(tmp_path)
    assert matplotlib.image.imread(figures.training_curves(suite, tmp_path / "curves.png")).shape == (480, 1200, 4)


@pytest.mark.parametrize("name", ["cifar10-mini", "ptb-mini", "ptb-transformer-mini", "digits-mini"])
def test_the_page_shows_the_recorded_runs(name):
    """Its tables, and those of the guide's page of results, are those that the records make."""
    results = Results(PAPER, recorded(name))
    (suite,) = tables.suites(results)
    counts = [(each.method, len(suite.group.finished_of(each.experiment))) for each in suite.series]
    assert counts == [(method, 5) for method in tuning.SPACES]
    (table,) = page.contents(results).suites
    assert len(table.grids) == 3
    assert table.grids[0] == tables.suite_grid(suite)
    for grid in table.grids:
        assert grid.markdown() in RESULTS_PAGE.read_text()
        assert grid.markdown() in (RESULTS_PAGE.parent / f"{name}.md").read_text()
    assert f"../benchmarks/reports/{name}.md" in (ROOT / "docs" / "results.md").read_text()


def means(suite: str) -> dict[str, float]:
    """The mean of each method at its chosen settings, accuracies in percent."""
    found: dict[str, list[float]] = {}
    for run in recorded(suite):
        spec = run.experiment
        if spec.suite == suite and spec.variant_of is None:
            value = run.metrics[-1].get("test_perplexity")
            value = 100 - 100 * run.metrics[-1]["test_error"] if value is None else value
            found.setdefault(spec.optimizer, []).append(value)
    assert {len(values) for values in found.values()} == {5}
    return {method: statistics.fmean(values) for method, values in found.items()}


@pytest.mark.parametrize(
    ("suite", "name"),
    [
        ("digits-mini", "digits"),
        ("cifar10-mini", "CIFAR-10"),
        ("ptb-mini", "Penn Treebank, LSTM"),
        ("ptb-transformer-mini", "Penn Treebank, transformer"),
    ],
)
def test_the_guide_quotes_the_suites(suite, name):
    """The table of recommended settings in docs/choosing.md: Padam twice, and the best other method."""
    (row,) = re.findall(rf"^\| {name}.*test (?:accuracy|perplexity).*$", GUIDE.read_text(), re.MULTILINE)
    _, padam, reference, other, score, _ = (cell.strip() for cell in row.split("|")[1:])
    found = means(suite)
    for cell, method in ((padam, "padam"), (reference, "padam-reference")):
        settings = EXPERIMENTS[f"{suite}-{method}"].hyperparameters
        p = fractions.Fraction(settings["p"])
        rate = re.fullmatch(rf"p = {p} at ([\d.]+): {found[method]:.2f}", cell)
        assert rate is not None, cell
        assert float(rate[1]) == pytest.approx(settings["learning_rate"], rel=0.01)
    best = (min if suite.startswith("ptb") else max)(tuning.SPACES.keys() - {"padam", "padam-reference"}, key=found.get)
    assert other.startswith(method_title(best))
    assert score == f"{found[best]:.2f}"


def test_the_first_page_quotes_the_text():
    """How far Padam at Adam's rates is below the others on the LSTM, and behind SGD on the transformer."""
    found = means("ptb-mini")
    ours = found.pop("padam-reference")
    ahead = [value - ours for value in found.values()]
    quoted = (
        f"{ours:.1f} perplexity with `reference_p=1/2` and p = 1/4, {min(ahead):.1f} to {max(ahead):.1f} below seven"
    )
    text = " ".join((ROOT / "README.md").read_text().split())
    assert quoted in text
    transformer = means("ptb-transformer-mini")
    behind = transformer["padam-reference"] - min(transformer.values())
    assert behind == transformer["padam-reference"] - transformer["sgdm"]
    assert f"On a small transformer it ended {behind:.1f} perplexities below Padam with `reference_p=1/2`" in text
    published = transformer["padam"] - transformer["padam-reference"]
    assert f"Padam as published ended {published:.0f} above that" in text


def test_readme_quotes_the_paper():
    """The paper's row, and below it the recorded one."""
    row = next(row for row in PAPER_TABLES[1].rows if row.suite == "cifar10-resnet18")
    cells = [f"**{value:.2f}**" if value == max(row.values) else f"{value:.2f}" for value in row.values]
    text = (ROOT / "README.md").read_text()
    printed = f"| Test accuracy (%) | {' | '.join(cells)} |"
    runs = [run for run in recorded("cifar10-resnet18") if run.experiment.variant_of is None]
    last = {run.experiment.optimizer: run.metrics[-1] for run in runs}
    assert all(line["epoch"] == 200 for line in last.values())
    accuracies = {method: 100 - 100 * line["test_error"] for method, line in last.items()}
    measured = [f"{accuracies[method]:.2f}" if method in accuracies else "not run" for method in PAPER_METHODS]
    best = f"{max(accuracies.values()):.2f}"
    measured[measured.index(best)] = f"**{best}**"
    assert f"{printed}\n| measured, n = 1 | {' | '.join(measured)} |" in text
