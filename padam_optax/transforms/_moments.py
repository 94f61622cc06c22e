"""What the transformations share: dtype-stable moments, bias corrections, and the last stages of an alias."""

import functools
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _checks


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


def init_mu(params: optax.Params, mu_dtype: jax.typing.DTypeLike | None) -> optax.Updates:
    """Zeros like `params`, in `mu_dtype` where that is given and the leaf is real."""

    def zeros(leaf: Any) -> jax.Array:
        dtype = jnp.result_type(leaf)
        keeps = mu_dtype is None or jnp.issubdtype(dtype, jnp.complexfloating)
        return jnp.zeros_like(leaf, dtype=dtype if keeps else mu_dtype)

    return jax.tree.map(zeros, params)


def init_nu(
    params: optax.Params, nu_dtype: jax.typing.DTypeLike | None, value: jax.typing.ArrayLike = 0
) -> optax.Updates:
    """Real arrays like `params`, full of `value`, in `nu_dtype` or, by default, in float32 at least."""

    def full(leaf: Any) -> jax.Array:
        dtype = compute_dtype(jnp.result_type(leaf)) if nu_dtype is None else nu_dtype
        return jnp.full_like(leaf, value, dtype=dtype)

    return jax.tree.map(full, params)


def init_wide(params: optax.Params) -> optax.Updates:
    """Zeros like `params`, in float32 at least, and complex where they are."""

    def zeros(leaf: Any) -> jax.Array:
        dtype = jnp.result_type(leaf)
        return jnp.zeros_like(leaf, dtype=common_dtype(dtype, compute_dtype(dtype)))

    return jax.tree.map(zeros, params)


def decay_average(average: jax.Array, value: jax.Array, decay: jax.typing.ArrayLike) -> jax.Array:
    """`decay * average + (1 - decay) * value`, in `value`'s dtype."""
    dtype = real_dtype(value.dtype)
    keeps, takes = (jnp.asarray(weight, dtype).astype(value.dtype) for weight in (decay, 1 - decay))
    return keeps * average.astype(value.dtype) + takes * value


def squared_magnitude(value: jax.Array) -> jax.Array:
    """`|value|^2`, real; saturates at half the dtype's maximum, NaN stays NaN.

    Half, so that an average of squares cannot overflow, however it is rounded.
    """
    is_complex = jnp.iscomplexobj(value)
    square = jnp.square(value.real) + jnp.square(value.imag) if is_complex else jnp.square(value)
    return jnp.minimum(square, jnp.asarray(jnp.finfo(square.dtype).max / 2, square.dtype))


def cast_average(value: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Casts an average of `squared_magnitude`s; what a narrower `dtype` cannot hold becomes its maximum.

    In its own dtype it stays as it is: a minimum that has two users, XLA's CPU backend computes twice, out of place.
    """
    wider = jnp.finfo(dtype).max >= jnp.finfo(value.dtype).max / 2
    return value.astype(dtype) if wider else saturating_cast(value, dtype)


def saturating_cast(value: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Casts a non-negative real array; what `dtype` cannot hold becomes its maximum instead of infinity."""
    return jnp.minimum(value, jnp.asarray(jnp.finfo(dtype).max, value.dtype)).astype(dtype)


def debias(decay: jax.typing.ArrayLike, step: jax.Array) -> jax.Array:
    """`1 - decay^step` for steps counted from 1, without the cancellation of `1 - b2` in float32."""
    if isinstance(decay, numbers.Real):
        log_decay = math.log(float(decay)) if float(decay) > 0 else -math.inf
    else:
        log_decay = jnp.log(jnp.asarray(decay, step.dtype))
    return -jnp.expm1(step * log_decay)


def step_of(count: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The step t of the formulas, counted from 1, for a state that has seen `count` updates."""
    return jnp.asarray(optax.safe_increment(count), dtype)


def value_at(argument: Any, count: jax.Array) -> Any:
    """A schedule's value at `count` (0 at the first update); anything else as it is."""
    return argument(count) if callable(argument) else argument


def update_dtype(
    gradient: jax.Array, mu: jax.Array, param: jax.Array | None, mu_dtype: jax.typing.DTypeLike | None
) -> jnp.dtype:
    """The dtype of a leaf's update: the parameter's; without parameters mu's, or the gradient's under `mu_dtype`."""
    if param is not None:
        return jnp.result_type(param)
    follows_mu = mu_dtype is None or jnp.issubdtype(mu.dtype, jnp.complexfloating)
    return mu.dtype if follows_mu else gradient.dtype


def keeping_dtype(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`inner`, its updates and state cast back to their dtypes (a float32 rate turns bfloat16 updates to float32)."""
    inner = optax.with_extra_args_support(inner)

    def update_fn(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, optax.OptState]:
        results = inner.update(updates, state, params, **extra_args)
        return jax.tree.map(lambda new, old: new.astype(old.dtype), results, (updates, state))

    return optax.GradientTransformationExtraArgs(inner.init, update_fn)


def weight_decay_stage(
    weight_decay: optax.ScalarOrSchedule, mask: Any = None, *, keep_dtype: bool = False
) -> optax.GradientTransformation:
    """For a Python 0 a stage that needs no parameters and has the state of a decay by any other number."""
    is_zero = _checks.is_python_zero(weight_decay)
    decay = optax.identity() if is_zero else optax.add_decayed_weights(weight_decay)
    if mask is not None:
        decay = optax.masked(decay, mask)
    return keeping_dtype(decay) if keep_dtype else decay


def map_leaves(
    step: Callable[..., tuple[jax.Array, ...]], outputs: int, updates: Any, *state: Any, params: Any
) -> tuple[Any, ...]:
    """Maps `step(gradient, *state leaves, parameter or None)`, which returns `outputs` arrays, to that many trees."""
    leaves, structure = jax.tree.flatten(updates)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    columns = [structure.flatten_up_to(tree) for tree in state]
    columns.append([None] * len(leaves) if params is None else structure.flatten_up_to(params))
    rows = [step(*row) for row in zip(leaves, *columns, strict=True)]
    return tuple(structure.unflatten([row[i] for row in rows]) for i in range(outputs))
