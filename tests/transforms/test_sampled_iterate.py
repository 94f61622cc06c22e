"""Algorithm 1's output rule: with_sampled_iterate and sampled_iterate."""

import functools
import math
import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from padam_optax import padam, sampled_iterate, with_sampled_iterate
from padam_optax.transforms import sampled_iterate as _iterate_sampling

# The parameter counts its updates, so that iterate x_t is t: x_1 is the initial 1.
COUNTER = optax.identity()
START = jnp.ones([])


def drawn(learning_rate, key, updates: int) -> jax.Array:
    """Index t of the iterate drawn after `updates` updates."""
    optimizer = with_sampled_iterate(COUNTER, learning_rate, key)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jnp.ones([]), state, params)
        return (optax.apply_updates(params, updates), state), None

    (_, state), _ = jax.lax.scan(step, (START, optimizer.init(START)), length=updates)
    return sampled_iterate(state)


def p_value(draws: np.ndarray, probabilities: np.ndarray) -> float:
    """The p-value of the chi-squared test that the draws, which are 2, ..., T, have these probabilities."""
    counts = np.bincount(draws.astype(int), minlength=len(probabilities) + 2)[2:]
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    assert counts.sum() == len(draws)
    expected = len(draws) * probabilities[possible]
    statistic = float(((counts[possible] - expected) ** 2 / expected).sum())
    degrees = int(possible.sum()) - 1
    return float(jax.scipy.special.gammaincc(degrees / 2, statistic / 2))


RATES = {
    "constant": (0.1, np.full(12, 0.1)),
    "step-decayed": (
        optax.piecewise_constant_schedule(0.1, {5: 0.1, 9: 0.1}),
        0.1 ** (1 + np.repeat([0, 1, 2], [5, 4, 3])),
    ),
    "warm-up from 0": (optax.linear_schedule(0.0, 0.11, 11), np.arange(12) * 0.01),
    "zero between": (lambda count: jnp.where(count % 3 == 1, 0.0, 0.1), np.tile([0.1, 0.0, 0.1], 4)),
}


@functools.cache
def draws_at(name: str) -> np.ndarray:
    """50,000 draws at these rates."""
    learning_rate, rates = RATES[name]
    keys = jax.random.split(jax.random.key(8), 50_000)
    return np.asarray(jax.jit(jax.vmap(lambda key: drawn(learning_rate, key, len(rates))))(keys))


@pytest.mark.parametrize("name", RATES)
def test_draws_have_the_probabilities_of_algorithm_1(name):
    """x_t is drawn with alpha_{t-1} over their sum, t = 2, ..., n + 1."""
    rates = RATES[name][1]
    assert p_value(draws_at(name), rates / rates.sum()) > 1e-3


def test_the_chi_squared_test_can_tell():
    """An index too late, or all iterates alike under a decayed rate, would not pass."""
    rates = RATES["step-decayed"][1]
    for wrong in (np.full(12, 1 / 12), np.append(rates[1:], rates[-1])):
        assert p_value(draws_at("step-decayed"), wrong / wrong.sum()) < 1e-9


def test_small_probabilities_are_not_rounded_up():
    """`jax.random.uniform` has multiples of 2^-23: a probability of 1.3e-7 would count as twice that."""
    draws = jax.jit(jax.vmap(_iterate_sampling._uniform))(jax.random.split(jax.random.key(0), 2**17))
    small = np.asarray(draws[draws < 2**-8], np.float64)
    assert np.mean(small * 2**23 % 1 != 0) > 0.9
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(), 0.5, atol=0.01)


def test_late_small_rates_are_not_lost_in_the_sum():
    """100,000 updates at 0.1, and as many at 1e-5: rounding to float32 alone would lose more than a tenth of these."""
    schedule = optax.piecewise_constant_schedule(0.1, {100_000: 1e-4})
    optimizer = with_sampled_iterate(optax.set_to_zero(), schedule, jax.random.key(0))

    def step(state, _):
        return optimizer.update(START, state, START)[1], None

    def totals(state):
        return jnp.stack([state.total, state.total_error])

    half, _ = jax.jit(lambda state: jax.lax.scan(step, state, length=100_000))(optimizer.init(START))
    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, length=100_000))(half)
    added = np.asarray(totals(state), np.float64).sum() - np.asarray(totals(half), np.float64).sum()
    np.testing.assert_allclose(added, 1.0, rtol=1e-4)
    np.testing.assert_allclose(float(state.total), 10_001, rtol=1e-6)


