"""The paper's tables, times to a target and the page of results, from small records."""

import dataclasses
import io
import json
import pathlib

import pytest
from fake_records import SMALL, flat, records, small, trial, write
from recorded import log, recorded
from rich.console import Console

from padam_optax.experiments import EXPERIMENTS, paper, tuning
from padam_optax.experiments.spec import Experiment, ImageClassification
from padam_optax.records.record import Record, RecordError, from_json
from padam_optax.records.store import read_all
from padam_optax.report import page, tables, targets
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.results import PAPER, Paper, Results, RunGroup, distinct, merged

MARKDOWN = """\
Table 1: Test accuracy (%) after 3 epochs. Measured: mean ± standard deviation over n seeds at the last epoch; \
difference: measured less paper; best mean in bold.

| Model | | SGD-Momentum | Adam | AMSGrad | AdamW | Yogi | AdaBound | Padam |
|---|---|---|---|---|---|---|---|---|
| Net | paper | 90.00 | 91.00 | 92.00 | 93.00 | 94.00 | 95.00 | **96.00** |
| | measured on cifar10 | 89.00 ± 1.00 (n = 3) | 91.25 (n = 1) | diverged | not finished | not run | not run \
| **94.50 ± 0.71 (n = 2)** |
| | difference | -1.00 | +0.25 | - | - | - | - | -1.50 |
| | measured on cifar10, 2 of 3 epochs | not run | not run | not run | not run | not run | not run | 55.00 (n = 1) |
| | measured on cifar10-jpeg | not run | not run | not run | not run | not run | not run | 94.25 ± 0.25 (n = 3) |
| | difference | - | - | - | - | - | - | -1.75 |

- cifar10-jpeg is not the paper's data.
- small on cifar10: device abacus. Diverged and in no mean: Adam 1, AMSGrad 1. Not finished: AdamW 1.
- small on cifar10, 2 of 3 epochs: device abacus.
- small on cifar10-jpeg: device sand.
"""


@pytest.fixture(scope="session")
def results() -> Results:
    """Those of the log, beside the paper that its runs are of."""
    return Results(SMALL, log())


def kinds(spec: Experiment, found: list[Record]) -> list[RunGroup]:
    """The runs of one experiment by their conditions."""
    return Results(Paper({}, {spec.name: spec}), found).groups([spec.name])


def lines(grid: Grid) -> dict[tuple[str, str], list[str]]:
    """A table's cells as in Markdown, by model and what the line is; the model is named on its first line."""
    found, model = {}, ""
    for line in grid.lines:
        model = line.heads[0] or model
        found[model, line.heads[1]] = [" ".join(cell.parts) for cell in line.cells]
    return found


def test_markdown_of_the_log(results):
    assert tables.paper_table(1, results).markdown() == MARKDOWN


def test_terminal_table_fits_80_columns(results):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.paper_table(1, results).rich_table())
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.replace("│", " ").split())
    for part in ("94.50", "±0.71", "(n = 2)", "not finished", "cifar10-jpeg", "2 of 3 epochs", "difference", "+0.25"):
        assert part in words


# The methods in bold in each row of the paper's tables.
BOLD = {
    1: ["Padam", "SGD-Momentum", "Padam"],
    2: ["SGD-Momentum", "Padam", "Padam", "Padam"],
    3: ["Padam", "Padam"],
    4: ["Padam", "Padam", "SGD-Momentum"],
}


@pytest.mark.parametrize("number", paper.TABLES)
def test_nothing_run(number):
    """The paper's numbers, its best in bold, and "not run"."""
    grid = tables.paper_table(number, Results(PAPER))
    rows = paper.TABLES[number].rows
    dataset = PAPER.experiments[f"{rows[0].suite}-padam"].dataset
    assert lines(grid) == {
        key: values
        for row in rows
        for key, values in (
            ((row.title, "paper"), [f"{value:.2f}" for value in row.values]),
            ((row.title, f"measured on {dataset}"), ["not run"] * 7),
        )
    }
    printed = [line for line in grid.lines if line.heads[1] == "paper"]
    bold = [[name for name, cell in zip(grid.columns, line.cells, strict=True) if cell.best] for line in printed]
    assert bold == [[name] for name in BOLD[number]]
    assert grid.notes == ()
    assert not tables.has_runs(number, Results(PAPER))


