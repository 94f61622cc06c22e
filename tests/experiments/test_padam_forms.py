"""Further forms of Padam: their steps, and the experiments beyond the paper that train with them."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import recorded

from padam_optax import convert_learning_rate, padam, padamw
from padam_optax.experiments import EXPERIMENTS, beyond, find
from padam_optax.experiments.methods import MethodContext, ParameterGroup, make_optimizer

SETTINGS = {"learning_rate": 0.1, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "p": 0.25, "weight_decay": 0.0}
PARAMS = {"embedding": jnp.ones((2, 3)), "kernel": jnp.full((3, 2), 2.0), "bias": jnp.full(2, 3.0)}
UPDATES = 8
CONTEXT = MethodContext(total_updates=UPDATES)


def steps_of(optimizer):
    """All updates of a short training with given gradients."""
    state, update, found = optimizer.init(PARAMS), jax.jit(optimizer.update), []
    for step in range(UPDATES):
        gradients = jax.tree.map(lambda leaf: 0.01 * jax.random.normal(jax.random.key(step), leaf.shape), PARAMS)  # noqa: B023
        updates, state = update(gradients, state, PARAMS)
        found.append(updates)
    return found


def made(method, context=CONTEXT, **changed):
    return steps_of(make_optimizer(method, SETTINGS | changed, context))


def plain(p, rate=0.1, **options):
    return steps_of(padam(rate, p=p, **options))


def assert_close(one, other):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-12), one, other)


def test_p_falls_from_the_first_to_the_last_update():
    assert_close(made("padam-falling", p=0.5, final_p=0.0), plain(lambda count: 0.5 * (1 - count / UPDATES)))


def test_a_rate_is_converted_at_each_step():
    assert_close(
        made("padam-falling-converted", p=0.5, final_p=0.0, rate_p=0.25, root=1e-3),
        plain(lambda count: 0.5 * (1 - count / UPDATES), lambda count: 0.1 * 1e-3 ** (0.5 - count / UPDATES)),
    )


def test_the_group_has_its_own_p_and_rate():
    settings = {"p": 0.125, "group_p": 0.4, "rate_p": 0.25, "root": 1e-3, "group_root": 1e-2}
    context = dataclasses.replace(CONTEXT, group=ParameterGroup(names=("embedding",)))
    found = made("padam-by-group-converted", context, **settings)
    group, rest = plain(0.4, 0.1 * 1e-2**0.3), plain(0.125, 0.1 * 1e-3**-0.25)
    for step, of_group, of_rest in zip(found, group, rest, strict=True):
        assert_close(step, {**of_rest, "embedding": of_group["embedding"]})


def test_group_by_name_or_by_axes():
    """The recipe for text names the embedding, that for images scales and biases."""
    assert beyond.GROUPS["ptb-mini"](PARAMS) == {"embedding": True, "kernel": False, "bias": False}
    assert ParameterGroup(most_axes=1)(PARAMS) == {"embedding": False, "kernel": False, "bias": True}


def test_p_of_1():
    context = dataclasses.replace(CONTEXT, allow_unproven_p=True)
    assert_close(made("padam", context, p=1.0), plain(1.0, allow_unproven_p=True))


def test_decoupled_decay_is_normalised():
    """Whatever the rate is: .4 over the root of the number of updates is what one subtracts."""
    settings = {name: value for name, value in SETTINGS.items() if name != "weight_decay"}
    settings["normalized_weight_decay"] = 0.4
    found = steps_of(make_optimizer("padamw", settings, CONTEXT))
    decay = 0.4 / UPDATES**0.5
    expected = [jax.tree.map(lambda update, param: update - decay * param, updates, PARAMS) for updates in plain(0.25)]
    assert_close(found, expected)
    assert_close(found, steps_of(padamw(0.1, p=0.25, weight_decay=decay / 0.1)))


@pytest.mark.parametrize(
    ("method", "changed"),
    [
        ("padam-converted", {"rate_p": 0.1}),
        ("padam-converted", {"root": 0.1}),
        ("padam-by-group-converted", {"rate_p": 0.1, "root": 0.1, "group_p": 0.4}),
    ],
)
def test_half_a_conversion(method, changed):
    with pytest.raises(ValueError, match=rf"{method} takes the hyper-parameters .*root"):
        make_optimizer(method, SETTINGS | changed)


@pytest.mark.parametrize(("suite", "p"), [("ptb-mini", 0.2)])
def test_roots_are_those_of_the_recorded_runs(suite, p):
    (record,) = (
        record
        for record in recorded("effective-rates")
        if (record.experiment.variant_of, record.experiment.hyperparameters["p"]) == (f"{suite}-padam", p)
    )
    measured = [record.metrics[-1][name] for name in ("median_root", "group_median_root")]
    assert tuple(float(f"{value:.2g}") for value in measured) == beyond.ROOTS[suite]


def test_each_changes_one_thing_of_its_recipe():
    """Which form of Padam it is, and what that form needs, belongs to the settings that it changes."""
    assert len(beyond.EXPERIMENTS) == 7
    form = {"optimizer", "allow_unproven_p", "group"}
    for spec in beyond.EXPERIMENTS:
        base = find(spec.variant_of)
        differing = {
            field.name for field in dataclasses.fields(spec) if getattr(spec, field.name) != getattr(base, field.name)
        }
        assert differing <= {"name", "variant_of", "hyperparameters", "seeds", "bias_correction", *form}
        assert {"hyperparameters", "bias_correction"} & differing
        assert "hyperparameters" in differing or not form & differing
        assert set(spec.seeds) <= set(base.seeds)
        assert EXPERIMENTS[spec.name] is spec
        context = MethodContext(allow_unproven_p=spec.allow_unproven_p, group=spec.group)
        make_optimizer(spec.optimizer, spec.hyperparameters, context)


@functools.cache
def best_rates(suite: str, metric: str) -> dict[float, float]:
    """The best learning rate of each p in the recorded search for a recipe's settings."""
    scores: dict[float, dict[float, float]] = {}
    for record in recorded(f"{suite}-tuning"):
        settings = record.experiment.hyperparameters
        if "p" in settings:
            score = math.inf if record.diverged else record.metrics[-1][metric]
            scores.setdefault(settings["p"], {})[settings["learning_rate"]] = score
    return {p: min(by_rate, key=by_rate.get) for p, by_rate in scores.items()}


@pytest.mark.parametrize(
    ("suite", "metric", "half_decades"),
    [("ptb-mini", "valid_perplexity", dict.fromkeys((1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5), 0))],
)
def test_conversion_foretells_the_best_rates(suite, metric, half_decades):
    """As docs/beyond.md says: from the recipe's setting and one measured root to the search's best rate of each p.

    The searches tried rates half a decade apart; a prediction is as far from the best as so many of these steps.
    """
    settings, (root, _) = find(f"{suite}-padam").hyperparameters, beyond.ROOTS[suite]
    found = best_rates(suite, metric)
    assert set(found) == set(half_decades)
    for p, best in found.items():
        predicted = convert_learning_rate(settings["learning_rate"], settings["p"], p, root)
        assert round(2 * math.log10(predicted / best)) == half_decades[p], (p, predicted, best)
