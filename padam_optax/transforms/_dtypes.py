"""In which dtype a moment is computed, and in which an update is returned."""

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
    """The gradient in float32 or wider, and complex if a moment is: a real gradient must not make that one real."""
    dtypes = [gradient.dtype, *(moment.dtype for moment in moments)]
    return gradient.astype(common_dtype(compute_dtype(*dtypes), *dtypes))


def cast_update(update: jax.Array, param: jax.Array | None, otherwise: jax.Array) -> jax.Array:
    """The update in its parameter's dtype; where `update` was called without parameters, in that of `otherwise`."""
    return update.astype(otherwise.dtype if param is None else jnp.result_type(param))
