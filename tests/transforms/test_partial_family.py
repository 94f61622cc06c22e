"""Partially adaptive Adagrad, RMSprop, Adadelta and AdaMax: what is asked of each of the four, method by method."""

import functools
import inspect
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trajectories import random_gradients, trajectories

import padam_optax

SCALES = {
    "rss": padam_optax.scale_by_partial_rss,
    "rms": padam_optax.scale_by_partial_rms,
    "stddev": padam_optax.scale_by_partial_stddev,
    "adadelta": padam_optax.scale_by_partial_adadelta,
    "adamax": padam_optax.scale_by_partial_adamax,
}
ALIASES = {
    "adagrad": padam_optax.partial_adagrad,
    "rmsprop": padam_optax.partial_rmsprop,
    "adadelta": padam_optax.partial_adadelta,
    "adamax": padam_optax.partial_adamax,
}
each_factory = pytest.mark.parametrize("make", [*SCALES.values(), *ALIASES.values()], ids=lambda make: make.__name__)


def build(make, **settings):
    return make(0.1, **settings) if make in ALIASES.values() else make(**settings)


# Optax's own, at p = 1/2


RMS = [
    {},
    {"decay": 0.99, "eps": 1e-3, "initial_scale": 1.0},
    {"eps_in_sqrt": False, "eps": 1e-2},
    {"bias_correction": True},
    {"bias_correction": True, "eps_in_sqrt": False},
]
CASES = [
    *[("scale_by_rss", settings) for settings in ({}, {"initial_accumulator_value": 0.0, "eps": 1e-3})],
    *[("scale_by_rms", settings) for settings in RMS],
    *[("scale_by_stddev", settings) for settings in RMS],
    *[("scale_by_adadelta", settings) for settings in ({}, {"rho": 0.5, "eps": 1e-2})],
    *[("scale_by_adamax", settings) for settings in ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-2})],
    *[("adagrad", settings) for settings in ({}, {"initial_accumulator_value": 1.0})],
    *[("rmsprop", settings) for settings in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True})],
    ("rmsprop", {"centered": True, "momentum": 0.5, "decay": 0.8, "eps_in_sqrt": False}),
    *[("adadelta", settings) for settings in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "rho": 0.5})],
    ("adadelta", {"weight_decay": 0.1, "weight_decay_mask": False}),
    *[("adamax", settings) for settings in ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-2})],
]


def ours(name: str):
    return getattr(padam_optax, name.replace("scale_by_", "scale_by_partial_") if "_" in name else f"partial_{name}")


@functools.cache
def beside_optax():
    """Updates at p = 1/2 and Optax's, by the number of the case."""
    optimizers = {}
    for number, (name, settings) in enumerate(CASES):
        rate = () if name.startswith("scale_by") else (optax.linear_schedule(0.1, 0.01, 40),)
        optimizers["ours", number] = ours(name)(*rate, p=1 / 2, **settings)
        optimizers["optax", number] = getattr(optax, name)(*rate, **settings)
    with jax.enable_x64(True):
        params = jnp.linspace(-1.0, 1.0, 5, dtype="float64")
        found = trajectories(optimizers, random_gradients(50), params)
    return {key: np.asarray(updates) for key, (updates, _) in found.items()}


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name for name, _ in CASES])
def test_p_of_one_half_is_optax(number):
    name, settings = CASES[number]
    # The debiased variance of a single gradient is rounding.
    first = 1 if name == "scale_by_stddev" and "bias_correction" in settings else 0
    found = beside_optax()
    np.testing.assert_allclose(found["ours", number][first:], found["optax", number][first:], rtol=1e-9)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_arguments_are_those_of_optax(name):
    """The same names in the same order with the same defaults, and what we add by keyword only."""
    parameters = list(inspect.signature(ours(name)).parameters.values())
    found = [parameter for parameter in parameters if parameter.kind != inspect.Parameter.KEYWORD_ONLY]
    expected = list(inspect.signature(getattr(optax, name)).parameters.values())
    assert [parameter.name for parameter in found] == [parameter.name for parameter in expected]
    # Adadelta's learning rate is None in Optax, which takes it for an error, and 1 here.
    assert [parameter.default for parameter in found if parameter.name != "learning_rate"] == [
        parameter.default for parameter in expected if parameter.name != "learning_rate"
    ]
    assert parameters[len(found)].name == "p"


def test_adadelta_has_a_learning_rate_of_1():
    gradient = jnp.array([1.0, -2.0])
    found, expected = (
        optimizer.update(gradient, optimizer.init(gradient))[0]
        for optimizer in (padam_optax.partial_adadelta(), padam_optax.partial_adadelta(1.0))
    )
    np.testing.assert_array_equal(found, expected)


# Any other p


def numpy_updates(name, gradients, p) -> np.ndarray:
    """The formulas of the docstrings with Optax's default arguments."""
    total, nu, mu, e_g, e_x, largest = 0.1, 0.0, 0.0, 0.0, 0.0, 0.0
    rows = []
    for t, g in enumerate(gradients, start=1):
        if name == "rss":
            total = total + g**2
            rows.append(g / (total + 1e-7) ** p)
        elif name == "rms":
            nu = 0.9 * nu + 0.1 * g**2
            rows.append(g / (nu + 1e-8) ** p)
        elif name == "stddev":
            mu, nu = 0.9 * mu + 0.1 * g, 0.9 * nu + 0.1 * g**2
            rows.append(g / (nu - mu**2 + 1e-8) ** p)
        elif name == "adadelta":
            e_g = 0.9 * e_g + 0.1 * g**2
            rows.append(((e_x + 1e-6) / (e_g + 1e-6)) ** p * g)
            e_x = 0.9 * e_x + 0.1 * rows[-1] ** 2
        else:
            mu, largest = 0.9 * mu + 0.1 * g, np.maximum(0.999 * largest, np.abs(g) + 1e-8)
            rows.append(mu / (1 - 0.9**t) / largest ** (2 * p))
    return np.stack(rows)


