"""Batch normalisation and its gradient against the one that JAX derives, in float64."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from padam_optax.models import normalization
from padam_optax.models.normalization import normalize_batch

EPSILON = 1e-5


def peer(values: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    axes = tuple(range(values.ndim - 1))
    mean = values.mean(axes)
    var = jnp.square(values - mean).mean(axes)
    return (values - mean) * jax.lax.rsqrt(var + EPSILON) * scale + bias, mean, var


def ours(values: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return normalize_batch(values, scale, bias, EPSILON)


def operands(*shape: int, mean: float = 0.3, deviation: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    channels = shape[-1]
    return random.normal(mean, deviation, shape), random.normal(1, 0.2, channels), random.normal(0, 0.2, channels)


def outputs_and_gradients(function, *operands: np.ndarray) -> list[jax.Array]:
    """Outputs and statistics, and gradients of a sum weighted differently at each output; compiled."""

    def weighted(*operands):
        outputs, *statistics = function(*operands)
        weights = jnp.cos(jnp.arange(outputs.size, dtype=outputs.dtype)).reshape(outputs.shape)
        return jnp.sum(outputs * weights), [outputs, *statistics]

    gradients, outputs = jax.jit(jax.grad(weighted, argnums=(0, 1, 2), has_aux=True))(*operands)
    return [*outputs, *gradients]


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (7, 3), (1, 2, 2, 4), (1, 1, 1, 2)])
def test_equals_the_derived_gradient(shape):
    with jax.enable_x64(True):
        for actual, wanted in zip(*(outputs_and_gradients(f, *operands(*shape)) for f in (ours, peer)), strict=True):
            assert actual.dtype == wanted.dtype == np.float64
            np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-10)


def test_a_mean_of_many_deviations_keeps_the_digits():
    """Mean 100, deviation 0.1: the squares are a million times the variance, and float32 has 7 digits."""
    values = tuple(array.astype(np.float32) for array in operands(64, 4, 4, 3, mean=100, deviation=0.1))
    actual = outputs_and_gradients(ours, *values)
    with jax.enable_x64(True):
        wanted = outputs_and_gradients(peer, *(array.astype(np.float64) for array in values))
    # The mean is rounded to 4e-6, which is 4e-5 deviations.
    for one, other in zip(actual, wanted, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4 * np.abs(other).max())
    np.testing.assert_allclose(actual[2], wanted[2], rtol=1e-5)


def test_under_vmap():
    """Each lane has its own statistics."""
    lanes = [operands(4, 3, 3, 2, mean=mean) for mean in (0, 5)]
    with jax.enable_x64(True):
        mapped = jax.vmap(lambda *lane: outputs_and_gradients(ours, *lane))(*map(np.stack, zip(*lanes, strict=True)))
        for at, lane in enumerate(lanes):
            for actual, wanted in zip(mapped, outputs_and_gradients(peer, *lane), strict=True):
                np.testing.assert_allclose(actual[at], wanted, rtol=1e-10, atol=1e-10)


def test_the_statistics_have_no_gradient():
    values, scale, bias = (jnp.asarray(array, jnp.float32) for array in operands(4, 2, 2, 3))
    for at in (1, 2):
        assert not jax.grad(lambda values, at=at: ours(values, scale, bias)[at].sum())(values).any()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_keeps_nothing_as_large_as_the_input_but_the_input(dtype):
    values = jnp.ones((4, 3, 3, 2), dtype)
    (outputs, mean, var), pullback = jax.vjp(ours, values, jnp.ones(2), jnp.zeros(2))
    assert (outputs.dtype, mean.dtype, var.dtype) == (dtype, jnp.float32, jnp.float32)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if leaf.size > 2]
    assert [(leaf.shape, leaf.dtype) for leaf in kept] == [(values.shape, dtype)]
    gradients = pullback((outputs, mean, var))
    assert [gradient.dtype for gradient in gradients] == [dtype, jnp.float32, jnp.float32]


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        ((4, 4, 4, 64), 512),
        ((2, 6, 2, 3), 12),
        ((2, 3, 1, 5), 5),
        ((2, 2, 2, 256), 512),
        ((3, 7), 7),
        ((2, 2, 4, 512), 512),
    ],
)
def test_sums_on_a_gpu(monkeypatch, shape, columns):
    """There, few channels are folded to as many columns as fit; outputs and gradients stay what they are."""
    folded = []

    def gpu(first, second):
        sums = normalization._plain_sums
        with monkeypatch.context() as patch:
            patch.setattr(normalization, "_plain_sums", lambda *pair: folded.append(pair[0].shape) or sums(*pair))
            return normalization._folded_sums(first, second)

    monkeypatch.setattr(normalization, "_two_sums", gpu)
    with jax.enable_x64(True):
        for actual, wanted in zip(*(outputs_and_gradients(f, *operands(*shape)) for f in (ours, peer)), strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-10)
    assert {found[-1] for found in folded} == {columns}
    assert {found[0] for found in folded} == {shape[0]}


@pytest.mark.parametrize(("platform", "folded"), [("cpu", False), ("cuda", True), ("rocm", True), ("tpu", False)])
def test_only_gpus_fold(platform, folded):
    operands = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((8, 4, 4, 64), (64,), (64,)))
    program = jax.export.export(jax.jit(ours), platforms=(platform,))(*operands).mlir_module()
    assert ("8x2x512" in program) == folded
