"""Layers with PyTorch's conventions, which made the paper's tables, where Flax's own differ."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from padam_optax.models.convolution import convolve

Initializer = Callable[[jax.Array, tuple[int, ...], jax.typing.DTypeLike], jax.Array]


def fan_in_uniform(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for an HWIO or (in, out) kernel: PyTorch's default."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class Conv(nnx.Module):
    """Convolution without bias, kernel HWIO, the same zero padding on both sides.

    Args:
      in_features: Channels of the input.
      out_features: Channels of the output.
      kernel_size: Height and width of the kernel.
      stride: Of both dimensions; padding is `kernel_size // 2` (Flax's 'SAME' pads (0, 1) at stride 2).
      kernel_init: Of the kernel, in float32; by default PyTorch's.
      rngs: Source of the key for the kernel.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        kernel_init: Initializer = fan_in_uniform,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.stride = stride
        self.padding = kernel_size // 2

    def __call__(self, images: jax.Array) -> jax.Array:
        return convolve(images, self.kernel[...].astype(images.dtype), self.stride, self.padding)


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, as `torch.nn.BatchNorm2d`.

    A training pass normalises with the biased variance of the batch and moves the running statistics a tenth of the
    way to the batch's mean and unbiased variance (Flax stores the biased one). All is computed in float32 at least, the
    result has the input's dtype; statistics are kept in the parameters' dtype.

    Args:
      features: Size of the last axis.
      momentum: What the running statistics keep of themselves at each step.
      epsilon: Added to the variance.
      scale_init: Of the scale; ones by default.
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
            mean, var = self._batch_statistics(values)
        else:
            mean, var = self.mean[...], self.var[...]
        scale = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        shift = self.bias[...] - mean * scale
        dtype = jnp.promote_types(values.dtype, jnp.float32)
        return (values.astype(dtype) * scale.astype(dtype) + shift.astype(dtype)).astype(values.dtype)

    def _batch_statistics(self, values: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = tuple(range(values.ndim - 1))
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        mean = values.mean(axes)
        var = jnp.square(values - mean).mean(axes)
        count = values.size // values.shape[-1]
        unbiased = jax.lax.stop_gradient(var) * (count / max(count - 1, 1))
        for running, batch in ((self.mean, jax.lax.stop_gradient(mean)), (self.var, unbiased)):
            running[...] = self.momentum * running[...] + (1 - self.momentum) * batch.astype(running.dtype)
        return mean, var


class Linear(nnx.Linear):
    """`nnx.Linear` with PyTorch's initialisation: kernel and bias uniform within 1/sqrt(in_features)."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs):
        def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
            return fan_in_uniform(key, (in_features, *shape), dtype)[0]

        super().__init__(in_features, out_features, kernel_init=fan_in_uniform, bias_init=bias_init, rngs=rngs)
