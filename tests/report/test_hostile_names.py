"""Records from strangers: no name leaves the folder of the report, is markup in it, or takes another's place."""

import dataclasses
import pathlib
import re

import matplotlib.image
import pytest
from fake_records import flat, records, small, write

from padam_optax.experiments.spec import Experiment, LanguageModelling
from padam_optax.records.store import read_all
from padam_optax.report import escaping, figures, page, tables
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import diverged
from padam_optax.report.naming import file_name, file_names
from padam_optax.report.results import PAPER, Results
from padam_optax.report.sweeps import Sweep
from padam_optax.report.variants import variant_grids

HOSTILE = "# <script>alert(1)</script>|a|*b*_c_ `d` [e](http://f) ![g](h) $i_j$ $k ~~l~~ &lt; \\"


def named(name: str, optimizer: str = "padam") -> Experiment:
    return dataclasses.replace(small(optimizer, suite=name), name=f"{name}-{optimizer}")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../README", "README"),
        ("/etc/passwd", "etc-passwd"),
        ("C:\\Windows", "C-Windows"),
        ("..", "unnamed"),
        ("", "unnamed"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\0b\nc", "a-b-c"),
        ("größe=1.5+2_x", "größe=1.5+2_x"),
    ],
)
def test_a_files_name(name, expected):
    assert file_name(name) == expected


def test_long_names_are_cut_and_told_apart():
    found = {file_name("ä" * 1000), file_name("ä" * 999), file_name("ä" * 75)}
    assert len(found) == 3
    assert max(len(name.encode()) for name in found) == 150


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["results", "Table-1", "figure-2-x", "variants", "CON", "time-to-target"], "suite-"),
        (["a b", "a-b", "A-B"], ["a-b", "a-b-2", "A-B-3"]),
        (["a", "a-three"], ["a", "a-three-2"]),
        (["a-three", "a"], ["a-three", "a-2"]),
        (["results", "suite-results"], ["suite-results", "suite-results-2"]),
        (["tables", "result", "figure"], ["tables", "result", "figure"]),
    ],
)
def test_no_name_is_given_twice_or_the_reports_own(wanted, expected):
    found = file_names(wanted, ["-three"])
    assert found == ([f"suite-{name}" for name in wanted] if expected == "suite-" else expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", "a\\|b"),
        ("<script>", "&lt;script>"),
        ("&lt;", "&amp;lt;"),
        ("*a* _b_ c_d", "\\*a\\* \\_b\\_ c_d"),
        ("[a](b)", "\\[a\\](b)"),
        ("$x$ ~y~ `z` \\", "\\$x\\$ \\~y\\~ \\`z\\` \\\\"),
        ("≥ -0.25", "≥ -0.25"),
        ("> 0", "> 0"),
    ],
)
def test_markdown_within_a_line(text, expected):
    assert escaping.inline(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("# a", "\\# a"), ("- a", "\\- a"), ("> a", "\\> a"), ("12. a", "12\\. a"), ("1.5 a", "1.5 a"), ("a", "a")],
)
def test_markdown_at_a_lines_start(text, expected):
    assert escaping.paragraph(text) == expected


def test_a_grid_is_plain_text():
    grid = Grid(HOSTILE, (HOSTILE,), (HOSTILE,), (Line((HOSTILE,), (Cell((HOSTILE,), best=True),)),), (HOSTILE,))
    text = grid.markdown()
    assert "<" not in text
    assert len(text.splitlines()) == 7
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")} == {3}
    assert not re.search(r"(?<!\\)[\[`$]", text)
    assert text.startswith("\\# ")


@pytest.fixture
def hostile(tmp_path) -> Results:
    """A suite, a label, a device and a setting that are hostile, with curves of three methods; and a variant."""
    options = {"model_options": {HOSTILE: HOSTILE}}
    for optimizer in ("sgdm", "adam", "padam"):
        spec = named(HOSTILE.replace("/", ""), optimizer)
        for seed in range(2):
            metrics = flat(test_error=0.1, train_loss=0.5)
            write(tmp_path, spec, seed, metrics, label=HOSTILE, device=HOSTILE)
    other = dataclasses.replace(spec, name="variant", variant_of=spec.name, **options)
    write(tmp_path, other, 0, metrics, label=HOSTILE, device=HOSTILE)
    return Results(PAPER, read_all(tmp_path))


