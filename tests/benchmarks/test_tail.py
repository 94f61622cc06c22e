"""The studies of the tail of the classes and of coarse second moments: their parts."""

import coarse_moments
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tail

import padam_optax


@pytest.mark.parametrize("power", tail.TAILS)
def test_counts_follow_the_power(power):
    """They sum to the whole, fall with the rank, and are the shares to less than one image."""
    found = tail.counts(160, power, 2_048)
    assert found.sum() == 2_048
    assert (np.diff(found) <= (1 if power == 0 else 0)).all()
    wanted = 2_048 * np.arange(1, 161.0) ** -power / (np.arange(1, 161.0) ** -power).sum()
    assert np.abs(found - wanted).max() < 1


def test_examples_have_the_counts_and_halves():
    data = tail.examples(1.0, 3)
    assert data.inputs.shape == (tail.IMAGES, 64 + 16)
    sizes = np.sort(np.bincount(data.labels, minlength=160))[::-1]
    np.testing.assert_array_equal(sizes, tail.counts(160, 1.0, tail.IMAGES))
    assert abs(int(data.rare.sum()) - tail.IMAGES / 2) < sizes[0]
    rare, frequent = (set(np.asarray(data.labels[data.rare == which]).tolist()) for which in (True, False))
    assert rare.isdisjoint(frequent)
    assert len(frequent) < len(rare)


def test_best_p_and_its_range():
    """One that is best in every seed has a range of one value; a run that diverged makes its p the worst."""
    rows = {0.0: [None, 0.1, 0.1], 0.25: [0.3, 0.3, 0.3], 0.5: [0.2, 0.2, 0.2]}
    assert tail.best(rows) == {"p": 0.5, "interval": (0.0, 0.5)}
    assert tail.best({0.25: [1.0, 2.0], 0.5: [0.5, 1.5]}) == {"p": 0.5, "interval": (0.5, 0.5)}


@pytest.mark.parametrize("bits", coarse_moments.BITS)
def test_rounding(bits):
    """To nearest: within half a unit of the last bit kept. Stochastically: right in the mean."""
    values = jnp.exp(jax.random.normal(jax.random.key(0), (1_000,)) * 5)
    nearest = coarse_moments.rounded(values, jnp.float32(bits), jnp.float32(0.5))
    assert float(jnp.max(jnp.abs(nearest / values - 1))) <= 2.0 ** -(bits + 1)
    kept = coarse_moments.rounded(nearest, jnp.float32(bits), jnp.float32(0.5))
    np.testing.assert_array_equal(kept, nearest)
    noise = jax.random.uniform(jax.random.key(1), (20_000, 5))
    drawn = coarse_moments.rounded(jnp.broadcast_to(values[:5], noise.shape), jnp.float32(bits), noise)
    np.testing.assert_allclose(drawn.mean(0), values[:5], rtol=2.0**-bits * 0.02)
    assert float(coarse_moments.rounded(jnp.float32(0.0), jnp.float32(bits), jnp.float32(0.999))) == 0


@pytest.mark.parametrize("p", [1 / 8, 1 / 2])
def test_unrounded_is_padam(p):
    setting = {"p": jnp.float32(p), "bits": jnp.float32(coarse_moments.EXACT), "stochastic": jnp.float32(0)}
    ours = coarse_moments.coarse(optax.constant_schedule(0.1), setting)
    padam = padam_optax.padam(0.1, p=p)
    params = {"w": jnp.array([0.5, -1.0, 2.0])}
    states = [ours.init(params), padam.init(params)]
    for step in range(5):
        gradients = {"w": jnp.array([0.1, -2.0, 3e-3]) * (step - 1.5)}
        updates = []
        for place, optimizer in enumerate((ours, padam)):
            update, states[place] = optimizer.update(gradients, states[place], params)
            updates.append(update["w"])
        np.testing.assert_allclose(*updates, rtol=1e-5)
    assert float(coarse_moments.update_error(states[0][0], jnp.float32(p))) == 0
