"""The specifications, and the choices in them against the records that they were made from."""

import collections
import dataclasses
import importlib.util
import json
import pathlib
import re

import pytest

from padam_optax.experiments import EXPERIMENTS, figure, find, paper, table
from padam_optax.experiments.cifar import FIGURE_1, MINI_CHOICES, PAPER_SETTINGS
from padam_optax.experiments.datasets import DATASETS
from padam_optax.experiments.optimizers import make_optimizer
from padam_optax.experiments.programs import AUGMENTATIONS, MODELS
from padam_optax.experiments.records import read_all
from padam_optax.experiments.spec import OPTIMIZERS, Experiment

REPRODUCTION = pathlib.Path(__file__).parents[1] / "benchmarks" / "reproduction"

each_spec = pytest.mark.parametrize("spec", EXPERIMENTS.values(), ids=EXPERIMENTS)


@each_spec
def test_spec_is_consistent(spec):
    assert EXPERIMENTS[spec.name] is spec
    assert f"-{spec.optimizer}" in spec.name if spec in FIGURE_1 else spec.name.endswith(f"-{spec.optimizer}")
    assert spec.model in MODELS
    assert spec.dataset in DATASETS
    assert set(spec.augmentation) <= set(AUGMENTATIONS)
    assert list(spec.milestones) == sorted(set(spec.milestones))
    assert all(0 < milestone < spec.epochs for milestone in spec.milestones)
    assert 0 < spec.factor < 1
    assert spec.batch_size >= 1
    assert len(set(spec.seeds)) == len(spec.seeds) >= 1
    assert spec.held_out is None


@each_spec
def test_settings_suit_the_optimizer(spec):
    make_optimizer(spec.optimizer, spec.hyperparameters)
    assert all(isinstance(value, float) for value in spec.hyperparameters.values())


@each_spec
def test_spec_is_frozen(spec):
    for field in dataclasses.fields(spec):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field.name, getattr(spec, field.name))


def test_names_are_unique_and_suites_complete():
    """Each recipe is there for each of the seven, alike but for the optimizer and its settings."""
    suites = collections.defaultdict(list)
    for spec in EXPERIMENTS.values():
        if spec not in FIGURE_1:
            suites[spec.suite].append(spec)
    for specs in suites.values():
        assert [spec.optimizer for spec in specs] == list(OPTIMIZERS)
        other = {"name": "", "optimizer": "", "hyperparameters": {}, "assumed": (), "paper": ()}
        recipes = [dataclasses.replace(spec, **other) for spec in specs]
        assert recipes == recipes[:1] * len(OPTIMIZERS)


