"""Second moments in bfloat16: exact in expectation, never falling, the same in every repetition."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax import padam, scale_by_partial_amsgrad
from padam_optax.transforms import _rounding

BFLOAT16_MAX = float(jnp.finfo(jnp.bfloat16).max)
# Normal numbers from end to end of bfloat16's range, with all 24 significant bits in use.
VALUES = jnp.asarray(np.exp(np.random.default_rng(0).uniform(np.log(1.2e-38), np.log(3e38), 20_000)), jnp.float32).clip(
    max=BFLOAT16_MAX
)


def gap(values):
    """The distance of the two bfloat16 around each value."""
    return np.exp2(np.floor(np.log2(np.asarray(values, np.float64))) - 7)


@pytest.mark.parametrize("rounding", [lambda x: _rounding.stochastically(x, jnp.int32(3)), _rounding.upward])
def test_results_are_neighbours_that_bfloat16_holds(rounding):
    rounded = rounding(VALUES)
    chex.assert_trees_all_equal(rounded.astype(jnp.bfloat16).astype(jnp.float32), rounded)
    assert np.all(np.abs(np.asarray(rounded, np.float64) - np.asarray(VALUES, np.float64)) < gap(VALUES))
    exact = VALUES.astype(jnp.bfloat16).astype(jnp.float32)
    chex.assert_trees_all_equal(rounding(exact), exact)


def test_upward_is_never_below():
    assert np.all(np.asarray(_rounding.upward(VALUES)) >= np.asarray(VALUES))


@pytest.mark.parametrize("rounding", [lambda x: _rounding.stochastically(x, jnp.int32(3)), _rounding.upward])
def test_edges(rounding):
    """NaN, whatever its bits are, stays NaN; zero and the maximum stay."""
    payloads = jax.lax.bitcast_convert_type(jnp.array([0x7FFFFFFF, 0xFFFFFFFF, 0xFFC00000], jnp.uint32), jnp.float32)
    values = jnp.array([jnp.nan, 0, BFLOAT16_MAX, jnp.inf])
    np.testing.assert_array_equal(rounding(values), values)
    assert bool(jnp.isnan(rounding(payloads)).all())


def errors(values, steps):
    """Rounding errors in gaps, [steps, values]."""
    rounded = jax.vmap(lambda step: _rounding.stochastically(values, step))(jnp.arange(steps))
    return (np.asarray(rounded, np.float64) - np.asarray(values, np.float64)) / gap(values)


def test_unbiased_over_steps_for_each_value():
    """A value is rounded up as often as it is close to its upper neighbour."""
    values = 1 + jnp.asarray(np.linspace(0, 1, 65, endpoint=False), jnp.float32) / 128
    steps = 10_000
    fraction = np.linspace(0, 1, 65, endpoint=False)
    deviation = np.sqrt(fraction * (1 - fraction) / steps)
    assert np.all(np.abs(errors(values, steps).mean(0)) <= 4.5 * deviation + 1e-9)


def test_unbiased_over_values_at_each_step():
    found = errors(VALUES, 200).mean(1) * np.sqrt(len(VALUES))
    assert np.abs(found).max() < 4.5 * np.sqrt(1 / 6)
    assert 0.8 < found.std() / np.sqrt(1 / 6) < 1.25


def test_independent_from_step_to_step():
    # How far a value is on the way from one bfloat16 to the next.
    fraction = np.random.default_rng(1).uniform(0.1, 0.9, 2000)
    found = errors(jnp.asarray(1 + (np.arange(2000) % 128 + fraction) / 128, jnp.float32), 400)
    correlation = np.mean(found[1:] * found[:-1], axis=0) / (fraction * (1 - fraction))
    assert abs(correlation.mean()) < 4.5 / np.sqrt(found.size)
    assert 0.9 < correlation.std() * np.sqrt(399) < 1.1


def test_average_comes_as_far_as_in_float32():
    """Rounded to nearest it does not, which is why one rounds otherwise. The maximum rises all the time.

    `nu` of 2,000 coordinates after gradients of unit variance.
    """
    settings = {
        "exact": {"nu_dtype": jnp.float32},
        "stochastic": {"nu_dtype": jnp.bfloat16},
        "nearest": {"nu_dtype": jnp.bfloat16, "nu_rounding": "nearest"},
    }
    optimizers = {name: scale_by_partial_amsgrad(b2=0.99, **each) for name, each in settings.items()}
    params = jnp.zeros(2000)

    def step(states, key):
        gradient = jax.random.normal(key, params.shape)
        new = {name: optimizers[name].update(gradient, state, params)[1] for name, state in states.items()}
        return new, [jnp.all(new[name].nu_max >= state.nu_max) for name, state in states.items()]

    states = {name: optimizer.init(params) for name, optimizer in optimizers.items()}
    states, rises = jax.jit(lambda: jax.lax.scan(step, states, jax.random.split(jax.random.key(0), 1000)))()
    assert all(bool(each.all()) for each in rises)
    exact, stochastic, nearest = (states[name].nu.astype(jnp.float32).mean() for name in settings)
    np.testing.assert_allclose(exact, 1, atol=0.01)
    np.testing.assert_allclose(stochastic, exact, atol=0.005)
    assert abs(nearest - exact) > 0.02


@pytest.mark.parametrize("nu_rounding", ["stochastic", "nearest"])
def test_state_is_what_makes_the_update(nu_rounding):
    """The update is that of the moments as they are kept, so that a checkpoint loses nothing."""
    optimizer = scale_by_partial_amsgrad(p=1 / 4, mu_dtype="bfloat16", nu_dtype="bfloat16", nu_rounding=nu_rounding)
    gradient = jnp.array([0.3, -1e-3, 7.0])
    updates, state = jax.jit(optimizer.update)(gradient, optimizer.init(gradient), gradient)
    assert state.mu.dtype == state.nu.dtype == state.nu_max.dtype == jnp.bfloat16
    mu, nu_max = (moment.astype(jnp.float32) for moment in (state.mu, state.nu_max))
    chex.assert_trees_all_close(updates, mu / jnp.sqrt(jnp.sqrt(nu_max) + 1e-8), rtol=1e-6)
    assert not np.allclose(mu, 0.1 * gradient, rtol=1e-4, atol=0)


@pytest.mark.parametrize("nu_rounding", ["stochastic", "nearest"])
def test_nan_spreads_to_its_coordinate_and_stays(nu_rounding):
    optimizer = padam(0.1, mu_dtype="bfloat16", nu_dtype="bfloat16", nu_rounding=nu_rounding)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    for gradient in (jnp.array([jnp.nan, 1.0]), jnp.ones(2)):
        updates, state = jax.jit(optimizer.update)(gradient, state, params)
        for each in (updates, state[1].mu, state[1].nu, state[1].nu_max):
            np.testing.assert_array_equal(jnp.isnan(each), [True, False])


def test_repeats_and_does_not_depend_on_the_tree():
    """Moments bit by bit. From tree to tree momentum may differ in its last bit: shapes are compiled differently."""
    gradient = jax.random.normal(jax.random.key(1), (64,))
    optimizer = padam(0.1, nu_dtype="bfloat16")
    update = jax.jit(optimizer.update)

    def run(gradients):
        state = optimizer.init(gradients)
        for _ in range(3):
            updates, state = update(gradients, state, gradients)
        return updates, (optax.tree.get(state, "nu"), optax.tree.get(state, "nu_max"))

    whole, whole_moments = run(gradient)
    chex.assert_trees_all_equal(run(gradient), (whole, whole_moments))
    halves, half_moments = run({"a": gradient[:32], "b": gradient[32:].reshape(4, 8)})
    joined = lambda parts: jnp.concatenate([parts["a"], parts["b"].ravel()])
    chex.assert_trees_all_equal(tuple(map(joined, half_moments)), whole_moments)
    chex.assert_trees_all_close(joined(halves), whole, rtol=1e-6)


def test_huge_gradients_saturate():
    optimizer = scale_by_partial_amsgrad(nu_dtype="bfloat16")
    gradient = jnp.array([1e30, 1e-30, 0.0])
    state = optimizer.init(gradient)
    for _ in range(3):
        updates, state = optimizer.update(gradient, state, gradient)
    assert bool(jnp.isfinite(updates).all() & jnp.isfinite(state.nu).all() & jnp.isfinite(state.nu_max).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nu_rounding": "up"}, "nu_rounding must be one of stochastic, nearest; got 'up'"),
        ({"nu_dtype": "int8"}, "nu_dtype must be None or one of bfloat16, float32, float64; got 'int8'"),
        ({"nu_dtype": jnp.complex64}, "nu_dtype must be None or one of bfloat16"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        padam(0.1, **settings)
