"""The moments: the arrays that hold them, their decaying averages, and the correction of their bias.

Averages of squares saturate instead of overflowing: a coordinate whose moment is infinite would never move again.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

from padam_optax.transforms import _dtypes


def init_mu(param: Any, mu_dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Zeros like the parameter, in `mu_dtype` where that is given and the parameter is real."""
    dtype = jnp.result_type(param)
    keeps = mu_dtype is None or jnp.issubdtype(dtype, jnp.complexfloating)
    return jnp.zeros_like(param, dtype=dtype if keeps else mu_dtype)


def init_wide_mu(param: Any) -> jax.Array:
    """Zeros like the parameter, in float32 at least, and complex if the parameter is."""
    dtype = jnp.result_type(param)
    return jnp.zeros_like(param, dtype=_dtypes.common_dtype(dtype, _dtypes.compute_dtype(dtype)))


def init_nu(param: Any, nu_dtype: jax.typing.DTypeLike | None = None, value: jax.typing.ArrayLike = 0) -> jax.Array:
    """A real array like the parameter, full of `value`, in `nu_dtype` or, by default, in float32 at least."""
    dtype = _dtypes.compute_dtype(jnp.result_type(param)) if nu_dtype is None else nu_dtype
    return jnp.full_like(param, value, dtype=dtype)


def decay_average(average: jax.Array, value: jax.Array, decay: jax.typing.ArrayLike) -> jax.Array:
    """`decay * average + (1 - decay) * value`, in `value`'s dtype."""
    dtype = _dtypes.real_dtype(value.dtype)
    keeps, takes = (jnp.asarray(weight, dtype).astype(value.dtype) for weight in (decay, 1 - decay))
    return keeps * average.astype(value.dtype) + takes * value


def decay_squares(nu: jax.Array, value: jax.Array, decay: jax.typing.ArrayLike) -> jax.Array:
    """`decay * nu + (1 - decay) * |value|^2`, in `nu`'s dtype; `value` is at least as wide."""
    return cast_average(decay_average(nu, squared_magnitude(value), decay), nu.dtype)


def squared_magnitude(value: jax.Array) -> jax.Array:
    """`|value|^2`, real; saturates at half the dtype's maximum, NaN stays NaN.

    The bound is half the maximum so that an average of squares cannot overflow, however it is rounded.
    """
    is_complex = jnp.iscomplexobj(value)
    square = jnp.square(value.real) + jnp.square(value.imag) if is_complex else jnp.square(value)
    return jnp.minimum(square, jnp.asarray(jnp.finfo(square.dtype).max / 2, square.dtype))


def cast_average(value: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Casts an average of `squared_magnitude`s; what a narrower `dtype` cannot hold becomes its maximum.

    Without a narrower dtype it takes no minimum: XLA's CPU backend computes one that has two users twice, out of place.
    """
    wider = jnp.finfo(dtype).max >= jnp.finfo(value.dtype).max / 2
    return value.astype(dtype) if wider else saturating_cast(value, dtype)


def saturating_cast(value: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Casts a non-negative real array; what `dtype` cannot hold becomes its maximum instead of infinity."""
    return jnp.minimum(value, jnp.asarray(jnp.finfo(dtype).max, value.dtype)).astype(dtype)


def weight_so_far(decay: jax.typing.ArrayLike, t: jax.Array) -> jax.Array:
    """`1 - decay^t`, the sum of the weights of an average's first t values, without cancellation in float32."""
    # The smallest positive number stands for 0: it gives the same 1 without an infinite logarithm.
    tiny = float(jnp.finfo(t.dtype).tiny)
    if isinstance(decay, numbers.Real):
        log_decay = math.log(max(float(decay), tiny))
    else:
        log_decay = jnp.log(jnp.maximum(jnp.asarray(decay, t.dtype), tiny))
    return -jnp.expm1(t * log_decay)


def debias(moment: jax.Array, decay: jax.typing.ArrayLike, t: jax.Array) -> jax.Array:
    """`moment / (1 - decay^t)`; a real result saturates instead of overflowing."""
    debiased = moment / weight_so_far(decay, t).astype(moment.dtype)
    return debiased if jnp.iscomplexobj(moment) else jnp.minimum(debiased, jnp.finfo(moment.dtype).max)
