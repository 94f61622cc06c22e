"""Two-dimensional convolution whose gradients stay fast inside `lax.scan` on CPU.

XLA's CPU backend leaves its fast path for both backward convolutions of `lax.conv_general_dilated` inside a loop, and
for any convolution of 2x2 images. On CPU this module therefore writes the backward convolutions as forward ones, in
NHWC/HWIO with every flip and transpose written out, or as matrix products where those are faster. The thresholds are
measured (one core, batch 128, the layers of the mini ResNet). Every other platform gets XLA's own gradients.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_FEW_PIXELS = 4  # Matrix products are faster on CPU up to this number of output pixels an image.


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> jax.Array:
    """Convolves `images` (N, H, W, C) with `kernel` (h, w, C, O), zero-padded alike on all sides, as in PyTorch."""
    return _choose(
        functools.partial(_forward_cpu, stride=stride, padding=padding),
        functools.partial(_forward, stride=stride, padding=padding),
        images,
        kernel,
    )


def _forward(images: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (stride, stride), ((padding, padding), (padding, padding)), dimension_numbers=_DIMENSIONS
    )


def _forward_cpu(images: jax.Array, kernel: jax.Array, *, stride: int, padding: int) -> jax.Array:
    height, width = _output_size(images, kernel, stride, padding)
    if height * width > _FEW_PIXELS:
        return _forward(images, kernel, stride=stride, padding=padding)
    patches = jnp.concatenate(_taps(images, kernel.shape, stride, padding, (height, width)), axis=-1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def _convolve_fwd(
    images: jax.Array, kernel: jax.Array, stride: int, padding: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(images, kernel, stride, padding), (images, kernel)


def _convolve_bwd(
    stride: int, padding: int, residuals: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def cpu(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (
            _images_gradient(images.shape, kernel, gradient, stride, padding),
            _kernel_gradient(images, kernel.shape, gradient, stride, padding),
        )

    def default(images: jax.Array, kernel: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vjp(functools.partial(_forward, stride=stride, padding=padding), images, kernel)[1](gradient)

    return _choose(cpu, default, *residuals, gradient)


convolve.defvjp(_convolve_fwd, _convolve_bwd)


def _choose(cpu: Callable[..., Any], default: Callable[..., Any], *operands: jax.Array) -> Any:
    """`cpu` where the program is lowered for a CPU, `default` elsewhere."""
    return lax.platform_dependent(*operands, cpu=cpu, default=default)


def _output_size(images: jax.Array, kernel: jax.Array, stride: int, padding: int) -> tuple[int, int]:
    height, width = (
        (size + 2 * padding - taps) // stride + 1
        for size, taps in zip(images.shape[1:3], kernel.shape[:2], strict=True)
    )
    return height, width


def _taps(
    images: jax.Array, kernel_shape: tuple[int, ...], stride: int, padding: int, size: tuple[int, int]
) -> list[jax.Array]:
    """The inputs of each tap of the kernel: h*w arrays of shape (N, *size, C)."""
    count, _, _, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    return [
        lax.slice(
            padded,
            (0, i, j, 0),
            (count, i + (size[0] - 1) * stride + 1, j + (size[1] - 1) * stride + 1, channels),
            (1, stride, stride, 1),
        )
        for i in range(kernel_shape[0])
        for j in range(kernel_shape[1])
    ]


def _images_gradient(
    shape: tuple[int, ...], kernel: jax.Array, gradient: jax.Array, stride: int, padding: int
) -> jax.Array:
    """Convolution of the (dilated) gradient with the flipped kernel; tap by tap for few pixels."""
    (taps_h, taps_w), (height, width), (out_h, out_w) = kernel.shape[:2], shape[1:3], gradient.shape[1:3]
    span_h, span_w = (out_h - 1) * stride + 1, (out_w - 1) * stride + 1
    if out_h * out_w > _FEW_PIXELS:
        return lax.conv_general_dilated(
            gradient,
            jnp.transpose(jnp.flip(kernel, (0, 1)), (0, 1, 3, 2)),
            (1, 1),
            ((taps_h - 1 - padding, height - span_h + padding), (taps_w - 1 - padding, width - span_w + padding)),
            lhs_dilation=(stride, stride),
            dimension_numbers=_DIMENSIONS,
        )
    padded = jnp.zeros((shape[0], height + 2 * padding, width + 2 * padding, shape[3]), gradient.dtype)
    for i in range(taps_h):
        for j in range(taps_w):
            padded = padded.at[:, i : i + span_h : stride, j : j + span_w : stride].add(gradient @ kernel[i, j].T)
    return padded[:, padding : padding + height, padding : padding + width]


def _kernel_gradient(
    images: jax.Array, shape: tuple[int, ...], gradient: jax.Array, stride: int, padding: int
) -> jax.Array:
    """Convolution of the images with the gradient, with channels as the batch; tap by tap for strides above 1."""
    (taps_h, taps_w), (height, width), (out_h, out_w) = shape[:2], images.shape[1:3], gradient.shape[1:3]
    if stride == 1 and taps_h * taps_w > 1 and out_h * out_w > 1:
        kernel = lax.conv_general_dilated(
            jnp.transpose(images, (3, 1, 2, 0)),
            jnp.transpose(gradient, (1, 2, 0, 3)),
            (1, 1),
            ((padding, out_h + taps_h - 1 - height - padding), (padding, out_w + taps_w - 1 - width - padding)),
            dimension_numbers=_DIMENSIONS,
        )
        return jnp.transpose(kernel, (1, 2, 0, 3))
    rows = gradient.reshape(-1, shape[3])
    taps = _taps(images, shape, stride, padding, (out_h, out_w))
    return jnp.stack([tap.reshape(-1, shape[2]).T @ rows for tap in taps]).reshape(shape)
