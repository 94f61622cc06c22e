"""The specifications."""

import collections
import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from padam_optax.experiments import (
    EXPERIMENTS,
    beyond,
    digits,
    figure,
    find,
    paper,
    pydoc,
    register,
    table,
    tuning,
)
from padam_optax.experiments.cifar import FIGURE_1
from padam_optax.experiments.methods import METHODS, MethodContext, make_optimizer
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment, ImageClassification, LanguageModelling, Role
from padam_optax.runner.datasets import DATASETS, ImageDataset, TextDataset
from padam_optax.runner.programs import AUGMENTATIONS, MODELS, build_model, trainer_for

PAPER_SETTINGS = {name: METHODS[name].settings for name in PAPER_METHODS}
each_spec = pytest.mark.parametrize("spec", EXPERIMENTS.values(), ids=EXPERIMENTS)


@each_spec
def test_spec_is_consistent(spec):
    assert EXPERIMENTS[spec.name] is spec
    changed = spec in (*FIGURE_1, *beyond.EXPERIMENTS)
    assert (spec.variant_of is not None) == changed
    if changed:
        base = EXPERIMENTS[spec.variant_of]
        assert (base.suite, base.variant_of, base.dataset, base.model) == (spec.suite, None, spec.dataset, spec.model)
        assert spec.name.startswith(f"{base.name}-")
    else:
        assert spec.name == f"{spec.suite}-{spec.optimizer}"
    assert spec.model in MODELS
    assert spec.optimizer in METHODS
    text = isinstance(spec.task, LanguageModelling)
    assert isinstance(DATASETS[spec.dataset], TextDataset if text else ImageDataset)
    assert text or set(spec.task.augmentation) <= set(AUGMENTATIONS)
    assert list(spec.milestones) == sorted(set(spec.milestones))
    assert all(0 < milestone < spec.epochs for milestone in spec.milestones)
    assert 0 < spec.factor < 1
    assert spec.batch_size >= 1
    assert len(set(spec.seeds)) == len(spec.seeds) >= 1
    assert not spec.is_trial


@each_spec
def test_settings_suit_the_optimizer(spec):
    context = MethodContext(allow_unproven_p=spec.allow_unproven_p, group=spec.group)
    make_optimizer(spec.optimizer, spec.hyperparameters, context)
    assert all(isinstance(value, float) for value in spec.hyperparameters.values())


@each_spec
def test_spec_is_frozen(spec):
    for field in dataclasses.fields(spec):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(spec, field.name, getattr(spec, field.name))


def test_names_are_unique_and_suites_complete():
    """Each recipe is there for each of the seven, alike but for the optimizer and its settings.

    Where settings were chosen by `tuning`, and in demonstrations, Padam at Adam's rates is there too.
    """
    suites = collections.defaultdict(list)
    for spec in EXPERIMENTS.values():
        if spec.variant_of is None:
            suites[spec.suite].append(spec)
    searched = {*tuning.UNTUNED, *tuning.UNTUNED.values(), "pydoc", "pydoc-transformer"}
    assert searched <= suites.keys()
    for suite, specs in suites.items():
        assert [spec.optimizer for spec in specs] == list(tuning.SPACES if suite in searched else PAPER_METHODS)
        other = {"name": "", "optimizer": "", "hyperparameters": {}, "assumed": (), "paper": ()}
        recipes = [dataclasses.replace(spec, **other) for spec in specs]
        assert recipes == recipes[:1] * len(specs)


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
        assert [PAPER_SETTINGS[name].get(setting) for name in PAPER_METHODS] == values, setting
    assert PAPER_SETTINGS["yogi"]["eps"] == 1e-3
    assert {PAPER_SETTINGS[name]["eps"] for name in PAPER_METHODS if name not in ("sgdm", "yogi")} == {1e-8}
    assert {PAPER_SETTINGS[name]["weight_decay"] for name in PAPER_METHODS if name != "adamw"} == {5e-4}


