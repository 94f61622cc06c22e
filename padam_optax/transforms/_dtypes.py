"""The dtypes in which moments are computed and updates are returned."""

import functools

import jax
import jax.numpy as jnp


def real_dtype(dtype: jax.typing.DTypeLike) -> jnp.dtype:
    """The real dtype of the same precision: float32 for complex64."""
    return jnp.finfo(dtype).dtype


def common_dtype(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
    """The dtype to which `dtypes` promote, under strict dtype promotion too."""
    with jax.numpy_dtype_promotion("standard"):
        return jnp.dtype(functools.reduce(jnp.promote_types, dtypes))


def compute_dtype(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
    """The real dtype in which moments are computed: the widest of the given ones, and float32 at least."""
    return common_dtype(jnp.float32, *map(real_dtype, dtypes))


def widened(gradient: jax.Array, *moments: jax.Array) -> jax.Array:
    """The gradient in the form from which moments are computed.

    It is in float32 or wider, and complex if a moment is: a real gradient must not make a complex moment real. Finite
    values whose square would overflow are clipped, so that momentum and root see the same gradient. Infinity and NaN
    stay.
    """
    dtypes = [gradient.dtype, *(moment.dtype for moment in moments)]
    wide = gradient.astype(common_dtype(compute_dtype(*dtypes), *dtypes))
    if jnp.iscomplexobj(wide):
        return jax.lax.complex(*(_with_finite_square(part, parts=2) for part in (wide.real, wide.imag)))
    return _with_finite_square(wide)


def _with_finite_square(value: jax.Array, parts: int = 1) -> jax.Array:
    """Clips the real `value` so that the squares of `parts` of them add up to half the dtype's maximum at most."""
    highest = float(jnp.finfo(value.dtype).max)
    bound = (highest / 2 / parts) ** 0.5
    return jnp.where(jnp.abs(value) <= highest, jnp.clip(value, -bound, bound), value)


def cast_update(update: jax.Array, param: jax.Array | None, otherwise: jax.Array) -> jax.Array:
    """The update in its parameter's dtype, or in that of `otherwise` if `update` was called without parameters."""
    return update.astype(otherwise.dtype if param is None else jnp.result_type(param))
