"""Properties of scale_by_adabound and adabound."""

import functools
import math
import re

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax import adabound, scale_by_adabound

FACTORIES = {
    "scale_by_adabound": functools.partial(scale_by_adabound, final_ratio=1.0),
    "adabound": functools.partial(adabound, 0.1),
    "amsbound": functools.partial(adabound, 0.1, amsbound=True),
}
each_factory = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
each_amsbound = pytest.mark.parametrize("amsbound", [False, True])


def random_gradients(steps: int) -> np.ndarray:
    """Gradients of very different scales, so that either bound binds somewhere; they fall with the steps."""
    normal = np.random.default_rng(0).normal(size=(steps, 7))
    return normal * np.geomspace(1, 0.1, steps)[:, None] * 10.0 ** np.arange(-3, 4)


def trajectory(optimizer, gradients, params=None):
    """Updates of each step, stacked, and the last state; parameters stay where they are."""
    params = jnp.zeros_like(gradients[0]) if params is None else params

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return state, updates

    state, updates = jax.jit(lambda state, gradients: jax.lax.scan(step, state, gradients))(
        optimizer.init(params), jnp.asarray(gradients)
    )
    return updates, state


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
    with pytest.raises(ValueError, match=rf"^base_learning_rate must be above 0, got {value}"):
        adabound(0.1, base_learning_rate=value)


RATES_OF_0 = {"number": 0.0, "schedule": optax.linear_schedule(0.0, 0.1, 10), "array": jnp.array(0.0)}


@pytest.mark.parametrize("rate", RATES_OF_0.values(), ids=RATES_OF_0)
def test_rate_of_0_needs_a_base(rate):
    with pytest.raises(ValueError, match="base_learning_rate must be given"):
        adabound(rate)
    adabound(rate, base_learning_rate=0.1)


def test_traced_rate_needs_a_base():
    gradient = jnp.ones(2)

    def update(rate, **settings):
        optimizer = adabound(rate, **settings)
        return optimizer.update(gradient, optimizer.init(gradient))[0]

    with pytest.raises(ValueError, match="base_learning_rate must be given"):
        jax.jit(update)(0.1)
    given = jax.jit(lambda rate: update(rate, base_learning_rate=0.1))(0.1)
    np.testing.assert_allclose(given, update(0.1), rtol=1e-6)


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


@each_amsbound
@pytest.mark.parametrize("gamma", [0.0, 1e-3, 0.1, 10.0])
def test_bounds_follow_the_schedule(gamma, amsbound):
    """Over two decays by 10, in float64."""
    gradients = random_gradients(90)
    schedule = optax.piecewise_constant_schedule(0.01, {30: 0.1, 60: 0.1})
    rates = 0.01 * 0.1 ** np.repeat([0, 1, 2], 30)
    with jax.enable_x64(True):
        updates, _ = trajectory(adabound(schedule, gamma=gamma, amsbound=amsbound), gradients)
    np.testing.assert_allclose(updates, numpy_updates(gradients, rates, gamma=gamma, amsbound=amsbound), rtol=1e-10)


def test_both_bounds_bind_in_these_gradients():
    """Else the test above would compare Adam with itself."""
    free, bound = (numpy_updates(random_gradients(90), np.full(90, 0.01), gamma=gamma) for gamma in (0.0, 0.1))
    assert (np.abs(bound) < 0.99 * np.abs(free)).any()
    assert (np.abs(bound) > 1.01 * np.abs(free)).any()


def test_gamma_of_0_is_adam():
    gradients = random_gradients(20)
    with jax.enable_x64(True):
        updates, _ = trajectory(adabound(0.1, eps=0.0, gamma=0.0), gradients)
        expected, _ = trajectory(optax.adam(0.1, eps=0.0), gradients)
    np.testing.assert_allclose(updates, expected, rtol=1e-10)


def test_late_updates_are_sgd():
    """The bounds close on the final rate."""
    gradients = random_gradients(3)
    with jax.enable_x64(True):
        updates, _ = trajectory(adabound(0.01, gamma=1e12, final_learning_rate=0.5), gradients)
        expected, _ = trajectory(optax.sgd(0.5 * (1 - 0.9), momentum=0.9), gradients)
    np.testing.assert_allclose(updates, expected, rtol=1e-10)