def test_language_settings_of_section_5():
    """ "Regarding the LSTM experiments" and what follows, for 2 and 3 layers."""
    adam = {"b1": 0.9, "b2": 0.999}
    for layers, sgdm, yogi, final, padam, p in ((2, 1.0, 0.01, 10.0, 0.01, 0.4), (3, 10.0, 0.1, 100.0, 1.0, 0.2)):
        expected = {
            "sgdm": {"learning_rate": sgdm, "momentum": 0.9},
            "adam": {"learning_rate": 1e-3, **adam},
            "amsgrad": {"learning_rate": 1e-3, **adam},
            "adamw": {"learning_rate": 1e-3, **adam, "normalized_weight_decay": 4e-4},
            "yogi": {"learning_rate": yogi, **adam, "eps": 1e-3},
            "adabound": {"learning_rate": 1e-3, **adam, "final_learning_rate": final},
            "padam": {"learning_rate": padam, **adam, "p": p},
        }
        for name in PAPER_METHODS:
            spec = EXPERIMENTS[f"ptb-lstm{layers}-{name}"]
            assert expected[name].items() <= spec.hyperparameters.items()
            assert name == "adamw" or spec.hyperparameters["weight_decay"] == 1.2e-6
            assert (spec.epochs, spec.milestones, spec.batch_size, spec.factor) == (200, (100, 150), 20, 0.1)
            assert {"task", "model_options"} <= set(spec.assumed)


