"""scale_by_adabound and adabound: arguments, formulas, and the bounds, which follow the learning rate."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trajectories import random_gradients as gradients_of_all_scales
from trajectories import trajectories, trajectory

from padam_optax import adabound, scale_by_adabound

FACTORIES = {
    "scale_by_adabound": functools.partial(scale_by_adabound, final_ratio=1.0),
    "adabound": functools.partial(adabound, 0.1),
    "amsbound": functools.partial(adabound, 0.1, amsbound=True),
}
each_factory = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)


def random_gradients(steps: int) -> np.ndarray:
    """Seven coordinates, so that either bound binds somewhere."""
    return gradients_of_all_scales(steps, coordinates=7)


def numpy_updates(
    gradients, rates, b1=0.9, b2=0.999, eps=1e-8, *, final_learning_rate=0.1, gamma=1e-3, amsbound=False
) -> np.ndarray:
    """The authors' loop: the rate is inside the clip, and the bounds follow it relative to the first rate."""
    mu = nu = nu_max = np.zeros_like(gradients[0])
    rows = []
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        mu = b1 * mu + (1 - b1) * gradient
        nu = b2 * nu + (1 - b2) * gradient**2
        nu_max = np.maximum(nu_max, nu) if amsbound else nu
        step_size = rate * math.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(nu_max) + eps)
        final = final_learning_rate * rate / rates[0]
        if gamma:
            step_size = np.clip(step_size, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t)))
        rows.append(-step_size * mu)
    return np.stack(rows)


@each_factory
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, value) for name in ("b1", "b2") for value in (-0.1, 1, math.nan, np.float32(1.5))],
        *[(name, value) for name in ("eps", "gamma") for value in (-1e-8, math.inf, math.nan, np.float32(-1))],
    ],
)
def test_bad_number(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must .*got {re.escape(str(value))}"):
        make(**{name: value})


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (scale_by_adabound, "final_ratio"),
        (FACTORIES["adabound"], "final_learning_rate"),
        (FACTORIES["adabound"], "weight_decay"),
    ],
)
def test_bad_final_rate_or_decay(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must .*got {value}"):
        make(**{name: value})


@pytest.mark.parametrize("value", [0, -0.1, math.nan])
def test_bad_base_learning_rate(value):
    with pytest.raises(ValueError, match=rf"^base_learning_rate must be finite and above 0, got {value}"):
        adabound(0.1, base_learning_rate=value)


@pytest.mark.parametrize("amsbound", [False, True])
def test_injected_and_traced_rates_equal_numbers(amsbound):
    """The base is kept in the state: the bounds of an injected schedule decay with it, and jit and vmap work."""
    settings = {"final_learning_rate": 0.1, "gamma": 0.1, "amsbound": amsbound}
    with jax.enable_x64(True):
        gradients = random_gradients(40)
        schedule = optax.piecewise_constant_schedule(0.03, {20: 0.1})
        expected = trajectory(adabound(schedule, base_learning_rate=0.03, **settings), gradients)[0]
        injected = optax.inject_hyperparams(adabound, static_args=("amsbound",))(schedule, **settings)
        for optimizer in (adabound(schedule, **settings), injected):
            np.testing.assert_allclose(trajectory(optimizer, gradients)[0], expected, rtol=1e-6)
    gradients = gradients.astype(np.float32)

    def constant(rate):
        return trajectory(adabound(rate, **settings), gradients)[0]

    rates = jnp.array([0.001, 0.03])
    for rate, found in zip((0.001, 0.03), jax.vmap(constant)(rates), strict=True):
        np.testing.assert_allclose(found, constant(rate), rtol=1e-5)


def test_rates_of_0():
    """Nothing moves at a rate of 0; a warm-up from 0 has the highest rate so far for its base."""
    gradients = random_gradients(30).astype(np.float32)
    for rate in (0.0, jnp.array(0.0)):
        np.testing.assert_array_equal(trajectory(adabound(rate), gradients)[0], 0 * gradients)
    warm_up = optax.linear_schedule(0.0, 0.1, 10)
    updates = trajectory(adabound(warm_up, gamma=1.0), gradients)[0]
    assert (updates[0] == 0).all()
    expected = trajectory(adabound(0.1, gamma=1.0), gradients)[0]
    np.testing.assert_allclose(updates[10:], expected[10:], rtol=1e-5)


def test_schedule_needs_no_base_inside_jit():
    gradient = jnp.ones(2)

    @jax.jit
    def update():
        optimizer = adabound(optax.piecewise_constant_schedule(0.1, {3: 0.1}))
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    optimizer = adabound(0.1)
    np.testing.assert_allclose(update(), optimizer.update(gradient, optimizer.init(gradient))[0], rtol=1e-6)


def test_traced_arguments_equal_numbers():
    gradients = random_gradients(10).astype(np.float32)
    settings = {"b1": 0.8, "b2": 0.99, "eps": 1e-3, "final_learning_rate": 0.2, "base_learning_rate": 0.3}
    settings |= {"learning_rate": 0.3, "gamma": 0.1, "weight_decay": 0.01}

    def run(settings):
        return trajectory(adabound(**settings), gradients, jnp.ones(7))[0]

    np.testing.assert_allclose(jax.jit(run)(settings), run(settings), rtol=1e-4)


def test_bounds_follow_the_schedule():
    """Over two decays by 10, in float64."""
    gradients = random_gradients(90)
    schedule = optax.piecewise_constant_schedule(0.01, {30: 0.1, 60: 0.1})
    rates = 0.01 * 0.1 ** np.repeat([0, 1, 2], 30)
    settings = [
        {"gamma": gamma, "amsbound": amsbound} for gamma in (0.0, 1e-3, 0.1, 10.0) for amsbound in (False, True)
    ]
    with jax.enable_x64(True):
        found = trajectories({i: adabound(schedule, **each) for i, each in enumerate(settings)}, gradients)
    for i, each in enumerate(settings):
        expected = numpy_updates(gradients, rates, **each)
        np.testing.assert_allclose(found[i][0], expected, rtol=1e-10, err_msg=str(each))


def test_both_bounds_bind_in_these_gradients():
    """Else the test above would compare Adam with itself."""
    free, bound = (numpy_updates(random_gradients(90), np.full(90, 0.01), gamma=gamma) for gamma in (0.0, 0.1))
    assert (np.abs(bound) < 0.99 * np.abs(free)).any()
    assert (np.abs(bound) > 1.01 * np.abs(free)).any()


def test_gamma_of_0_is_adam():
    both = {"adabound": adabound(0.1, eps=0.0, gamma=0.0), "adam": optax.adam(0.1, eps=0.0)}
    with jax.enable_x64(True):
        found = trajectories(both, random_gradients(20))
    np.testing.assert_allclose(found["adabound"][0], found["adam"][0], rtol=1e-10)


def test_late_updates_are_sgd():
    """The bounds close on the final rate."""
    both = {
        "adabound": adabound(0.01, gamma=1e12, final_learning_rate=0.5),
        "sgd": optax.sgd(0.5 * (1 - 0.9), momentum=0.9),
    }
    with jax.enable_x64(True):
        found = trajectories(both, random_gradients(3))
    np.testing.assert_allclose(found["adabound"][0], found["sgd"][0], rtol=1e-10)