def test_experiments_that_only_records_know_are_not_the_papers(tmp_path):
    """What has the name of a row's cell, but no specification, is not measured against the row."""
    found = records(tmp_path, small("padam", suite="ptb-lstm2"), [0.1])
    unknown = Results(Paper(paper.TABLES, {}), found)
    assert unknown.cells("ptb-lstm2") == {}
    assert not tables.has_runs(3, unknown)
    assert lines(tables.paper_table(3, unknown))["2-layer LSTM", "measured"] == ["not run"] * 7
    assert list(Results(Paper({}, {}), found).experiments) == ["ptb-lstm2-padam"]


def test_row_without_experiments():
    grid = tables.paper_table(3, Results(Paper(paper.TABLES, {})))
    assert lines(grid)["2-layer LSTM", "measured"] == ["not run"] * 7


def test_no_such_table():
    with pytest.raises(KeyError, match="no table 5; it has 1, 2, 3, 4"):
        tables.paper_table(5, Results(PAPER))


def test_perplexities_and_top_5(tmp_path):
    """Lower perplexities are better; both rows of a network come from one run."""
    for optimizer, perplexity in (("sgdm", 60.0), ("padam", 58.25)):
        write(tmp_path, PAPER.experiments[f"ptb-lstm3-{optimizer}"], 0, flat(test_perplexity=perplexity))
    write(tmp_path, PAPER.experiments["imagenet-vgg16-adam"], 0, flat(test_error=0.25, test_error_top5=0.125))
    write(tmp_path, PAPER.experiments["imagenet-resnet18-adam"], 0, flat(test_error=0.25))
    found = Results(PAPER, read_all(tmp_path))
    grid = tables.paper_table(3, found)
    (measured,) = [line for line in grid.lines if any(cell.best and len(cell.parts) > 1 for cell in line.cells)]
    assert [name for name, cell in zip(grid.columns, measured.cells, strict=True) if cell.best] == ["Padam"]
    text = lines(grid)
    assert text["3-layer LSTM", "measured on ptb"][-1] == "58.25 (n = 1)"
    assert text["3-layer LSTM", "difference"] == ["-1.22", *["-"] * 5, "-0.23"]
    text = lines(tables.paper_table(2, found))
    assert text["VGGNet, Top-1", "measured on imagenet"][1] == "75.00 (n = 1)"
    assert text["VGGNet, Top-5", "measured on imagenet"][1] == "87.50 (n = 1)"
    assert text["VGGNet, Top-5", "difference"][1] == "-1.62"
    assert text["Resnet, Top-5", "measured on imagenet"][1] == "not recorded"


CROPPED = ImageClassification(augmentation=("crop", "flip"))


def test_settings_are_not_mixed(tmp_path):
    """Runs that are not as the experiment says are in lines of their own, which say in what."""
    cell = SMALL.experiments["small-padam"]
    for folder, changes in (
        ("a", {}),
        ("b", {"compute_dtype": "bfloat16"}),
        ("c", {"hyperparameters": {"learning_rate": 0.3, "p": 0.125}, "task": CROPPED}),
        ("d", {"hyperparameters": {"learning_rate": 0.1}}),
        ("e", {"seeds": (5,), "assumed": ("p",), "paper": ()}),
    ):
        records(tmp_path / folder, dataclasses.replace(cell, **changes), [0.1])
    found = [key[1] for key in lines(tables.paper_table(1, Results(SMALL, read_all(tmp_path))))]
    assert found == [
        "paper",
        "measured on cifar10",
        "difference",
        "measured on cifar10, activations in bfloat16",
        "measured on cifar10, learning_rate=0.3, augmentation=crop+flip",
        "measured on cifar10, no p",
    ]


def without(record: Record, part: str, name: str) -> Record:
    """A record from before a field of its experiment existed."""
    config = json.loads(json.dumps(record.config()))
    del config["experiment"][part][name]
    return from_json(config, record.metrics)


def test_setting_that_is_not_recorded_was_at_its_default(tmp_path):
    """A record from before a setting existed is not one of an experiment with another value of it."""
    (record,) = records(tmp_path, SMALL.experiments["small-padam"], [0.1])
    old = without(record, "task", "keep_last_batch")
    kept = small("padam", task=ImageClassification(keep_last_batch=True))
    for spec, expected in ((small("padam"), ()), (kept, ("keep_last_batch=False",))):
        assert [group.conditions.departures for group in kinds(spec, [old])] == [expected]