def test_settings_of_section_5():
    """ "We set the base learning rate of 0.1 for SGD with momentum and Padam, 0.001 for all other" and what follows."""
    expected = {
        "learning_rate": [0.1, 0.001, 0.001, 0.001, 0.001, 0.001, 0.1],
        "momentum": [0.9, None, None, None, None, None, None],
        "b1": [None, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
        "b2": [None, 0.99, 0.99, 0.999, 0.999, 0.999, 0.999],
        "p": [None, None, None, None, None, None, 0.125],
        "final_learning_rate": [None, None, None, None, None, 0.1, None],
        "normalized_weight_decay": [None, None, None, 0.025, None, None, None],
    }
    for setting, values in expected.items():
        assert [PAPER_SETTINGS[name].get(setting) for name in OPTIMIZERS] == values, setting
    assert PAPER_SETTINGS["yogi"]["eps"] == 1e-3
    assert {PAPER_SETTINGS[name]["eps"] for name in OPTIMIZERS if name not in ("sgdm", "yogi")} == {1e-8}
    assert {PAPER_SETTINGS[name]["weight_decay"] for name in OPTIMIZERS if name != "adamw"} == {5e-4}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_demonstration_takes_the_papers_settings(name):
    assert EXPERIMENTS[f"digits-{name}"].hyperparameters == PAPER_SETTINGS[name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_mini_changes_the_chosen_settings_only(name):
    chosen = EXPERIMENTS[f"cifar10-mini-{name}"].hyperparameters
    assert set(MINI_CHOICES[name]) == ({"learning_rate", "p"} if name == "padam" else {"learning_rate"})
    assert chosen == {**PAPER_SETTINGS[name], **MINI_CHOICES[name]}


@pytest.mark.parametrize("number", [1, 2, 4])
def test_every_cell_of_a_table_is_an_experiment(number):
    """With the printed number beside it."""
    found = {(spec.suite, spec.optimizer, result) for spec in table(number) for result in spec.paper}
    printed = {
        (row.suite, optimizer, (row.metric, value, f"Table {number}"))
        for row in paper.TABLES[number].rows
        for optimizer, value in zip(OPTIMIZERS, row.values, strict=True)
    }
    assert {(suite, name, dataclasses.astuple(result)) for suite, name, result in found} == printed


def test_printed_numbers_stand_where_they_belong():
    """One of each table, read off the paper."""
    for name, values in {
        "cifar10-resnet18-padam": [94.94],
        "cifar10-wrn16-4-adamw": [95.08],
        "cifar100-vgg16-sgdm": [73.32],
        "imagenet-resnet18-amsgrad": [67.69, 88.15],
        "imagenet-vgg16-padam": [74.04, 91.93],
    }.items():
        assert [result.value for result in EXPERIMENTS[name].paper] == values


def test_experiments_of_the_authors_scripts():
    for spec in (*table(1), *table(4)):
        assert (spec.epochs, spec.milestones, spec.batch_size) == (200, (100, 150), 128)
        assert spec.augmentation == ("crop", "flip")
        assert spec.keep_last_batch
        assert spec.statistics_updates == 2
        assert spec.reestimate_statistics
        assert spec.decay_everything
        assert spec.bias_correction == "official"
        assert spec.norm_scale_init == ("ones" if spec.model == "wrn16-4" else "uniform")
    for spec in table(2):
        assert (spec.epochs, spec.milestones, spec.batch_size) == (100, (30, 60, 80), 256)
        decay = {"normalized_weight_decay": 0.05} if spec.optimizer == "adamw" else {"weight_decay": 1e-4}
        assert decay.items() <= spec.hyperparameters.items()
        assert spec.assumed == (() if spec.optimizer == "adamw" else ("weight_decay",))


def test_figure_1_has_each_p_on_both_data_sets():
    for dataset in ("cifar10", "cifar100"):
        curves = [spec for spec in figure(1) if spec.dataset == dataset]
        assert sorted(spec.hyperparameters["p"] for spec in curves) == [1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5]
        assert (
            len({dataclasses.replace(spec, name="", hyperparameters={}, assumed=(), paper=()).model for spec in curves})
            == 1
        )


@pytest.mark.parametrize("select", [table, figure])
def test_unknown_table_or_figure(select):
    with pytest.raises(KeyError, match=r"no experiments for .* 7; there are for 1, 2"):
        select(7)


@pytest.mark.parametrize(("epochs", "milestones"), [(40, (20, 30)), (20, (10, 15)), (80, (40, 60)), (4, (2, 3))])
def test_with_epochs_scales_milestones(epochs, milestones):
    spec = EXPERIMENTS["digits-padam"]
    shorter = spec.with_epochs(epochs)
    assert (shorter.epochs, shorter.milestones) == (epochs, milestones)
    assert dataclasses.replace(shorter, epochs=spec.epochs, milestones=spec.milestones) == spec


@pytest.mark.parametrize("epochs", [0, -1])
def test_with_epochs_wants_one(epochs):
    with pytest.raises(ValueError, match=f"epochs must be at least 1, got {epochs}"):
        EXPERIMENTS["digits-padam"].with_epochs(epochs)


def test_find():
    assert all(find(name) is spec for name, spec in EXPERIMENTS.items())


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("digits-pdam", "digits-padam"),
        ("cifar10-mini-sgd", "cifar10-mini-sgdm"),
        ("Digits-Adam", "digits-adam"),
        ("cifar-mini-yogi", "cifar10-mini-yogi"),
    ],
)
def test_find_suggests(name, near):
    with pytest.raises(KeyError, match=rf"no experiment called '{re.escape(name)}'\. Did you mean .*{near}"):
        find(name)


def test_find_suggests_nothing_far_off():
    with pytest.raises(KeyError) as caught:
        find("xyz")
    assert "Did you mean" not in str(caught.value)
    assert "padam list" in str(caught.value)


@pytest.fixture(scope="module")
def tuning():
    """The script that made the choices."""
    specification = importlib.util.spec_from_file_location("tune_mini", REPRODUCTION / "tune_mini.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trials():
    """Records of the search by optimizer."""
    found = collections.defaultdict(list)
    for record in read_all(REPRODUCTION / "cifar10-mini-tuning"):
        found[record.config["experiment"]["optimizer"]].append(record)
    return found


DEFAULTS = {
    field.name: json.loads(json.dumps(field.default))
    for field in dataclasses.fields(Experiment)
    if field.default is not dataclasses.MISSING
}


def chosen(record) -> dict[str, float]:
    settings = record.config["experiment"]["hyperparameters"]
    return {name: settings[name] for name in ("learning_rate", "p") if name in settings}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_mini_choices_are_the_best_trials(tuning, trials, name):
    assert trials[name], "the records of the search are missing"
    assert chosen(min(trials[name], key=tuning.score)) == MINI_CHOICES[name]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_search_was_complete(tuning, trials, name):
    """For each p, five rates or more, and the best is not at an edge that the search could have gone beyond."""
    by_p = collections.defaultdict(dict)
    for record in trials[name]:
        settings = chosen(record)
        by_p[settings.get("p")][settings["learning_rate"]] = tuning.score(record)
    assert set(by_p) == (set(tuning.PS) if name == "padam" else {None})
    for scores in by_p.values():
        rates = sorted(scores)
        assert len(rates) >= 5
        limits = {tuning.rate(tuning.LOWEST), tuning.rate(tuning.HIGHEST)}
        assert min(rates, key=scores.get) in {*rates[1:-1], *limits}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trials_are_todays_recipe(tuning, trials, name):
    assert trials[name], "the records of the search are missing"
    for record in trials[name]:
        assert record.finished
        # A record from before a field existed was made with what is its default now.
        recorded = DEFAULTS | record.config["experiment"]
        settings = chosen(record)
        today = dataclasses.asdict(tuning.variant(name, settings["learning_rate"], settings.get("p")))
        today.pop("paper")
        assert {key: recorded[key] for key in today} == json.loads(json.dumps(today))
        assert (record.config["data"]["train_examples"], record.config["data"]["test_examples"]) == (4_000, 1_000)
