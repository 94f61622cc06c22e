"""The 8-bit moments of the benchmark: what it says of its rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from eight_bit import GROUP, in_eight_bits, pack_mu, pack_nu, pack_nu_max, unpack_mu, unpack_nu

from padam_optax import padam

VALUES = jnp.asarray(np.exp(np.random.default_rng(0).normal(-12, 0.7, 4 * GROUP)), jnp.float32)


def test_average_is_exact_in_expectation():
    packed = jax.jit(jax.vmap(lambda step: unpack_nu(pack_nu(VALUES, step)).ravel()))(jnp.arange(4000))
    found = np.asarray(packed, np.float64)
    error = (found.mean(0) - VALUES) / (found.std(0) / np.sqrt(4000) + 1e-6 * VALUES)
    assert np.abs(error).max() < 5
    assert (found.std(0) > 0).mean() > 0.9


def test_maximum_is_not_below_and_stays():
    kept = unpack_nu(pack_nu_max(VALUES)).ravel()
    assert bool(jnp.all(kept >= VALUES * (1 - 1e-3)))
    np.testing.assert_array_equal(unpack_nu(pack_nu_max(kept)).ravel(), kept)


def test_momentum_keeps_sign_and_size():
    mu = jnp.asarray(np.random.default_rng(1).normal(size=GROUP), jnp.float32)
    kept = unpack_mu(pack_mu(mu)).ravel()
    # A scale of at most 4, and half a code of 127 in the root of the size.
    np.testing.assert_allclose(kept, mu, rtol=0, atol=4 / 127)
    np.testing.assert_array_equal(unpack_mu(pack_mu(jnp.zeros(3))).ravel()[:3], 0)


@pytest.mark.parametrize("shape", [(300,), (16, GROUP)])
def test_trains_in_three_bytes(shape):
    target = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
    losses = []
    for optimizer in (padam(0.1), in_eight_bits(padam(0.1))):
        params = jnp.zeros(shape)
        state = optimizer.init(params)
        step = jax.jit(optimizer.update)
        for _ in range(60):
            updates, state = step(params - target, state, params)
            params = params + updates
        losses.append(float(jnp.mean(jnp.square(params - target))))
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
    groups = -(-target.size // GROUP)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.ndim) == 3 * groups * (GROUP + 1)