@pytest.mark.parametrize("gamma", [0.0, 1e-3])
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_zero_gradients_give_zero_updates(dtype, eps, gamma):
    gradients = jnp.zeros((2, 3), dtype)
    for amsbound in (False, True):
        updates, _ = trajectory(adabound(0.1, eps=eps, gamma=gamma, amsbound=amsbound), gradients)
        np.testing.assert_array_equal(updates, gradients)


@each_amsbound
@pytest.mark.parametrize("gamma", [0.0, 1e-3])
@pytest.mark.parametrize(("dtype", "tiny"), [("float32", 1e-30), ("float32", 1e-42), ("float16", 6e-8)])
def test_a_square_that_underflows_gives_finite_updates(dtype, tiny, gamma, amsbound):
    optimizer = adabound(0.1, eps=0.0, gamma=gamma, amsbound=amsbound)
    updates, _ = trajectory(optimizer, jnp.array([[tiny, 0.0]] * 3, dtype))
    assert jnp.isfinite(updates).all()
    np.testing.assert_array_equal(updates[:, 1], jnp.zeros(3, dtype))


@each_amsbound
@pytest.mark.parametrize(("dtype", "huge"), [("float32", 1e30), ("bfloat16", 1e30), ("float16", 6e4)])
def test_a_square_that_overflows_saturates(dtype, huge, amsbound):
    optimizer = adabound(0.1, b1=0.0, gamma=1.0, amsbound=amsbound)
    updates, state = trajectory(optimizer, jnp.array([[huge], [1.0]], dtype))
    assert jnp.isfinite(updates).all()
    assert jnp.isfinite(optax.tree.get(state, "nu")).all()
    assert (updates < 0).all()


@jax.jit
def all_nu_max(gradients):
    transformation = scale_by_adabound(b2=0.5, final_ratio=1.0, amsbound=True)

    def step(state, gradient):
        _, state = transformation.update(gradient, state)
        return state, (state.nu, state.nu_max)

    return jax.lax.scan(step, transformation.init(gradients[0]), gradients)[1]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.lists(st.floats(width=32, allow_nan=False), min_size=8, max_size=8))
def test_nu_max_never_falls(gradients):
    nu, nu_max = map(np.asarray, all_nu_max(jnp.array(gradients, jnp.float32)))
    np.testing.assert_array_equal(nu_max, np.maximum.accumulate(nu))


@each_amsbound
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_dtypes(dtype, amsbound):
    params = jnp.ones(2, dtype)
    optimizer = scale_by_adabound(final_ratio=1.0, amsbound=amsbound)
    state = optimizer.init(params)
    for gradient_dtype in ("float16", "bfloat16", "float32"):
        updates, state = optimizer.update(jnp.ones(2, gradient_dtype), state, params)
        assert updates.dtype == state.mu.dtype == dtype
        assert state.nu.dtype == jnp.float32
        assert (state.nu_max is None) == (not amsbound)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_updates_are_those_of_float32_rounded(dtype):
    gradients = jnp.asarray(random_gradients(1), dtype)
    transformation = scale_by_adabound(final_ratio=2.0, gamma=1.0)
    narrow, _ = trajectory(transformation, gradients)
    wide, _ = trajectory(transformation, gradients.astype("float32"))
    np.testing.assert_array_equal(narrow, wide.astype(dtype))


@each_amsbound
def test_weight_decay_is_added_to_the_gradient(amsbound):
    params, gradient = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.25])
    decayed = adabound(0.1, weight_decay=0.1, amsbound=amsbound)
    plain = adabound(0.1, amsbound=amsbound)
    updates, _ = decayed.update(gradient, decayed.init(params), params)
    expected, _ = plain.update(gradient + 0.1 * params, plain.init(params))
    np.testing.assert_allclose(updates, expected, rtol=1e-6)


@each_factory
def test_trees(make):
    optimizer = make()
    params = {"w": jnp.ones(2), "absent": None, "masked": optax.MaskedNode(), "empty": jnp.ones((0, 2))}
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    _, state = jax.jit(optimizer.update, donate_argnums=1)(params, state, params)
    assert optax.tree.get(state, "nu")["absent"] is None