def test_settings_of_a_language_model(tmp_path):
    """They are compared one by one, too, and come back from a record of a suite that no specification knows."""
    spec = EXPERIMENTS["ptb-mini-padam"]
    smaller = dataclasses.replace(spec, model_options={**spec.model_options, "hidden": 64})
    smaller = smaller.with_task(eval_columns=(5, 5))
    for name, run, expected in (("a", spec, ()), ("b", smaller, ("hidden=64", "eval_columns=5+5"))):
        found = records(tmp_path / name, run, [0.1])
        assert [group.conditions.departures for group in kinds(spec, found)] == [expected]
    other = dataclasses.replace(smaller, name="ours-padam", suite="ours")
    found = records(tmp_path / "c", other, [0.1])
    assert dataclasses.replace(other, paper=()) == Results(PAPER, found).experiments["ours-padam"]


def test_order_of_kinds(tmp_path):
    """The data set's own label first, whole runs before short ones."""
    cell = SMALL.experiments["small-padam"]
    for folder, (label, epochs) in enumerate([("zoo", 3), ("a", 2), ("cifar10", 1), ("a", 3)]):
        records(tmp_path / str(folder), cell.with_epochs(epochs), [0.1], label=label)
    found = [group.conditions.text for group in kinds(cell, read_all(tmp_path))]
    assert found == ["cifar10, 1 of 3 epochs", "a", "a, 2 of 3 epochs", "zoo"]


def test_a_lossless_copy_in_bfloat16(tmp_path):
    """The data in words, the dtype in the caption; beside runs in float32 on the same data, in the line."""
    cell = SMALL.experiments["small-padam"]
    found = records(tmp_path / "16", dataclasses.replace(cell, compute_dtype="bfloat16"), [0.1], label="cifar10-png")
    grid = tables.paper_table(1, Results(SMALL, found))
    assert [line.heads[1] for line in grid.lines] == [
        "paper",
        "measured on cifar10",
        "measured on CIFAR-10 (lossless copy)",
        "difference",
    ]
    assert grid.caption.endswith(" Activations in bfloat16: Net on CIFAR-10 (lossless copy).")
    assert (
        grid.notes[0]
        == "CIFAR-10 (lossless copy), cifar10-png, has the images in another order; no second copy was compared."
    )
    found += records(tmp_path / "32", cell, [0.1], label="cifar10-png")
    names = [line.heads[1] for line in tables.paper_table(1, Results(SMALL, found)).lines]
    assert names[2::2] == [
        "measured on CIFAR-10 (lossless copy)",
        "measured on CIFAR-10 (lossless copy), activations in bfloat16",
    ]


class TestDistinct:
    CELL = SMALL.experiments["small-padam"]

    def test_the_same_run_twice(self, tmp_path):
        records(tmp_path / "a", self.CELL, [0.1, 0.2])
        found = read_all(tmp_path / "a")
        assert distinct([*found, *read_all(tmp_path)]) == found

    @pytest.mark.parametrize("folders", ["ab", "ba"])
    def test_later_state(self, tmp_path, folders):
        write(tmp_path / folders[0], self.CELL, 0, flat(test_error=0.1, seconds=1.0), done=1)
        write(tmp_path / folders[1], self.CELL, 0, flat(test_error=0.1, seconds=2.0))
        (whole,) = read_all(tmp_path / folders[1])
        assert distinct(read_all(tmp_path)) == [whole]

    @pytest.mark.parametrize("done", [1, 3])
    @pytest.mark.parametrize("folders", ["ab", "ba"])
    def test_two_results(self, tmp_path, folders, done):
        records(tmp_path / folders[0], self.CELL, [0.1], done=done)
        records(tmp_path / folders[1], self.CELL, [0.2])
        with pytest.raises(ValueError, match="small-padam, seed 0, on cifar10 was recorded twice"):
            distinct(read_all(tmp_path))

    def test_two_results_of_which_one_lacks_a_setting(self, tmp_path):
        """Not recorded is at its default, as for the conditions of a run: both are the same seed of one line."""
        records(tmp_path / "a", self.CELL, [0.1])
        records(tmp_path / "b", self.CELL, [0.2])
        old, new = read_all(tmp_path)
        with pytest.raises(ValueError, match="recorded twice"):
            distinct([without(old, "task", "keep_last_batch"), new])

    def test_what_differs_is_kept(self, tmp_path):
        records(tmp_path / "a", self.CELL, [0.1, 0.2])
        records(tmp_path / "b", self.CELL, [0.3], label="cifar10-jpeg")
        records(tmp_path / "c", self.CELL.with_epochs(2), [0.4])
        assert len(distinct(read_all(tmp_path))) == 4

    @pytest.mark.parametrize(
        ("part", "name"), [("data", "label"), ("experiment", "epochs"), ("device", "kind"), (None, "seed")]
    )
    def test_lacks_something(self, tmp_path, part, name):
        """What every report needs is refused when it is read."""
        (record,) = records(tmp_path, self.CELL, [0.1])
        config = json.loads(json.dumps(record.config()))
        del (config[part] if part else config)[name]
        with pytest.raises(RecordError, match=f"no {f'{part}.{name}' if part else name}"):
            from_json(config, record.metrics)


