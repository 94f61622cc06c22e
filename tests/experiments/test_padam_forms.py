"""Further forms of Padam: their steps, and the experiments beyond the paper that train with them."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recorded import recorded

from padam_optax import padam
from padam_optax.experiments import EXPERIMENTS, beyond, find, ptb, tuning
from padam_optax.experiments.methods import MethodContext, ParameterGroup, make_optimizer

SETTINGS = {"learning_rate": 0.1, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "reference_p": 0.5}
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


def plain(p, **options):
    return steps_of(padam(0.1, p=p, reference_p=0.5, **options))


def assert_close(one, other):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-12), one, other)


def test_p_falls_from_the_first_to_the_last_update():
    expected = plain(lambda count: 0.5 - 0.375 * count / UPDATES)
    assert_close(made("padam-falling", p=0.5, final_p=0.125), expected)


def test_the_group_has_its_own_p():
    context = dataclasses.replace(CONTEXT, group=beyond.EMBEDDING)
    found = made("padam-by-group", context, p=0.125, group_p=0.5)
    for step, of_group, of_rest in zip(found, plain(0.5), plain(0.125), strict=True):
        assert_close(step, {**of_rest, "embedding": of_group["embedding"]})


def test_group_by_name_or_by_axes():
    assert beyond.EMBEDDING(PARAMS) == {"embedding": True, "kernel": False, "bias": False}
    assert ParameterGroup(most_axes=1)(PARAMS) == {"embedding": False, "kernel": False, "bias": True}


def test_p_of_1():
    context = dataclasses.replace(CONTEXT, allow_unproven_p=True)
    assert_close(made("padam-reference", context, p=1.0), plain(1.0, allow_unproven_p=True))


def test_each_changes_one_thing_of_its_recipe():
    """Which form of Padam it is, and what that form needs, belongs to the settings that it changes."""
    assert len(beyond.EXPERIMENTS) == len(beyond.RATES)
    form = {"optimizer", "group"}
    for spec in beyond.EXPERIMENTS:
        base = find(spec.variant_of)
        differing = {
            field.name for field in dataclasses.fields(spec) if getattr(spec, field.name) != getattr(base, field.name)
        }
        assert differing - form == {"name", "variant_of", "hyperparameters", "seeds"}
        changed = {name for name, value in spec.hyperparameters.items() if base.hyperparameters.get(name) != value}
        assert changed <= {"learning_rate", "p", "final_p", "group_p"}
        assert set(spec.seeds) <= set(base.seeds)
        assert EXPERIMENTS[spec.name] is spec
        context = MethodContext(group=spec.group)
        make_optimizer(spec.optimizer, spec.hyperparameters, context)


@pytest.mark.parametrize("what", beyond.RATES)
def test_rates_are_the_best_of_three(what):
    """The recipe's rate and half a decade to each side, one seed, on the validation text."""
    base = ptb.MINI_CHOICES["padam-reference"]["learning_rate"]
    scores: dict[float, float] = {}
    for run in recorded("beyond"):
        spec = run.experiment
        if spec.trial and spec.variant_of == f"ptb-mini-padam-reference-{what}":
            assert (spec.epochs, run.seed) == (3, tuning.SEEDS[0])
            score = run.metrics[-1]["valid_perplexity"] if run.whole else math.inf
            scores[spec.hyperparameters["learning_rate"]] = score
    assert sorted(scores) == pytest.approx([base / 10**0.5, base, base * 10**0.5], rel=1e-3)
    assert min(scores, key=scores.__getitem__) == beyond.RATES[what]
