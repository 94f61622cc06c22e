"""Layers with PyTorch's conventions, which the paper's experiments used, where Flax's layers differ."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from padam_optax.models.convolution import convolve
from padam_optax.models.normalization import normalize_batch

Initializer = Callable[[jax.Array, tuple[int, ...], jax.typing.DTypeLike], jax.Array]
NormScale = Literal["ones", "uniform"]


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for an HWIO or (in, out) kernel: PyTorch's default."""
    return _uniform_within(math.prod(shape[:-1]))(key, shape, dtype)


def _uniform_within(fan_in: int) -> Initializer:
    bound = 1 / math.sqrt(fan_in)
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def fan_out_normal(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """N(0, 2/(height*width*out)) for an HWIO kernel: torchvision's networks, and the authors' wide ResNet."""
    fan_out = math.prod(shape[:-2]) * shape[-1]
    return jax.random.normal(key, shape, dtype) * math.sqrt(2 / fan_out)


def norm_scale_initializer(name: NormScale) -> Initializer:
    """The initializer of a batch norm's scale: "ones", or "uniform" for U(0, 1), PyTorch's default up to 1.1.

    Raises:
      ValueError: If `name` is neither.
    """
    initializers: dict[str, Initializer] = {"ones": nnx.initializers.ones, "uniform": nnx.initializers.uniform(1.0)}
    if name not in initializers:
        raise ValueError(f'norm_scale_init must be "ones" or "uniform", got {name!r}.')
    return initializers[name]


def cast_input(images: jax.Array, dtype: jax.typing.DTypeLike | None) -> jax.Array:
    """`images` in the dtype a network computes in: `dtype`, or if None that of the images, float32 at least."""
    return images.astype(jnp.promote_types(images.dtype, jnp.float32) if dtype is None else dtype)


def mean_over_pixels(images: jax.Array) -> jax.Array:
    """Means (N, C) of `images` (N, H, W, C), in float32 at least."""
    return jnp.mean(images, axis=(1, 2), dtype=jnp.promote_types(images.dtype, jnp.float32))


def dropout(values: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """Zeroes each entry with probability `rate` and divides the others by `1 - rate`."""
    return jnp.where(jax.random.bernoulli(key, 1 - rate, values.shape), values / (1 - rate), 0)


class Conv(nnx.Module):
    """Convolution, kernel HWIO, the same zero padding on both sides. Both parameters take the input's dtype.

    Args:
      in_features: Channels of the input.
      out_features: Channels of the output.
      kernel_size: Height and width of the kernel.
      stride: Stride in both dimensions; padding is `kernel_size // 2` (Flax's 'SAME' pads (0, 1) at stride 2).
      use_bias: Whether to add a bias to each channel.
      kernel_init: Initializer of the kernel, in float32; by default PyTorch's.
      bias_init: Initializer of the bias, in float32; by default PyTorch's, with the same bounds as the kernel's.
      rngs: Source of the keys for the parameters.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        use_bias: bool = False,
        kernel_init: Initializer = fan_in_uniform,
        bias_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        if use_bias:
            bias_init = bias_init or _uniform_within(math.prod(shape[:-1]))
            self.bias = nnx.Param(bias_init(rngs.params(), (out_features,), jnp.float32))
        else:
            self.bias = None
        self.stride = stride
        self.padding = kernel_size // 2

    def __call__(self, images: jax.Array) -> jax.Array:
        outputs: jax.Array = convolve(images, self.kernel[...].astype(images.dtype), self.stride, self.padding)
        return outputs if self.bias is None else outputs + self.bias[...].astype(images.dtype)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, as `torch.nn.BatchNorm2d`.

    A training pass normalises with the biased variance of the batch and moves the running statistics a tenth of the way
    to the batch's mean and unbiased variance (Flax stores the biased one). All is computed in float32 at least. The
    result has the input's dtype, and the statistics have the parameters' dtype.

    Args:
      features: Size of the last axis.
      momentum: Fraction of the running statistics that each step keeps.
      epsilon: Added to the variance.
      scale_init: Initializer of the scale; ones by default.
      rngs: Source of the key for the scale.
    """

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        scale_init: Initializer = nnx.initializers.ones,
        rngs: nnx.Rngs,
    ):
        self.scale = nnx.Param(scale_init(rngs.params(), (features,), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((features,)))
        self.mean = nnx.BatchStat(jnp.zeros((features,)))
        self.var = nnx.BatchStat(jnp.ones((features,)))
        self.momentum = momentum
        self.epsilon = epsilon

    def __call__(self, values: jax.Array, *, train: bool) -> jax.Array:
        if train:
            outputs: tuple[jax.Array, ...] = normalize_batch(values, self.scale[...], self.bias[...], self.epsilon)
            normalized, mean, var = outputs
            self._move_statistics(mean, var, values.size // values.shape[-1])
            return normalized
        scale = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        shift = self.bias[...] - self.mean[...] * scale
        dtype = jnp.promote_types(values.dtype, jnp.float32)
        return (values.astype(dtype) * scale.astype(dtype) + shift.astype(dtype)).astype(values.dtype)

    def _move_statistics(self, mean: jax.Array, var: jax.Array, count: int) -> None:
        unbiased = var * (count / max(count - 1, 1))
        for running, batch in ((self.mean, mean), (self.var, unbiased)):
            batch = jax.lax.stop_gradient(batch).astype(running.dtype)
            running[...] = self.momentum * running[...] + (1 - self.momentum) * batch


class Linear(nnx.Linear):
    """`nnx.Linear` with PyTorch's initialisation: kernel and bias uniform within 1/sqrt(in_features).

    Args:
      in_features: Size of the input's last axis.
      out_features: Size of the output's last axis.
      kernel_init: Initializer of the kernel, in float32; by default PyTorch's.
      bias_init: Initializer of the bias, in float32; by default PyTorch's.
      dtype: Dtype of the computation and the output; by default the one to which inputs and parameters promote.
      rngs: Source of the keys for the parameters.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        kernel_init: Initializer = fan_in_uniform,
        bias_init: Initializer | None = None,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        super().__init__(
            in_features,
            out_features,
            kernel_init=kernel_init,
            bias_init=bias_init or _uniform_within(in_features),
            dtype=dtype,
            rngs=rngs,
        )
