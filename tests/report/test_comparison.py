"""Robust statistics and paired differences of a suite's methods, on small records; the parts against scipy."""

import statistics

import numpy as np
import pytest
import scipy.stats
from fake_records import flat, small, write

from padam_optax.records.store import read_all
from padam_optax.report import summary, tables
from padam_optax.report.comparison import comparison_grid
from padam_optax.report.results import Paper, Results

SUITE, UNTUNED = "digits-mini", "digits"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 11])
def test_interquartile_mean_is_a_trimmed_mean(n):
    numbers = list(np.random.default_rng(n).normal(size=n))
    assert summary.interquartile_mean(numbers) == pytest.approx(scipy.stats.trim_mean(numbers, 0.25))


def test_interquartile_mean_leaves_an_outlier_out():
    assert summary.interquartile_mean([98.0, 97.0, 99.0, 98.0, 9.0]) == pytest.approx((97 + 98 + 98) / 3)


def test_bootstrap_interval_is_the_percentile_one():
    numbers = [3.0, 5.0, 4.0, 8.0, 6.0, 7.0]
    low, high = summary.bootstrap_interval(numbers, statistics.fmean)
    expected = scipy.stats.bootstrap(
        (numbers,), np.mean, method="percentile", n_resamples=20_000, random_state=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.17)
    assert summary.bootstrap_interval(numbers, statistics.fmean) == (low, high)
    assert summary.bootstrap_interval([1.0], statistics.fmean) is None


def test_paired_p_is_students():
    differences = [0.5, 0.1, 0.7, -0.2, 0.4]
    assert summary.paired_p(differences) == pytest.approx(scipy.stats.ttest_1samp(differences, 0).pvalue)
    assert summary.paired_p([0.0, 0.0]) == 1.0
    assert summary.paired_p([1.0, 1.0]) == 0.0
    assert summary.paired_p([1.0]) is None


def test_holm():
    """Multiplied by 4, 3, 2 and 1 in rising order, never falling, never above 1."""
    assert summary.holm([0.03, 0.01, 0.02, 0.9]) == pytest.approx([0.06, 0.04, 0.06, 0.9])
    assert summary.holm([0.5, 0.6]) == [1.0, 1.0]
    assert summary.holm([]) == []


def lines(folder) -> dict[str, list[str]]:
    results = Results(Paper({}, {}), read_all(folder))
    (suite,) = tables.suites(results)
    grid = comparison_grid(suite, results)
    return {line.heads[0]: [" ".join(cell.parts) for cell in line.cells] for line in grid.lines}


def test_columns(tmp_path):
    """Accuracies of 90 to 94 for SGD, a constant point more for Padam; what was not chosen is ten points worse."""
    for seed, error in enumerate((0.10, 0.09, 0.08, 0.07, 0.06)):
        write(tmp_path, small("sgdm", suite=SUITE), seed, flat(test_error=error, train_loss=1.0))
        write(tmp_path, small("padam", suite=SUITE), seed, flat(test_error=error - 0.01 - seed / 1e4, train_loss=1.0))
        write(tmp_path, small("sgdm", suite=UNTUNED), seed, flat(test_error=error + 0.1, train_loss=1.0))
    found = lines(tmp_path)
    mean, median, interquartile, untuned, difference = found["SGD-Momentum"]
    assert (mean, median, untuned) == ("92.00 ± 1.58", "92.00", "82.00 ± 1.58")
    assert interquartile.startswith("92.00 (9")
    assert difference == "+1.02 (+1.00 to +1.04) *"
    assert found["Padam"][-2:] == ["not run", "-"]


def test_runs_that_diverged_are_counted(tmp_path):
    for seed in range(3):
        write(tmp_path, small("sgdm", suite=SUITE), seed, flat(test_error=0.1, train_loss=1.0))
        write(tmp_path, small("padam", suite=SUITE), seed, flat(test_error=0.1 * seed, train_loss=1.0))
    write(tmp_path, small("padam", suite=SUITE), 3, flat(test_error=0.1, train_loss=1.0), done=1, diverged=True)
    assert lines(tmp_path)["Padam"][0] == "90.00 ± 10.00 (1 of 4 diverged)"
    assert lines(tmp_path)["SGD-Momentum"][-1].endswith("+24.84)")


def test_other_suites_have_none(tmp_path):
    for method in ("sgdm", "padam"):
        write(tmp_path, small(method), 0, flat(test_error=0.1, train_loss=1.0))
    results = Results(Paper({}, {}), read_all(tmp_path))
    (suite,) = tables.suites(results)
    assert comparison_grid(suite, results) is None


def test_what_was_not_chosen_stands_beside_and_not_alone(tmp_path):
    write(tmp_path, small("sgdm", suite=UNTUNED), 0, flat(test_error=0.2, train_loss=1.0))
    paper = Paper({}, {spec.name: spec for spec in (small("sgdm", suite=SUITE), small("sgdm", suite=UNTUNED))})
    assert [suite.name for suite in tables.suites(Results(paper, read_all(tmp_path)))] == [UNTUNED]
    write(tmp_path, small("sgdm", suite=SUITE), 0, flat(test_error=0.1, train_loss=1.0))
    assert [suite.name for suite in tables.suites(Results(paper, read_all(tmp_path)))] == [SUITE]
