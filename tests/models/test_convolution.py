"""The convolution and both of its gradients against `lax.conv_general_dilated`, in float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from padam_optax.models.convolution import convolve

IMAGES, CHANNELS, FEATURES = 3, 2, 4
SHAPES = [
    # height, width, kernel, stride, padding
    *(
        (*size, kernel, stride, kernel // 2)
        for size in ((1, 1), (2, 2), (5, 4))
        for kernel in (1, 3)
        for stride in (1, 2)
    ),
    (8, 8, 5, 1, 2),
    (7, 8, 5, 2, 2),
    (2, 2, 5, 1, 2),
    (8, 8, 3, 1, 0),
    (7, 7, 3, 2, 0),
    (6, 6, 3, 2, 2),
    (3, 3, 1, 1, 1),
]


def peer(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(function, stride: int, padding: int, images: jax.Array, kernel: jax.Array):
    """The output, and the gradients of a sum weighted differently at each output."""
    output, pullback = jax.vjp(lambda *operands: function(*operands, stride, padding), images, kernel)
    return output, *pullback(jnp.cos(jnp.arange(output.size, dtype=output.dtype)).reshape(output.shape))


def operands(height: int, width: int, kernel: int, *leading: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.normal(size=(*leading, IMAGES, height, width, CHANNELS))
    return images.astype(dtype), random.normal(size=(*leading, kernel, kernel, CHANNELS, FEATURES)).astype(dtype)


def assert_close(actual, expected, tolerance: float = 1e-12):
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize(("height", "width", "kernel", "stride", "padding"), SHAPES)
def test_equals_lax(height, width, kernel, stride, padding):
    with jax.enable_x64(True):
        both = jax.jit(
            lambda *values: [value_and_gradients(function, stride, padding, *values) for function in (convolve, peer)]
        )
        assert_close(*both(*operands(height, width, kernel)))


@pytest.mark.parametrize(("size", "stride"), [(6, 1), (6, 2), (2, 1)])
def test_inside_scan(size, stride):
    """Three steps of gradient descent on both operands, which a loop carries."""

    def descend(function, images, kernel):
        def step(carry, _):
            output, *gradients = value_and_gradients(function, stride, 1, *carry)
            return tuple(value - 0.1 * gradient for value, gradient in zip(carry, gradients, strict=True)), output

        carry, outputs = lax.scan(step, (images, kernel), length=3)
        return *carry, outputs

    with jax.enable_x64(True):
        both = jax.jit(lambda *values: [descend(function, *values) for function in (convolve, peer)])
        assert_close(*both(*operands(size, size, 3)))


@pytest.mark.parametrize(
    ("size", "axes"),
    [(5, (0, 0)), (2, (0, 0)), (2, (0, None)), (2, (None, 0))],
    ids=["both", "both, few pixels", "images", "kernels"],
)
def test_under_vmap(size, axes):
    with jax.enable_x64(True):
        images, kernels = operands(size, size, 3, 2)
        values = [array if axis == 0 else array[0] for array, axis in zip((images, kernels), axes, strict=True)]
        both = [
            jax.jit(jax.vmap(functools.partial(value_and_gradients, function, 1, 1), axes))(*values)
            for function in (convolve, peer)
        ]
        assert_close(*both)


@pytest.mark.parametrize("size", [2, 6])
def test_bfloat16(size):
    """Dtypes stay; values agree to bfloat16's 8 bits, summed over at most 108 products."""
    values = operands(size, size, 3, dtype=jnp.bfloat16)
    both = jax.jit(lambda *values: [value_and_gradients(function, 1, 1, *values) for function in (convolve, peer)])
    actual, expected = both(*values)
    assert all(array.dtype == jnp.bfloat16 for array in actual)
    wide = functools.partial(jax.tree.map, lambda array: np.asarray(array, np.float64))
    assert_close(wide(actual), wide(expected), 0.03)


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_to_xlas_own_gradients_elsewhere(platform, size):
    """The same three convolutions, windows, layouts and types included, as the peer's program has."""

    def convolutions(function):
        step = jax.jit(functools.partial(value_and_gradients, function, 2, 1))
        module = jax.export.export(step, platforms=[platform])(*operands(size, size, 3, dtype=np.float32))
        return sorted(re.findall(r"stablehlo\.convolution\(.*\) (dim_numbers.*) loc", module.mlir_module()))

    assert len(convolutions(convolve)) == 3
    assert convolutions(convolve) == convolutions(peer)


def test_cpu_takes_matrix_products_for_few_pixels():
    """Else the tests above would compare XLA's gradients with themselves."""
    step = jax.jit(functools.partial(value_and_gradients, convolve, 2, 1))
    module = jax.export.export(step, platforms=["cpu"])(*operands(2, 2, 3)).mlir_module()
    assert "stablehlo.dot_general" in module
    assert "stablehlo.convolution" not in module
