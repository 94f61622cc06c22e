"""What a budget of trials buys, and which trial is chosen, on small records."""

import itertools
import math

import matplotlib.image
import pytest
from fake_records import flat, small, trial, write

from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.store import read_all
from padam_optax.report import budget
from padam_optax.report.results import Paper, Results
from padam_optax.report.sweeps import Sweep

NOTHING = Paper({}, {})


def at_random(scores, k):
    """The mean lowest of k scores over all ways to draw them."""
    drawn = list(itertools.product(scores, repeat=k))
    return sum(map(min, drawn)) / len(drawn)


@pytest.mark.parametrize("scores", [[0.5], [3.0, 1.0], [0.2, 0.9, 0.4], [0.4, 0.4, 0.1, 0.7]])
def test_expected_best_is_the_mean_over_all_draws(scores):
    found = budget.expected_best(scores)
    assert found == pytest.approx([at_random(scores, k) for k in range(1, len(scores) + 1)])
    assert all(later <= earlier for earlier, later in itertools.pairwise(found))


def test_expected_best_in_closed_form():
    """Of n even steps: the sum of ((n-i)/n)^k, i from 0 to n-1, over n for unit steps from 1."""
    n = 12
    found = budget.expected_best([float(value) for value in range(1, n + 1)])
    assert found == pytest.approx([sum(((n - i) / n) ** k for i in range(n)) for k in range(1, n + 1)])


def sweep_of(folder) -> Sweep:
    return Sweep.of(read_all(folder), "test_error")


def falling(*errors):
    return lambda epoch: {"train_loss": 1.0, "test_error": errors[epoch - 1], "test_loss": errors[epoch - 1] / 2}


def test_best_mean_is_chosen(tmp_path):
    for rate, errors in ((0.1, (0.2, 0.4)), (0.2, (0.28, 0.30)), (0.4, (0.5, 0.1))):
        for seed, error in enumerate(errors):
            write(tmp_path, trial(small("adam"), learning_rate=rate), seed, falling(0.6, 0.6, error))
    assert budget.best_trial(sweep_of(tmp_path)).chosen == {"learning_rate": 0.2}


def test_of_equal_errors_the_lower_loss(tmp_path):
    for rate, loss in ((0.1, 0.3), (0.2, 0.2), (0.4, 0.4)):
        write(tmp_path, trial(small("adam"), learning_rate=rate), 0, flat(test_error=0.1, test_loss=loss))
    assert budget.best_trial(sweep_of(tmp_path)).chosen == {"learning_rate": 0.2}


@pytest.mark.parametrize(
    "bad",
    [
        {"metrics": falling(0.6, 0.1, 0.1), "done": 2, "diverged": True},
        {"metrics": falling(0.6, 0.1, 0.1), "done": 2},
        {"metrics": falling(0.0, 0.0, 0.05)},
    ],
    ids=["diverged", "unfinished", "collapsed"],
)
def test_a_setting_that_failed_once_is_not_chosen(tmp_path, bad):
    """However good its mean is."""
    write(tmp_path, trial(small("adam"), learning_rate=0.1), 0, falling(0.6, 0.5, 0.4))
    good = trial(small("adam"), learning_rate=1.0)
    write(tmp_path, good, 0, falling(0.6, 0.1, 0.01))
    write(tmp_path, good, 1, **bad)
    assert budget.best_trial(sweep_of(tmp_path)).chosen == {"learning_rate": 0.1}


def test_nothing_can_be_chosen(tmp_path):
    write(tmp_path, trial(small("adam"), learning_rate=0.1), 0, falling(0.1, 0.2, 0.3))
    assert budget.best_trial(sweep_of(tmp_path)) is None
    write(tmp_path, trial(small("sgdm"), learning_rate=0.1), 0, falling(0.3, 0.2, 0.1))
    (search,) = budget.searches(Results(NOTHING, read_all(tmp_path)))
    assert search.best["adam"] is None
    assert "| Adam | none | - | 1 | 30.00 |" in budget.budget_grid(search).markdown()


def test_table_and_picture(tmp_path):
    for method, errors in (("sgdm", (0.4, 0.2)), ("padam", (0.3, 0.3))):
        for rate, error in zip((0.1, 1.0), errors, strict=True):
            for seed in (1000, 1001):
                write(tmp_path / "runs", trial(small(method), learning_rate=rate), seed, falling(0.8, 0.6, error))
    write(tmp_path / "runs", small("padam"), 0, falling(0.8, 0.6, 0.1))
    (search,) = budget.searches(Results(NOTHING, read_all(tmp_path / "runs")))
    assert search.expected() == {"sgdm": pytest.approx([30.0, 25.0]), "padam": pytest.approx([30.0, 30.0])}
    assert budget.budget_grid(search).markdown() == (
        "small on cifar10, trials of 3 epochs: 2 trials of 2 seeds a method. Held-out error (%): the chosen setting's,"
        " and the expected best after k trials (errors averaged; a run that diverged counts as a guess, or as the worst"
        " recorded). Failed: settings with a run that diverged or ended worse than after its first epoch;"
        " they cannot be chosen.\n"
        "\n"
        "| Method | Chosen | Its score | Failed | k = 1 | k = 2 |\n"
        "|---|---|---|---|---|---|\n"
        "| SGD-Momentum | learning_rate = 1 | 20.00 | 0 | 30.00 | **25.00** |\n"
        "| Padam | learning_rate = 0.1 | 30.00 | 0 | 30.00 | 30.00 |\n"
    )
    picture = matplotlib.image.imread(budget.draw_budget(search, tmp_path / "budget.png"))
    assert picture.shape[2] == 4
    assert picture.std() > 0


def test_trials_of_one_method_are_no_comparison(tmp_path):
    write(tmp_path, trial(small("adam"), learning_rate=0.1), 0, falling(0.8, 0.6, 0.5))
    assert budget.searches(Results(NOTHING, read_all(tmp_path))) == []


def test_losses_of_a_text_are_averaged_and_a_guess_is_the_limit(tmp_path):
    """Perplexities of 100 and of a run that diverged, which counts as the vocabulary's size, 2,500."""
    task = LanguageModelling(vocabulary=2500)
    for method in ("sgdm", "padam"):
        spec = small(method, task=task, dataset="ptb")
        write(tmp_path, trial(spec, learning_rate=0.1), 0, flat(train_loss=1.0, valid_perplexity=100.0))
        write(tmp_path, trial(spec, learning_rate=1.0), 0, flat(valid_perplexity=1.0), done=1, diverged=True)
    (search,) = budget.searches(Results(NOTHING, read_all(tmp_path)))
    expected = [math.sqrt(100 * 2500), math.exp(0.75 * math.log(100) + 0.25 * math.log(2500))]
    assert search.expected()["sgdm"] == pytest.approx(expected)
