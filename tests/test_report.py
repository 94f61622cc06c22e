"""Tables and curves from small records written for the purpose."""

import io
import pathlib

import fake_records
import matplotlib.image
import pytest
from rich.console import Console

from padam_optax.experiments.records import RunDirectory, read_all
from padam_optax.experiments.spec import OPTIMIZERS
from padam_optax.report import figures, tables

EPOCHS = 3


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
    (found,) = tables.suites(read_all(out))
    return found


CAPTION = (
    "small on made-up, 3 epochs, n = 1 to 3, device abacus: mean ± standard deviation at the last epoch; best mean in"
    " bold. Runs that diverged and are in no mean: 2. Runs not finished: 1."
)
MARKDOWN = f"""{CAPTION}

| | SGD-Momentum | Adam | AMSGrad | AdamW | Yogi | AdaBound | Padam |
|---|---|---|---|---|---|---|---|
| Test accuracy (%) | 89.00 ± 1.00 | 79.95 ± 0.07 | diverged | not run | 75.00 | not run | **94.88** |
| Train loss | 0.5000 ± 0.1000 | **0.0115 ± 0.0021** | diverged | not run | 0.2000 | not run | 0.1235 |
"""


def test_suite(suite):
    assert (suite.name, suite.label, suite.device, suite.epochs) == ("small", "made-up", "abacus", EPOCHS)
    assert list(suite.records) == ["sgdm", "adam", "amsgrad", "yogi", "padam"]
    assert (suite.diverged, suite.unfinished) == (2, 1)


def test_markdown(suite):
    assert tables.markdown(suite) == MARKDOWN


def test_caption(suite):
    assert tables.caption(suite) == CAPTION


def test_caption_of_equal_counts(tmp_path):
    for optimizer in ("adam", "padam"):
        for seed in range(2):
            write(tmp_path, optimizer, seed, 0.1, 0.1)
    (suite,) = tables.suites(read_all(tmp_path))
    assert tables.caption(suite) == (
        "small on made-up, 3 epochs, n = 2, device abacus: mean ± standard deviation at the last epoch; best mean in"
        " bold."
    )


def test_nothing_finished(tmp_path):
    write(tmp_path, "padam", 0, 0.1, 0.1, done=1)
    (suite,) = tables.suites(read_all(tmp_path))
    assert suite.records == {}
    assert "no finished run" in tables.caption(suite)
    assert tables.markdown(suite).count("not run") == 2 * len(OPTIMIZERS)
    assert "**" not in tables.markdown(suite)


@pytest.mark.parametrize(
    ("values", "mean", "deviation"),
    [([0.25], 0.25, None), ([0.1, 0.3], 0.2, 0.1 * 2**0.5), ([1.0, 2.0, 3.0, 4.0], 2.5, (5 / 3) ** 0.5)],
)
def test_mean_and_sample_deviation(tmp_path, values, mean, deviation):
    for seed, value in enumerate(values):
        write(tmp_path, "padam", seed, 0.1, value)
    found = tables.train_loss(read_all(tmp_path))
    assert found.n == len(values)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == (None if deviation is None else pytest.approx(deviation))


def test_last_epoch_counts_not_the_best(tmp_path):
    write(tmp_path, "padam", 0, 0.4, 0.4, epochs=2)
    run = RunDirectory(tmp_path, "small-padam", 0)
    run.start(run.read().config, 1)
    run.append({"epoch": 2, "train_loss": 9.0, "test_error": 0.95})
    assert tables.accuracy(read_all(tmp_path)).mean == pytest.approx(5)


def test_suites_are_kept_apart(tmp_path):
    """By recipe, data and length; each label has a table of its own."""
    for suite, label, epochs in (("two", "a", 3), ("one", "b", 3), ("one", "a", 4), ("one", "a", 3)):
        write(tmp_path / f"{label}{epochs}", "padam", 0, 0.1, 0.1, suite=suite, label=label, epochs=epochs)
    found = [(suite.name, suite.label, suite.epochs) for suite in tables.suites(read_all(tmp_path))]
    assert found == [("one", "a", 3), ("one", "a", 4), ("one", "b", 3), ("two", "a", 3)]


def test_terminal_table_fits_80_columns(suite):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.rich_table(suite))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for cell in ("94.88", "89.00", "±1.00", "0.0115", "±0.0021", "diverged", "not run", "Momentum", "AdaBound"):
        assert cell in text
    assert "made-up" in text


def axes_of(suite, tmp_path, monkeypatch):
    """The figure's axes, loss and error, and its title, as drawn."""
    import matplotlib.figure

    drawn = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *rest, **options):
        drawn.append(figure)
        save(figure, *rest, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    figures.training_curves(suite, tmp_path / "curves.png")
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
    assert title == "small on made-up (n = 1-3, mean and standard deviation)"
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


def test_picture_without_a_curve(tmp_path):
    """All diverged: an empty picture rather than a warning or an error."""
    write(tmp_path, "padam", 0, 0.1, 0.1, done=1, diverged=True)
    (suite,) = tables.suites(read_all(tmp_path))
    assert matplotlib.image.imread(figures.training_curves(suite, tmp_path / "curves.png")).shape == (480, 1200, 4)


def test_readme_shows_the_recorded_runs():
    """The table in README is the one that its records make."""
    root = pathlib.Path(__file__).parents[1]
    (suite,) = tables.suites(read_all(root / "benchmarks" / "reproduction" / "cifar10-mini"))
    assert {method: len(runs) for method, runs in suite.records.items()} == dict.fromkeys(OPTIMIZERS, 5)
    assert tables.markdown(suite) in (root / "README.md").read_text()
    assert tables.markdown(suite) in (root / "benchmarks" / "reproduction" / "results" / "results.md").read_text()