@pytest.mark.parametrize(("layers", "parameters"), [(2, 13_632_400), (3, 24_221_600)])
def test_language_models_have_the_public_code_s_size(layers, parameters):
    spec = EXPERIMENTS[f"ptb-lstm{layers}-padam"]
    model = nnx.eval_shape(lambda: build_model(spec, 10_000, nnx.Rngs(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == parameters
    language, options = spec.task, spec.model_options
    assert (options["embedding"], options["hidden"], language.window, language.random_window) == (400, 1150, 70, True)
    rates = [options[f"{place}_dropout"] for place in ("word", "input", "between", "output", "weight")]
    assert rates == [0.1, 0.4, 0.25, 0.4, 0.5]
    assert (language.activation_regularization, language.temporal_regularization) == (2, 1)
    assert (language.gradient_clip, language.eval_columns) == (0.25, (10, 1))


def test_gradients_are_clipped_before_the_decay():
    """A step of momentum SGD: the rate times the clipped gradient and the decay, which is not clipped."""
    spec = EXPERIMENTS["ptb-lstm2-sgdm"]
    settings = {**spec.hyperparameters, "weight_decay": 0.5}
    optimizer = trainer_for(spec, 929_589, 10_000).make_optimizer(settings, jnp.asarray(0.1))
    params, gradients = {"x": jnp.asarray([3.0, 4.0])}, {"x": jnp.asarray([30.0, -40.0])}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    np.testing.assert_allclose(updates["x"], -0.1 * (np.array([0.15, -0.2]) + 0.5 * np.array([3.0, 4.0])), rtol=1e-6)


def test_normalised_decay_counts_the_updates_of_a_language_model():
    """4e-4 over the square root of 46,478 / 68.25 windows in each of 200 epochs, whatever the rate."""
    spec = EXPERIMENTS["ptb-lstm2-adamw"]
    optimizer = trainer_for(spec, 929_589, 10_000).make_optimizer(dict(spec.hyperparameters), jnp.asarray(1.0))
    params = {"x": jnp.asarray([1.0])}
    updates, _ = optimizer.update({"x": jnp.asarray([0.0])}, optimizer.init(params), params)
    assert float(updates["x"][0]) == pytest.approx(-4e-4 / (200 * 46_478 / 68.25) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("name", PAPER_METHODS)
def test_the_digits_before_any_choice_have_the_papers_settings(name):
    assert EXPERIMENTS[f"digits-{name}"].hyperparameters == PAPER_SETTINGS[name]
    assert {spec.name for spec in digits.DIGITS} >= {f"digits-{name}"}


@pytest.mark.parametrize("name", tuning.SPACES)
def test_the_help_texts_have_the_settings_of_the_recipes_for_text(name):
    for demonstration, recipe in (("pydoc", "ptb-mini"), ("pydoc-transformer", "ptb-transformer-mini")):
        own = EXPERIMENTS[f"{demonstration}-{name}"]
        assert own in pydoc.EXPERIMENTS
        assert own.hyperparameters == EXPERIMENTS[f"{recipe}-{name}"].hyperparameters


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_cell_of_a_table_is_an_experiment(number):
    """With the printed number beside it."""
    found = {(spec.suite, spec.optimizer, result) for spec in table(number) for result in spec.paper}
    printed = {
        (row.suite, optimizer, (row.metric, value, number))
        for row in paper.TABLES[number].rows
        for optimizer, value in zip(PAPER_METHODS, row.values, strict=True)
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
        "ptb-lstm2-yogi": [64.13],
        "ptb-lstm3-padam": [58.48],
    }.items():
        assert [result.value for result in EXPERIMENTS[name].paper] == values


def test_experiments_of_the_authors_scripts():
    for spec in (*table(1), *table(4)):
        assert (spec.epochs, spec.milestones, spec.batch_size) == (200, (100, 150), 128)
        assert spec.task.augmentation == ("crop", "flip")
        assert spec.task.keep_last_batch
        assert spec.task.statistics_updates == 2
        assert spec.task.reestimate_statistics
        assert spec.decay_everything
        assert spec.bias_correction == "official"
        assert spec.model_options.get("norm_scale_init", "ones") == ("ones" if spec.model == "wrn16-4" else "uniform")
    for spec in table(2):
        assert (spec.epochs, spec.milestones, spec.batch_size) == (100, (30, 60, 80), 256)
        decay = {"normalized_weight_decay": 0.05} if spec.optimizer == "adamw" else {"weight_decay": 1e-4}
        assert decay.items() <= spec.hyperparameters.items()
        assert spec.assumed == (() if spec.optimizer == "adamw" else ("weight_decay",))


def test_figure_1_has_each_p_on_both_data_sets():
    for dataset in ("cifar10", "cifar100"):
        curves = [spec for spec in figure(1) if spec.dataset == dataset]
        assert sorted(spec.hyperparameters["p"] for spec in curves) == [1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5]
        same = {"name": "", "hyperparameters": {}, "variant_of": None, "assumed": (), "paper": ()}
        recipes = [dataclasses.replace(spec, **same) for spec in curves]
        assert recipes == recipes[:1] * 5


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


def test_what_is_registered_is_found(monkeypatch):
    monkeypatch.setattr("padam_optax.experiments.EXPERIMENTS", dict(EXPERIMENTS))
    mine = dataclasses.replace(EXPERIMENTS["digits-padam"], name="mine-padam", suite="mine")
    assert register(mine) is mine is find("mine-padam")
    with pytest.raises(ValueError, match="an experiment called 'mine-padam' already"):
        register(mine)


def test_each_field_says_its_role():
    """A field without one would silently be part of nothing."""
    for kind in (Experiment, ImageClassification, LanguageModelling):
        for field in dataclasses.fields(kind):
            role = field.metadata["role"]
            assert role == Role.BESIDE or Role.RESULT in role, field.name


def test_roles_of_fields():
    """Names and seeds change nothing, rates no program, and a dropout all."""
    spec = EXPERIMENTS["ptb-mini-padam"]
    result, program, cost = (set(spec.fields(role)) for role in (Role.RESULT, Role.PROGRAM, Role.COST))
    assert result.isdisjoint({"name", "suite", "seeds", "variant_of", "trial", "assumed", "paper"})
    assert {"hyperparameters", "train_examples"} <= result - program
    assert {"model_options", "window", "compute_dtype"} <= program & cost
    assert "milestones" in program - cost
    assert set(EXPERIMENTS["digits-padam"].fields(Role.COST)) >= {"image_size", "reestimate_statistics"}


@pytest.mark.parametrize("epoch", [0, 99, 100, 149, 150])
def test_one_schedule_for_the_host_and_the_compiled_step(epoch):
    """The same function of a number and of a traced array, to the last bit that float32 has."""
    spec = EXPERIMENTS["cifar10-resnet18-padam"]
    expected = 0.1 ** sum(epoch >= milestone for milestone in (100, 150))
    assert spec.rate_factor(epoch) == expected
    assert spec.learning_rate(epoch + 1) == 0.1 * expected
    passed = jnp.sum(epoch >= jnp.asarray(spec.milestones))
    np.testing.assert_array_equal(jax.jit(spec.rate_factor)(jnp.int32(epoch)), jnp.asarray(0.1) ** passed)
