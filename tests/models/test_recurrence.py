"""The LSTM's recurrence and its own gradient, against what `lax.scan` and autodiff make of the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from padam_optax.models.recurrence import lstm_recurrence

STEPS, ROWS, SIZE = 7, 3, 4


def plain(gates_input, kernel, state, length):
    """The first `length` steps, one after another; zeros after them."""
    h, c = state
    outputs = []
    for gates in gates_input[:length]:
        i, f, g, o = jnp.split(gates + h @ kernel, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        outputs.append(h)
    outputs += [jnp.zeros_like(h)] * (len(gates_input) - length)
    return jnp.stack(outputs), (h, c)


def arguments(dtype=jnp.float64):
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = ((STEPS, ROWS, 4 * SIZE), (SIZE, 4 * SIZE), (ROWS, SIZE), (ROWS, SIZE))
    gates, kernel, h, c = (jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True))
    return gates, kernel, (h, c)


def weigh(function, length):
    """A scalar on which every output and both ends of the state depend."""

    def scalar(gates, kernel, state):
        outputs, (h, c) = function(gates, kernel, state, length)
        weights = jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)
        return jnp.sum(outputs * weights) + jnp.sum(jnp.sin(h)) + jnp.sum(c**2)

    return scalar


@pytest.mark.parametrize("length", [1, 4, STEPS])
def test_values_and_gradients(length):
    with jax.enable_x64(True):
        gates, kernel, state = arguments()
        found = jax.jit(lstm_recurrence)(gates, kernel, state, jnp.int32(length))
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14),
            found,
            plain(gates, kernel, state, length),
        )
        ours, theirs = (
            jax.jit(jax.grad(weigh(function, length_), (0, 1, 2)))(gates, kernel, state)
            for function, length_ in ((lstm_recurrence, jnp.int32(length)), (plain, length))
        )
        jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14), ours, theirs)


def test_gradient_against_differences():
    with jax.enable_x64(True):
        check_grads(weigh(lstm_recurrence, jnp.int32(5)), arguments(), order=1, modes=["rev"])


def test_mapped_over_runs():
    """Kernels, inputs and states of several runs as lanes, one length for all."""
    with jax.enable_x64(True):
        lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), arguments())
        mapped = jax.vmap(jax.grad(weigh(lstm_recurrence, jnp.int32(5)), (0, 1, 2)))(*lanes)
        for lane in range(2):
            alone = jax.grad(weigh(plain, 5), (0, 1, 2))(*jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes))
            jax.tree.map(
                lambda one, other, lane=lane: np.testing.assert_allclose(one[lane], other, rtol=1e-12, atol=1e-14),
                mapped,
                alone,
            )


def test_products_in_bfloat16_keep_the_rest_in_float32():
    gates, kernel, state = arguments(jnp.float32)
    half = kernel.astype(jnp.bfloat16)
    outputs, end = jax.jit(lstm_recurrence)(gates, half, state, jnp.int32(STEPS))
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, end))} == {jnp.dtype("float32")}
    exact, _ = plain(gates, kernel, state, STEPS)
    np.testing.assert_allclose(outputs, exact, atol=0.05)
    ours = jax.grad(weigh(lstm_recurrence, jnp.int32(STEPS)), (0, 1, 2))(gates, half, state)
    assert [leaf.dtype for leaf in jax.tree.leaves(ours)] == ["float32", "bfloat16", "float32", "float32"]
    theirs = jax.grad(weigh(plain, STEPS), (0, 1, 2))(gates, kernel, state)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert jnp.linalg.norm(one - other) < 0.05 * jnp.linalg.norm(other)


def test_only_gpus_unroll_the_loop():
    """A step is a function of the program, called once for each step of an iteration."""
    forward = jax.jit(lstm_recurrence)
    calls = {
        platform: jax.export.export(forward, platforms=[platform])(*arguments(jnp.float32), jnp.int32(5))
        .mlir_module()
        .count("call @")
        for platform in ("cpu", "tpu", "cuda")
    }
    assert calls["cpu"] == calls["tpu"] < calls["cuda"]