def test_first_iterate_is_always_taken():
    keys = jax.random.split(jax.random.key(1), 10_000)
    draws = jax.jit(jax.vmap(lambda key: drawn(0.1, key, 1)))(keys)
    np.testing.assert_array_equal(draws, np.full(10_000, 2.0))


def test_without_a_rate_above_0_it_is_the_start():
    rates = (0.0, lambda count: 0.0 * count, jnp.float32(-0.1))
    draws = jax.jit(lambda key: [drawn(learning_rate, key, 20) for learning_rate in rates])(jax.random.key(0))
    np.testing.assert_array_equal(draws, [1, 1, 1])


def random_gradients(steps: int):
    normal = np.random.default_rng(0).normal(size=(steps, 5))
    return [{"w": jnp.asarray(row, jnp.bfloat16), "b": jnp.asarray(row[:2])} for row in normal]


def parameters():
    return {"w": jnp.ones(5, jnp.bfloat16), "b": jnp.zeros(2)}


def run(update, params, state, gradients):
    """Parameters after each update, and the last state."""
    iterates = []
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        iterates.append(params)
    return iterates, state


SCHEDULE = optax.piecewise_constant_schedule(0.1, {4: 0.1})


@functools.cache
def sampled(seed: int):
    """Padam with a decayed rate and its sample, and the compiled update."""
    optimizer = with_sampled_iterate(padam(SCHEDULE, weight_decay=0.01), SCHEDULE, jax.random.key(seed))
    return optimizer, jax.jit(optimizer.update)


def test_the_sample_is_an_iterate_and_the_updates_are_the_optimizers():
    wrapped, update = sampled(5)
    optimizer = padam(SCHEDULE, weight_decay=0.01)
    iterates, state = run(update, parameters(), wrapped.init(parameters()), random_gradients(6))
    expected, inner_state = run(
        jax.jit(optimizer.update), parameters(), optimizer.init(parameters()), random_gradients(6)
    )
    chex.assert_trees_all_equal(iterates, expected)
    chex.assert_trees_all_equal(state.inner_state, inner_state)
    x_out = sampled_iterate(state)
    chex.assert_trees_all_equal_shapes_and_dtypes(x_out, parameters())
    # But for the last bit: the compiler may add the update to the parameters before it rounds it.
    close = [optax.tree.allclose(x_out, iterate, rtol=1e-6) for iterate in iterates]
    assert sum(map(bool, close)) == 1


def through_pickle(state, path):
    del path
    return pickle.loads(pickle.dumps(state))


def through_orbax(state, path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))


@pytest.mark.parametrize("through", [through_pickle, through_orbax])
def test_a_resumed_run_is_bit_equal(through, tmp_path):
    """The key's data, not the key, is in the state: a resumed run need not even be given the same one."""
    (optimizer, update), (_, other_update) = sampled(5), sampled(6)
    iterates, state = run(update, parameters(), optimizer.init(parameters()), random_gradients(3))
    resumed = through(state, tmp_path)
    after, state = run(update, iterates[-1], state, random_gradients(9)[3:])
    resumed_after, resumed = run(other_update, iterates[-1], resumed, random_gradients(9)[3:])
    chex.assert_trees_all_equal((resumed_after, resumed), (after, state))
    assert jax.tree.structure(resumed) == jax.tree.structure(state)


def test_scan_equals_a_loop():
    optimizer, update = sampled(5)
    iterates, state = run(update, parameters(), optimizer.init(parameters()), random_gradients(8))

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *random_gradients(8))
    carry, _ = jax.jit(lambda carry: jax.lax.scan(step, carry, stacked))((parameters(), optimizer.init(parameters())))
    chex.assert_trees_all_close(carry, (iterates[-1], state), rtol=1e-6)


