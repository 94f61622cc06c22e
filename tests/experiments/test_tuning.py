"""The search spaces of our own recipes: equal budgets, and the choices against the records that they were made from."""

import collections
import functools
import itertools
import math

import pytest
from recorded import recorded

from padam_optax.experiments import EXPERIMENTS, cifar, digits, ptb, tuning
from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.spec import Experiment, LanguageModelling, Role
from padam_optax.records.record import Record
from padam_optax.report.budget import Search, searches
from padam_optax.report.results import PAPER, Results

# Those whose trials are recorded, with the choices.
CHOICES = {
    "digits-mini": digits.MINI_CHOICES,
    "cifar10-mini": cifar.MINI_CHOICES,
    "ptb-mini": ptb.MINI_CHOICES,
    "ptb-transformer-mini": ptb.TRANSFORMER_CHOICES,
}
# Examples to train on and to score on, of a trial.
SIZES = {
    "digits-mini": (800, 200),
    "cifar10-mini": (4_000, 1_000),
    "ptb-mini": (100_000, 82_430),
    "ptb-transformer-mini": (100_000, 82_430),
}
each_method = pytest.mark.parametrize("method", tuning.SPACES)
each_recorded = pytest.mark.parametrize(("suite", "method"), list(itertools.product(CHOICES, tuning.SPACES)))


def of(suite: str, method: str) -> Experiment:
    return EXPERIMENTS[f"{suite}-{method}"]


@functools.cache
def search(suite: str) -> Search:
    (found,) = searches(Results(PAPER, recorded(suite)))
    return found


def trials(suite: str, method: str) -> list[Record]:
    return [run for run in recorded(suite) if run.experiment.trial and run.experiment.optimizer == method]


@each_method
def test_equal_budgets(method):
    """As many trials over as wide a range of rates, each value of the second axis as often as the others."""
    space = tuning.SPACES[method]
    settings = METHODS[method].settings
    found = tuning.trials(method, settings)
    assert len(found) == tuning.TRIALS == len({tuple(trial.items()) for trial in found})
    assert space.rates[1] / space.rates[0] == pytest.approx(1000)
    rates = [trial["learning_rate"] for trial in found]
    steps = [math.log10(later / earlier) for earlier, later in itertools.pairwise(rates)]
    assert steps == pytest.approx([0.25] * 11, abs=1e-3)
    assert math.log10(rates[0] / space.rates[0]) == pytest.approx(0.125, abs=1e-3)
    counts = collections.Counter(trial[space.second] for trial in found)
    assert len(counts) == len(space.values)
    assert len(set(counts.values())) == 1
    assert {"learning_rate", space.second} <= settings.keys()


@each_method
def test_relative_values_are_about_the_suites_default(method):
    space = tuning.SPACES[method]
    default = ptb.PAPER_SETTINGS[2][method][space.second]
    values = {trial[space.second] for trial in tuning.trials(method, ptb.PAPER_SETTINGS[2][method])}
    assert values == ({default / 10, default, 10 * default} if space.relative else set(space.values))


@pytest.mark.parametrize("suite", tuning.UNTUNED)
@each_method
def test_untuned_is_the_same_at_the_defaults(suite, method):
    """Nothing but what a search chooses differs."""
    tuned, untuned = of(suite, method), of(tuning.UNTUNED[suite], method)
    own = ptb.PAPER_SETTINGS[2] if isinstance(tuned.task, LanguageModelling) else {method: METHODS[method].settings}
    assert untuned.hyperparameters == own[method]
    changed = {name for name, value in tuned.hyperparameters.items() if value != untuned.hyperparameters[name]}
    assert changed <= {"learning_rate", tuning.SPACES[method].second}
    everything = {**tuned.fields(Role.RESULT), "hyperparameters": untuned.hyperparameters}
    assert everything == untuned.fields(Role.RESULT)
    assert tuned.bias_correction is untuned.bias_correction is None


def test_no_seed_of_a_search_is_one_of_a_result():
    assert not any(set(spec.seeds) & set(tuning.SEEDS) for spec in EXPERIMENTS.values())


def test_shortened():
    images, text = tuning.shortened(of("cifar10-mini", "adam")), tuning.shortened(of("ptb-transformer-mini", "adam"))
    assert (images.epochs, images.milestones, images.task.held_out, images.seeds) == (10, (5, 8), 0.2, tuning.SEEDS)
    assert images.is_trial
    assert (text.epochs, text.milestones, text.seeds) == (4, (2, 3), tuning.SEEDS)


@each_recorded
def test_trials_are_those_written_down(suite, method):
    """Each setting with each seed, trained as the recipe is today but for its length and what is held out."""
    assert trials(suite, method), "the records of the search are missing"
    written = tuning.trials(method, of(tuning.UNTUNED[suite], method).hyperparameters)
    expected = {(*trial.values(), seed) for trial in written for seed in tuning.SEEDS}
    found = trials(suite, method)
    assert len(found) == len(expected)
    assert {(*(run.experiment.hyperparameters[name] for name in written[0]), run.seed) for run in found} == expected
    recipe = tuning.shortened(of(suite, method)).fields(Role.RESULT)
    for run in found:
        assert run.finished
        changed = {name: run.experiment.hyperparameters[name] for name in run.experiment.trial}
        assert list(changed) == list(written[0])
        assert run.experiment.fields(Role.RESULT) == {
            **recipe,
            "hyperparameters": {**of(tuning.UNTUNED[suite], method).hyperparameters, **changed},
        }
        assert (run.data.train_examples, run.data.test_examples) == SIZES[suite]


@each_recorded
def test_choices_are_the_best_trials(suite, method):
    best = search(suite).best[method]
    assert best is not None
    assert dict(best.chosen) == CHOICES[suite][method]