def test_merged_remarks():
    pairs = [("a", "is red."), ("b", "is blue."), ("c", "is red."), ("a", "is red.")]
    assert merged(pairs) == ["a, c is red.", "b is blue."]


def test_heads_that_repeat_are_left_out_in_a_terminal():
    cells = (Cell(("1",)),)
    lines = [Line(heads, cells) for heads in (("a", "x"), ("a", "y"), ("b", "y"))]
    column = Grid("", ("", ""), ("n",), tuple(lines)).rich_table().columns[0]
    assert list(column.cells) == ["a\nx", "y", "b\ny"]


def test_grid_of_text_that_means_something_else():
    """Labels are the user's: neither Markdown's columns nor the terminal's markup may break."""
    grid = Grid("", ("",), ("a",), (Line(("x|y",), (Cell(("[red]1[/red]",)),)),))
    assert grid.markdown() == "| | a |\n|---|---|\n| x\\|y | \\[red\\]1\\[/red\\] |\n"
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(grid.rich_table())
    assert "[red]1[/red]" in console.export_text()


TARGET = """\
small on cifar10: until test_error is at most 0.1, mean ± standard deviation over the seeds that reached it; \
device abacus. Diverged and in no mean: Adam 1, AMSGrad 1. Not finished: AdamW 1.

| Method | Reached by | Epochs | Seconds | Tuning trials |
|---|---|---|---|---|
| SGD-Momentum | 1 of 3 | 3.0 | 6 | not recorded |
| Adam | 1 of 2 | 3.0 | 6 | not recorded |
| AMSGrad | 0 of 1 | - | - | not recorded |
| AdamW | not run | - | - | not recorded |
| Yogi | not run | - | - | not recorded |
| AdaBound | not run | - | - | not recorded |
| Padam | 2 of 2 | 3.0 ± 0.0 | 8 ± 2 | 2 |
"""


def trials(tmp_path: pathlib.Path) -> list:
    """Two of a search for Padam's settings."""
    for rate in (0.1, 0.3):
        records(tmp_path, trial(small("padam"), learning_rate=rate), [0.1])
    return read_all(tmp_path)


def test_time_to_target_of_the_log(tmp_path):
    found = targets.target_grids(Results(SMALL, [*log(), *trials(tmp_path)]), "test_error", 0.1)
    assert found[0].markdown() == TARGET
    assert [grid.caption.split(":")[0] for grid in found] == [
        "small on cifar10",
        "small on cifar10, 2 of 3 epochs",
        "small on cifar10-jpeg",
    ]


def test_first_epoch_at_the_target(tmp_path):
    """The first, though later ones are worse again; a value that is the target has reached it."""
    values = iter([0.4, 0.2, 0.3, 0.1])
    write(tmp_path, small("padam", epochs=4), 0, lambda epoch: {"test_error": next(values), "seconds": 10.0 * epoch})
    (record,) = read_all(tmp_path)
    for target, epoch in ((0.5, 1), (0.4, 1), (0.25, 2), (0.2, 2), (0.1, 4), (0.05, None)):
        assert targets.first_epoch(record, "test_error", target) == epoch
    found = targets.time_to_target([record], "test_error", 0.2)
    assert (found.runs, found.reached, found.epochs.mean, found.seconds.mean) == (1, 1, 2, 30.0)
    assert targets.first_epoch(record, "test_perplexity", 99) is None