def test_nothing_hostile_is_markup_on_the_page(hostile):
    contents = page.contents(hostile)
    text = page.results_page(contents, {}, {table.name: "x.png" for table in contents.suites})
    assert "alert(1)" in text
    assert "<" not in text
    assert not re.search(r"(?<!\\)[\[]e", text)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert all("alert" not in line for line in headings)
    assert len(variant_grids(hostile)) == 1


def test_dollar_signs_are_drawn_as_they_are(hostile, tmp_path, monkeypatch):
    """An odd number of them, or what is no mathematics, would be an error of matplotlib's."""
    drawn = []
    monkeypatch.setattr(figures, "save", lambda figure, path: drawn.append(figure) or path)
    (suite,) = [each for each in tables.suites(hostile) if each.name.startswith("#")]
    figures.training_curves(suite, tmp_path / "x.png")
    (figure,) = drawn
    monkeypatch.undo()
    assert figures.save(figure, tmp_path / "drawn.png").exists()
    assert matplotlib.image.imread(tmp_path / "drawn.png").shape == (480, 1200, 4)
    assert "\\$i_j\\$" in figure.get_suptitle()


def test_pictures_of_two_kinds_have_two_names(tmp_path):
    for label in ("a b", "a/b", "A b"):
        spec = PAPER.experiments["cifar10-vgg16-padam"].with_epochs(1)
        records(
            tmp_path / str(len(label)) / label[0] / label[1].strip("/ ") / str(ord(label[1])), spec, [0.1], label=label
        )
    names = [picture.name for picture in figures.paper_figure(2, Results(PAPER, read_all(tmp_path)))]
    assert len({name.casefold() for name in names}) == 3


def language(perplexity: float, tmp_path: pathlib.Path, vocabulary: int | None = 2000, seed: int = 0) -> Experiment:
    spec = small("padam", suite="text", dataset="ptb", task=LanguageModelling(vocabulary=vocabulary))
    write(tmp_path, spec, seed, flat(test_perplexity=perplexity, valid_perplexity=perplexity, train_loss=35.0))
    return spec


@pytest.mark.parametrize(
    ("perplexity", "vocabulary", "expected"),
    [
        (float("inf"), 2000, True),
        (float("nan"), 2000, True),
        (1267436572293981.25, 2000, True),
        (2000.5, 2000, True),
        (2000.0, 2000, False),
        (12823.0, None, False),
        (1.1e6, None, True),
    ],
)
def test_a_perplexity_above_a_guesss_has_diverged(tmp_path, perplexity, vocabulary, expected):
    """Tables say so, and print no mean of it; curves leave it out."""
    spec = language(perplexity, tmp_path, vocabulary)
    (record,) = read_all(tmp_path)
    assert diverged(record) == expected
    results = Results(PAPER, [record])
    (suite,) = tables.suites(results)
    text = tables.suite_grid(suite).markdown()
    assert text.count("diverged |") == (2 if expected else 0)
    assert ("Diverged and in no mean: Padam 1." in text) == expected
    assert ("diverged" in Sweep.of([record], "valid_perplexity").grid().markdown()) == expected
    variant = dataclasses.replace(spec, name="variant", variant_of=spec.name)
    assert (
        "| diverged | diverged |"
        in variant_grids(Results(PAPER, [record, dataclasses.replace(record, experiment=variant)]))[0].markdown()
    ) == expected
    assert not re.search(r"\d{7}", text)


def test_large_numbers_have_few_digits(tmp_path):
    """Of what cannot be said to have diverged: a loss."""
    spec = small("padam", suite="ours")
    for seed, loss in enumerate((1e15, 3e15)):
        write(tmp_path, spec, seed, flat(test_error=0.9, train_loss=loss))
    (suite,) = tables.suites(Results(PAPER, read_all(tmp_path)))
    assert "| 2e+15 ± 1.41e+15 |" in tables.suite_grid(suite).markdown()
