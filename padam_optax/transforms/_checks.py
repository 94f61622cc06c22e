"""Checks of hyper-parameters at construction. Traced values, arrays and schedules are never looked at."""

import math
import numbers
from typing import Any

import jax.numpy as jnp


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
    """Raises ValueError unless the Python number `value` lies in [0, 1)."""
    if isinstance(value, numbers.Real) and not 0 <= float(value) < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}.")


def check_non_negative(name: str, value: Any) -> None:
    """Raises ValueError unless the Python number `value` is finite and at least 0."""
    if isinstance(value, numbers.Real) and not 0 <= float(value) < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}.")


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless the Python number `value` is finite and above 0."""
    if isinstance(value, numbers.Real) and not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}.")


def check_p(p: Any, *, highest: float = 0.5, hint: str = "") -> None:
    """Raises ValueError, `hint` at its end, unless the Python number `p` lies in [0, highest]; that is 1/2 or 1."""
    if not isinstance(p, numbers.Real) or 0 <= float(p) <= highest:
        return
    if highest > 0.5:
        raise ValueError(f"p must be in [0, 1], got {p}: 0 is SGD with momentum, 1/2 is AMSGrad, 1 has no root.")
    raise ValueError(
        f"p must be in [0, 1/2], got {p}: 0 is SGD with momentum, 1/2 is AMSGrad, and above 1/2 the convergence"
        f" theorem (Theorem 4.3 of Chen et al., 2020) is not proven.{hint}"
    )


def check_real_dtype(name: str, dtype: Any) -> None:
    """Raises ValueError unless `dtype` is None or a real floating dtype."""
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} must be a real floating dtype, such as bfloat16; got {dtype!r}.")
