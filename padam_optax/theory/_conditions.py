"""The ranges that Theorem 4.3 sets for single values; values are checked and used in float64."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax

# The condition on each value, as the message states it, and its check.
_CONDITIONS: dict[str, tuple[str, Callable[[float], bool]]] = {
    "p": ("p in [0, 1/2]", lambda value: 0 <= value <= 0.5),
    "b2": ("b2 in [0, 1)", lambda value: 0 <= value < 1),
    "L": ("L > 0 (Assumption 4.2)", lambda value: 0 < value < math.inf),
    "G_inf": ("G_inf > 0 (Assumption 4.1)", lambda value: 0 < value < math.inf),
    "delta_f": ("delta_f >= 0", lambda value: 0 <= value < math.inf),
    "d": ("d >= 1 and whole", lambda value: 1 <= value < math.inf and value.is_integer()),
    "v1_norm": ("v1_norm > 0", lambda value: value > 0),
    "constant": ("constant > 0", lambda value: 0 < value < math.inf),
    "T": ("T >= 2 and whole", lambda value: 2 <= value < math.inf and value.is_integer()),
    "n": ("n >= 1 and whole", lambda value: 1 <= value < math.inf and value.is_integer()),
    "alpha": ("alpha > 0", lambda value: 0 < value < math.inf),
    "s": ("0 <= s <= 1/2", lambda value: 0 <= value <= 0.5),
    "kappa": ("kappa > 0", lambda value: 0 < value < math.inf),
    "gap": ("gap >= 0", lambda value: 0 <= value < math.inf),
}


def checked(**values: Any) -> list[Any]:
    """Each value as a Python float, or as a NumPy array in float64 if it is an array.

    JAX would round alpha and s to float32, and an integer T from 2^31 on would wrap.

    Raises:
      ValueError: Unless each value, or each entry of an array, lies in the range of its name.
    """
    return [_checked(name, value) for name, value in values.items()]


def _checked(name: str, value: Any) -> Any:
    condition, holds = _CONDITIONS[name]
    if isinstance(value, numbers.Real):
        found = _as_float(value)
        items = [found]
    elif hasattr(value, "dtype"):
        found = jax.device_get(value).astype("float64")
        items = found.ravel().tolist()
    else:
        raise ValueError(f"{name} must be a number or an array, got {value!r}.")
    if not all(holds(item) for item in items):
        raise ValueError(f"Theorem 4.3 needs {condition}, got {name} = {value}.")
    return found


def _as_float(value: numbers.Real) -> float:
    """`value` as a float; infinite if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def check_v_norm(name: str, value: float, *, p: float, d: float, largest: float) -> None:
    """Raises ValueError if a sum over d coordinates of v^-p is below d largest^-p, its least value with v <= largest.

    A sum of floats may fall below this by its rounding.
    """
    least = d * largest**-p
    if not value >= least * (1 - 1e-9):
        raise ValueError(f"Assumption 4.1 needs {name} >= {least}, got {name} = {value}.")
