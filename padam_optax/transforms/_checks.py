"""Checks of hyper-parameters at construction, and of the trees that a transformation gets.

The checks never read the values of arrays, traced hyper-parameters and schedules.
"""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp

# float16 is left out: squares of gradients below 2e-4 underflow in it.
_SECOND_MOMENT_DTYPES = ("bfloat16", "float32", "float64")
_FIRST_MOMENT_DTYPES = ("float16", *_SECOND_MOMENT_DTYPES)
# Gradients and parameters; 8-bit floats are storage only, without arithmetic of their own.
_PARAMETER_DTYPES = (*_FIRST_MOMENT_DTYPES, "complex64", "complex128")


def is_python_zero(value: Any) -> bool:
    """Whether `value` is a Python number and 0; False for arrays and schedules, whatever they hold."""
    return isinstance(value, numbers.Real) and float(value) == 0


def is_normal(value: Any, dtype: Any) -> bool:
    """Whether `value` is a positive Python number that `dtype` holds as a normal number, so that a sum keeps it."""
    return isinstance(value, numbers.Real) and float(value) >= float(jnp.finfo(dtype).tiny)


def check_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of the names `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")


def check_decay(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a number in [0, 1), an array or a tracer."""
    _check_number(name, value, "a number in [0, 1)", schedule=False)
    if isinstance(value, numbers.Real) and not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}.")


def check_non_negative(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0, an array, a tracer or a schedule."""
    _check_number(name, value, "a finite number of at least 0")
    if isinstance(value, numbers.Real) and not 0 <= float(value) < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}.")


def check_finite(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number, an array, a tracer or a schedule."""
    _check_number(name, value, "a finite number")
    if isinstance(value, numbers.Real) and not math.isfinite(float(value)):
        raise ValueError(f"{name} must be finite, got {value}.")


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number above 0, an array, a tracer or a schedule."""
    _check_number(name, value, "a finite number above 0")
    if isinstance(value, numbers.Real) and not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}.")


def check_p(p: Any, *, highest: float = 0.5, hint: str = "", name: str = "p") -> None:
    """Raises ValueError, `hint` at its end, unless `p` is a number in [0, highest], an array, a tracer or a schedule.

    `highest` is 1/2 or 1.
    """
    allowed = "[0, 1]" if highest > 0.5 else "[0, 1/2]"
    _check_number(name, p, f"a number in {allowed}")
    if not isinstance(p, numbers.Real) or 0 <= float(p) <= highest:
        return
    if highest > 0.5:
        raise ValueError(
            f"{name} must be in [0, 1], got {p}: 0 is SGD with momentum, 1/2 is AMSGrad, 1 drops the root."
        )
    raise ValueError(
        f"{name} must be in [0, 1/2], got {p}: 0 is SGD with momentum, 1/2 is AMSGrad, and above 1/2 the convergence"
        f" theorem (Theorem 4.3 of Chen et al., 2020) is not proven.{hint}"
    )


def check_moment_dtypes(*, mu_dtype: Any, nu_dtype: Any) -> None:
    """Raises ValueError unless each is None or a dtype that can hold that moment."""
    for name, dtype, allowed in (
        ("mu_dtype", mu_dtype, _FIRST_MOMENT_DTYPES),
        ("nu_dtype", nu_dtype, _SECOND_MOMENT_DTYPES),
    ):
        if dtype is not None and _dtype_name(dtype) not in allowed:
            raise ValueError(f"{name} must be None or one of {', '.join(allowed)}; got {dtype!r}.")


def check_leaves(what: str, tree: Any) -> None:
    """Raises TypeError, naming the leaf's path, unless each leaf with a dtype has one that a parameter may have."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number):
            dtype = jnp.result_type(leaf)
            if _dtype_name(dtype) not in _PARAMETER_DTYPES and not isinstance(leaf, float | complex):
                raise TypeError(
                    f"{what} must be of {', '.join(_PARAMETER_DTYPES)}; the one {_at(path)} is of {dtype}. Leave it out"
                    " with optax.masked or optax.partition."
                )


def check_shapes(gradients: Any, moments: Any) -> None:
    """Raises ValueError, naming the leaf's path, unless each gradient has the shape of its moment."""
    gradients, structure = jax.tree_util.tree_flatten_with_path(gradients, is_leaf=_is_none)
    for (path, gradient), moment in zip(gradients, structure.flatten_up_to(moments), strict=True):
        if gradient is not None and moment is not None and jnp.shape(gradient) != jnp.shape(moment):
            raise ValueError(
                f"The gradient {_at(path)} has the shape {jnp.shape(gradient)}; its parameter has {jnp.shape(moment)}."
            )


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _at(path: Any) -> str:
    return f"at {jax.tree_util.keystr(path)}" if path else "given"


def _dtype_name(dtype: Any) -> str | None:
    try:
        return jnp.dtype(dtype).name
    except TypeError:
        return None


def _check_number(name: str, value: Any, allowed: str, *, schedule: bool = True) -> None:
    """Raises ValueError unless `value` may be a hyper-parameter: a real number, a real array or a schedule."""
    is_array = hasattr(value, "dtype") and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    if not (isinstance(value, numbers.Real) or is_array or (schedule and callable(value))):
        raise ValueError(f"{name} must be {allowed}, an array{' or a schedule' if schedule else ''}; got {value!r}.")