def test_typed_and_raw_keys_agree():
    raw, typed = jax.random.PRNGKey(7), jax.random.key(7)
    draw = jax.vmap(lambda key: drawn(0.1, key, 10))
    by_raw, by_typed = jax.jit(lambda *keys: [draw(each) for each in keys])(
        jax.random.split(raw, 100), jax.random.split(typed, 100)
    )
    np.testing.assert_array_equal(by_raw, by_typed)
    assert len({*by_raw.tolist()}) == 10


def test_another_implementation_of_keys():
    keys = jax.random.split(jax.random.key(0, impl="rbg"), 200)
    draws = jax.jit(jax.vmap(lambda key: drawn(0.1, key, 4)))(keys)
    assert {*draws.tolist()} == {2, 3, 4, 5}


def test_state_can_be_donated():
    optimizer = with_sampled_iterate(padam(0.1), 0.1, jax.random.key(0))
    params = parameters()
    state = optimizer.init(params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len({*buffers}) == len(buffers)
    _, new_state = jax.jit(optimizer.update, donate_argnums=1)(params, state, params)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.x_out))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, new_state)))


def test_in_wrappers_that_skip_updates():
    """Accumulated gradients and updates that are not finite make no iterate."""
    multi = optax.MultiSteps(with_sampled_iterate(optax.scale(-1.0), 0.1, jax.random.key(0)), every_k_schedule=3)
    update = jax.jit(multi.update)
    params, state = START, multi.init(START)
    for _ in range(7):
        updates, state = update(-START, state, params)
        params = optax.apply_updates(params, updates)
    assert optax.tree.get(state, "total") == pytest.approx(0.2)
    assert sampled_iterate(state) in (2, 3)
    finite = optax.apply_if_finite(with_sampled_iterate(COUNTER, 0.1, jax.random.key(0)), 5)
    _, state = jax.jit(finite.update)(jnp.nan * START, finite.init(START), START)
    assert sampled_iterate(state) == 1


def test_extra_arguments_reach_the_optimizer():
    optimizer = with_sampled_iterate(optax.contrib.reduce_on_plateau(), 0.1, jax.random.key(0))
    _, state = optimizer.update(START, optimizer.init(START), START, value=3.0)
    assert optax.tree.get(state, "best_value") == 3.0


def test_trees_and_map_params():
    params = {"w": jnp.ones(2), "absent": None, "masked": optax.MaskedNode(), "empty": jnp.ones((0, 2)), "number": 2.0}
    optimizer = with_sampled_iterate(padam(0.1), 0.1, jax.random.key(0))
    updates, state = optimizer.update(params, optimizer.init(params), params)
    x_out = sampled_iterate(state)
    assert jax.tree.structure(x_out) == jax.tree.structure(params)
    chex.assert_trees_all_close(x_out, optax.apply_updates(params, updates))
    mapped = optax.tree.map_params(optimizer, lambda leaf: leaf + 1, state)
    chex.assert_trees_all_equal(mapped.x_out, jax.tree.map(lambda leaf: leaf + 1, x_out))
    np.testing.assert_array_equal(mapped.key, state.key)
    assert mapped.total == state.total


def test_abstract_init():
    optimizer = with_sampled_iterate(padam(0.1), 0.1, jax.random.key(0))
    found = jax.eval_shape(optimizer.init, parameters())
    chex.assert_trees_all_equal_shapes_and_dtypes(found, optimizer.init(parameters()))


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_bad_learning_rate(value):
    with pytest.raises(ValueError, match=rf"^learning_rate must .*got {re.escape(str(value))}"):
        with_sampled_iterate(COUNTER, value, jax.random.key(0))


def test_update_needs_parameters():
    optimizer = with_sampled_iterate(COUNTER, 0.1, jax.random.key(0))
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(START, optimizer.init(START))


def test_getter_needs_one_sample():
    state = with_sampled_iterate(COUNTER, 0.1, jax.random.key(0)).init(START)
    for bad, found in ((padam(0.1).init(START), 0), ((state, state), 2)):
        with pytest.raises(ValueError, match=rf"^state must hold one .* got {found}\.$"):
            sampled_iterate(bad)