def test_time_to_target_of_runs_without_times_or_that_diverged(tmp_path):
    write(tmp_path, small("padam"), 0, flat(test_error=0.1))
    write(tmp_path, small("padam"), 1, flat(test_error=0.1), done=2, diverged=True)
    found = targets.time_to_target(read_all(tmp_path), "test_error", 0.1)
    assert (found.runs, found.reached, found.epochs.mean, found.seconds) == (2, 1, 1, None)


@pytest.mark.parametrize("metric", ["test_accuracy", "seconds", "learning_rate", ""])
def test_no_such_metric(results, metric):
    with pytest.raises(ValueError, match=f"no metric '{metric}'; they have test_error, train_loss"):
        targets.target_grids(results, metric, 1.0)


def test_target_of_trials_only(tmp_path):
    with pytest.raises(ValueError, match="No finished run"):
        targets.target_grids(Results(SMALL, trials(tmp_path)), "test_error", 1.0)


@pytest.mark.parametrize("suite", ["cifar10-mini", "digits-mini", "ptb-mini", "ptb-transformer-mini"])
def test_trials_of_the_mini_suites(suite):
    """Twelve of two seeds for every method, each counted once however often it is read."""
    counts = Results(PAPER, recorded(suite) * 2).trials
    assert counts == {f"{suite}-{method}": 2 * tuning.TRIALS for method in tuning.SPACES}


def page_of(results: Results) -> str:
    """The page without pictures."""
    return page.results_page(page.contents(results), {})


class TestPage:
    def test_what_is_on_it(self, results):
        text = page_of(results)
        assert "Made by `padam report` from 13 recorded runs: 12 finished, 2 of them diverged." in text
        assert "Data: cifar10, cifar10-jpeg. Devices: abacus, sand." in text
        assert MARKDOWN.strip() in text
        assert "## Figures\n\nNot run.\n" in text
        assert "Our own experiments" not in text
        assert not [line for line in text.splitlines() if line != line.rstrip()]

    def test_trials_are_told_from_results(self, tmp_path):
        records(tmp_path, SMALL.experiments["ours-padam"], [0.1])
        text = page_of(Results(SMALL, trials(tmp_path)))
        assert "from 1 recorded runs: 1 finished, 0 of them diverged." in text
        assert "The records also hold 2 trials of searches" in text

    def test_claims_on_the_papers_tables_come_first(self):
        text = page_of(Results(PAPER, log()))
        printed, runs = text.split("## The claims on recorded runs")
        assert "| Table 4, WideResNet | SGD-Momentum | -0.24 | ≥ -0.25 | holds |" in printed
        assert "Holds: it is true of 12 of 12 rows." in printed
        assert "Holds:" not in runs
        assert runs.count("On the paper's experiments: cannot tell") == 5

    def test_same_for_the_same_records(self, results):
        assert page_of(Results(SMALL, log()[::-1])) == page_of(results)

    def test_inconsistencies_are_listed(self):
        section = page_of(Results(PAPER)).split("## Inconsistencies in the paper\n\n")[1].split("\n\n")[0]
        assert len(section.splitlines()) == 3
        assert "Table 4 (WideResNet) prints 76.42 and 76.66, which differ by 0.24." in section

    def test_own_suites(self, tmp_path):
        """Neither the paper's, nor those of Figure 1, nor trials; one that is in no list is shown too."""
        for name in ("small-padam", "small-padam-p1_4", "ours-padam"):
            records(tmp_path, SMALL.experiments[name], [0.1])
        records(tmp_path, small("padam", suite="theirs"), [0.1])
        trials(tmp_path)
        found = Results(SMALL, read_all(tmp_path))
        assert [suite.name for suite in tables.suites(found)] == ["ours", "theirs"]
        assert "ours on cifar10, 3 epochs, n = 1" in page_of(found)

    def test_suites_of_one_name_have_files_of_their_own(self, tmp_path):
        spec = SMALL.experiments["ours-padam"]
        records(tmp_path / "a", spec, [0.1])
        records(tmp_path / "b", spec, [0.1], label="other")
        records(tmp_path / "c", spec.with_epochs(2), [0.1])
        records(tmp_path / "d", small("padam", suite="alone"), [0.1])
        found = page.suite_files(tables.suites(Results(SMALL, read_all(tmp_path))))
        assert [name for _, name in found] == [
            "alone",
            "ours-on-cifar10-3-epochs",
            "ours-on-cifar10-2-of-3-epochs",
            "ours-on-other-3-epochs",
        ]