@pytest.mark.parametrize("name", SCALES)
def test_formula(name):
    gradients = random_gradients(60)
    with jax.enable_x64(True):
        found = trajectories({p: SCALES[name](p=p) for p in (0, 1 / 8, 1 / 5, 3 / 8)}, gradients)
    for p, (updates, _) in found.items():
        np.testing.assert_allclose(updates, numpy_updates(name, gradients, p), rtol=1e-10, err_msg=f"p = {p}")


@pytest.mark.parametrize("name", SCALES)
def test_every_form_of_p_agrees(name):
    gradients, make = random_gradients(20).astype(np.float32), SCALES[name]

    def run(p):
        forms = {
            "number": make(p=0.2),
            "array": make(p=jnp.asarray(0.2)),
            "schedule": make(p=lambda count: 0.2 + 0.0 * count),
            "injected": optax.inject_hyperparams(make)(p=0.2),
            "traced": make(p=p),
        }
        return {form: updates for form, (updates, _) in trajectories(forms, gradients).items()}

    expected = numpy_updates(name, random_gradients(20), 0.2)
    for form, updates in jax.jit(run)(0.2).items():
        np.testing.assert_allclose(updates, expected, rtol=1e-3, err_msg=form)


def test_schedule_of_p_starts_at_count_0():
    """Adadelta's past updates, too, depend on p: its first update alone is compared."""
    values = jnp.array([0.5, 0.25, 0.0, 0.125])
    gradients = random_gradients(4)
    found = trajectories({name: make(p=lambda count: values[count]) for name, make in SCALES.items()}, gradients)
    for name, (updates, _) in found.items():
        rows = range(1 if name == "adadelta" else 4)
        expected = [numpy_updates(name, gradients, float(values[row]))[row] for row in rows]
        np.testing.assert_allclose(updates[: len(expected)], expected, rtol=1e-3, err_msg=name)


def test_p_of_0_is_sgd():
    """With the debiased momentum for AdaMax."""
    momentum = {"momentum": 0.9}
    optimizers = {name: make(0.1, p=0) for name, make in ALIASES.items()}
    optimizers |= {"rmsprop with momentum": ALIASES["rmsprop"](0.1, p=0, **momentum)}
    optimizers |= {"sgd": optax.sgd(0.1), "sgd with momentum": optax.sgd(0.1, **momentum)}
    optimizers |= {"debiased momentum": optax.chain(optax.ema(0.9), optax.scale(-0.1))}
    expected = {"adamax": "debiased momentum", "rmsprop with momentum": "sgd with momentum"}
    with jax.enable_x64(True):
        found = trajectories(optimizers, random_gradients(30))
        for name in [*ALIASES, "rmsprop with momentum"]:
            other = expected.get(name, "sgd")
            np.testing.assert_allclose(found[name][0], found[other][0], rtol=1e-12, err_msg=name)


def test_adadelta_below_one_half_tends_to_sgd():
    """Under a steady gradient; at p = 1/2 the updates go on growing from the root of eps."""
    gradients = np.full((2_000, 3), [0.1, -1.0, 10.0], np.float32)
    optimizers = {p: padam_optax.scale_by_partial_adadelta(eps=1e-12, p=p) for p in (1 / 8, 1 / 4, 0.4)}
    for updates, _ in trajectories(optimizers, gradients).values():
        np.testing.assert_allclose(updates[-1], gradients[-1], rtol=1e-3)
        assert np.all(np.abs(updates[0]) < 0.2 * np.abs(gradients[0]))


# Arguments


BAD_NUMBERS = {
    **dict.fromkeys(("p", "reference_p"), (-0.01, 0.51, math.nan)),
    "calibration_steps": (0, -1, math.inf, math.nan),
    "reference_scope": ("array",),
    **dict.fromkeys(("decay", "rho", "b1", "b2", "momentum"), (-0.1, 1, math.nan)),
    **dict.fromkeys(("eps", "initial_scale", "initial_accumulator_value", "weight_decay"), (-1e-8, math.inf)),
}


@each_factory
def test_bad_numbers(make):
    names = inspect.signature(make).parameters
    assert {*names} - {*BAD_NUMBERS} <= {
        *("learning_rate", "weight_decay_mask"),
        *("eps_in_sqrt", "centered", "nesterov", "bias_correction"),
    }
    for name in names:
        for value in BAD_NUMBERS.get(name, ()):
            with pytest.raises(ValueError, match=rf"^{name} must .*got '?{re.escape(str(value))}\b"):
                build(make, **{name: value})


def test_traced_arguments_equal_numbers():
    values = {"learning_rate": 0.3, "decay": 0.8, "rho": 0.8, "b1": 0.8, "b2": 0.99, "eps": 1e-3, "p": 0.2}
    values |= {"initial_accumulator_value": 0.5, "initial_scale": 0.5, "momentum": 0.7, "weight_decay": 0.01}
    gradients = random_gradients(5).astype(np.float32)

    def run(values):
        optimizers = {
            name: make(**{key: value for key, value in values.items() if key in inspect.signature(make).parameters})
            for name, make in ALIASES.items()
        }
        return {name: updates for name, (updates, _) in trajectories(optimizers, gradients, jnp.ones(5)).items()}

    chex.assert_trees_all_close(jax.jit(run)(values), run(values), rtol=1e-3)
