"""p above 1/2, learning rates converted between values of p, and p by schedule and by group."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax import convert_learning_rate, diagnostics, padam, padamw, scale_by_partial_amsgrad

MAKERS = {
    "scale_by_partial_amsgrad": scale_by_partial_amsgrad,
    "padam": lambda **settings: padam(1.0, **settings),
    "padamw": lambda **settings: padamw(1.0, **settings, weight_decay=0.0),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
# p = 1 as a number is one division, 3/4 a chain of roots, 0.7 a polynomial in a large float32 array.
each_p = pytest.mark.parametrize("p", [0.5, 0.6, 0.75, 0.7, 1.0])
each_form = pytest.mark.parametrize(
    "form", [float, jnp.float32, lambda p: lambda count: p], ids=["number", "array", "schedule"]
)


def updates_of(optimizer, gradients, params=None):
    state = optimizer.init(gradients[0])
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
    return updates, state


def gradients(size=5, steps=3):
    return [jax.random.normal(jax.random.key(step), (size,)) for step in range(steps)]


@each_maker
@pytest.mark.parametrize("p", [0.5001, 0.75, 1.0])
def test_p_above_one_half_must_be_allowed(make, p):
    with pytest.raises(ValueError, match=rf"p must be in \[0, 1/2\], got {p}: .* allow_unproven_p=True"):
        make(p=p)
    make(p=p, allow_unproven_p=True)


@each_maker
@pytest.mark.parametrize("p", [-0.1, 1.01, math.nan])
def test_no_p_is_outside_0_and_1(make, p):
    with pytest.raises(ValueError, match=rf"p must be in \[0, 1\], got {p}"):
        make(p=p, allow_unproven_p=True)


@each_p
@each_form
@pytest.mark.parametrize("size", [5, 20_000])
def test_formula_above_one_half(p, form, size):
    found, _ = updates_of(scale_by_partial_amsgrad(p=form(p), allow_unproven_p=True), gradients(size))
    m, v, v_hat = np.zeros(size), np.zeros(size), np.zeros(size)
    for gradient in gradients(size):
        g = np.asarray(gradient, np.float64)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        v_hat = np.maximum(v_hat, v)
    np.testing.assert_allclose(found, m / (np.sqrt(v_hat) + 1e-8) ** (2 * p), rtol=1e-5, atol=3e-5)


def test_p_of_1_has_no_root():
    """One step from rest, without eps: (1-b1) g / ((1-b2) g^2) = 100 / g."""
    found, _ = updates_of(
        scale_by_partial_amsgrad(p=1.0, eps=0.0, allow_unproven_p=True), [jnp.array([0.5, -4.0, 0.0])]
    )
    np.testing.assert_allclose(found, [200.0, -25.0, 0.0], rtol=1e-5)


@each_form
@pytest.mark.parametrize("size", [5, 20_000])
@pytest.mark.parametrize("nu_max", [1.2e-38, 1.7e38])
def test_no_power_leaves_the_range_of_float32(form, size, nu_max):
    """1.7e38 is where squares saturate; 1 over it is a denormal number."""
    state = scale_by_partial_amsgrad().init(jnp.ones(size))
    state = state._replace(nu_max=jnp.full(size, nu_max), mu=jnp.full(size, math.sqrt(nu_max)))
    tx = scale_by_partial_amsgrad(p=form(1.0), eps=0.0, allow_unproven_p=True)
    found, _ = tx.update(jnp.zeros(size), state)
    np.testing.assert_allclose(found, 0.9 / math.sqrt(nu_max), rtol=1e-4)


def test_allowing_changes_nothing_where_it_is_not_needed():
    for p in (0.0, 0.125, 0.3, 0.5):
        plain, allowed = (
            updates_of(scale_by_partial_amsgrad(p=p, allow_unproven_p=allow), gradients())[0] for allow in (False, True)
        )
        np.testing.assert_array_equal(plain, allowed)


def test_effective_rates_of_p_1():
    _, state = updates_of(padam(0.1, p=1.0, b2=0.75, allow_unproven_p=True), [jnp.array([2.0, 8.0])])  # nu_max 1, 16
    (rates,) = diagnostics.effective_learning_rates(state, 0.1, p=1.0).values()
    np.testing.assert_allclose(rates, [0.1, 0.1 / 16], rtol=1e-6)


def test_conversion_by_hand():
    assert convert_learning_rate(0.1, 1 / 8, 1 / 2, 1e-4) == pytest.approx(0.1 * 1e-3)
    assert convert_learning_rate(0.1, 0.3, 0.3, 7.0) == pytest.approx(0.1)


def test_conversion_goes_back():
    there = convert_learning_rate(0.1, 1 / 8, 2 / 5, 3e-3)
    assert convert_learning_rate(there, 2 / 5, 1 / 8, 3e-3) == pytest.approx(0.1)


@pytest.mark.parametrize("new_p", [0.0, 1 / 4, 1 / 2, 1.0])
def test_conversion_keeps_the_median_effective_rate(new_p):
    _, state = updates_of(padam(0.1), gradients(101))
    root = diagnostics.median_root(state)
    rate = convert_learning_rate(0.1, 1 / 8, new_p, root)
    before, after = (
        diagnostics.summarize(state, alpha, p=p, quantiles=(0.5,)).quantiles
        for alpha, p in ((0.1, 1 / 8), (rate, new_p))
    )
    np.testing.assert_allclose(after, before, rtol=1e-5)


@pytest.mark.parametrize("root", [1e-3, 0.25, 30.0])
def test_a_coordinate_at_the_root_goes_as_far(root):
    """With nu_max = root^2, from the same momentum, an update is the same for every p."""
    state = scale_by_partial_amsgrad().init(jnp.ones(1))
    state = state._replace(nu_max=jnp.full(1, root**2), mu=jnp.full(1, 0.5))
    steps = [
        convert_learning_rate(0.1, 1 / 8, p, root)
        * scale_by_partial_amsgrad(p=p, eps=0.0).update(jnp.zeros(1), state)[0].item()
        for p in (0.0, 1 / 8, 1 / 5, 1 / 2)
    ]
    np.testing.assert_allclose(steps, steps[1], rtol=1e-5)


def test_schedules_and_arrays_are_converted():
    p = optax.linear_schedule(1 / 2, 0.0, 10)
    rate = convert_learning_rate(optax.constant_schedule(0.1), 1 / 8, p, jnp.array(1e-2))
    for count in (0, 5, 10, 20):
        expected = 0.1 * 1e-2 ** (2 * (float(p(count)) - 1 / 8))
        np.testing.assert_allclose(rate(jnp.asarray(count)), expected, rtol=1e-5)
    traced = jax.jit(lambda alpha, new_p: convert_learning_rate(alpha, 1 / 8, new_p, 1e-2))
    np.testing.assert_allclose(traced(0.1, 0.5), convert_learning_rate(0.1, 1 / 8, 0.5, 1e-2), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"p": 1.5}, r"p must be in \[0, 1\], got 1.5"),
        ({"new_p": -0.1}, r"p must be in \[0, 1\], got -0.1"),
        ({"root": 0.0}, "root must be finite and above 0, got 0.0"),
        ({"root": math.inf}, "root must be finite and above 0, got inf"),
    ],
)
def test_conversion_of_bad_numbers(settings, message):
    with pytest.raises(ValueError, match=message):
        convert_learning_rate(**({"learning_rate": 0.1, "p": 0.1, "new_p": 0.2, "root": 0.1} | settings))


def test_median_root_of_some_leaves():
    params = {"w": jnp.array([2.0, 8.0, 32.0]), "b": jnp.array([128.0]), "none": jnp.ones(0)}
    _, state = updates_of(padam(0.1, b2=0.75, eps=0.0), [params])  # nu_max: 1, 16, 256; 4096
    # Of 1, 4, 16 and 64.
    assert float(diagnostics.median_root(state)) == pytest.approx(10.0, rel=1e-5)
    assert float(diagnostics.median_root(state, lambda name: "w" in name)) == pytest.approx(4.0, rel=1e-5)
    assert float(diagnostics.median_root(state, lambda name: "b" in name)) == pytest.approx(64.0, rel=1e-5)
    with pytest.raises(ValueError, match="one coordinate that leaves selects"):
        diagnostics.median_root(state, lambda name: "none" in name)


def test_falling_p_with_converted_rate_compiles_once():
    p = optax.linear_schedule(1 / 2, 0.0, 10)
    optimizer = padam(convert_learning_rate(0.1, 1 / 8, p, 1e-2), p=p)
    update = jax.jit(chex.assert_max_traces(optimizer.update, n=1))
    state = optimizer.init(jnp.ones(3))
    for gradient in gradients(3, 12):
        updates, state = update(gradient, state)
    chex.assert_tree_all_finite(updates)
