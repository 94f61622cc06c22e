"""The ranges that Theorem 4.3 gives to single values."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

# What a value must fulfil, as the message says it.
_CONDITIONS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "p": ("p in [0, 1/2]", lambda value: 0 <= value <= 0.5),
    "b2": ("b2 in [0, 1)", lambda value: 0 <= value < 1),
    "L": ("L > 0 (Assumption 4.2)", lambda value: 0 < value < math.inf),
    "G_inf": ("G_inf > 0 (Assumption 4.1)", lambda value: 0 < value < math.inf),
    "delta_f": ("delta_f >= 0", lambda value: 0 <= value < math.inf),
    "d": ("d >= 1", lambda value: 1 <= value < math.inf),
    "v1_norm": ("v1_norm > 0", lambda value: value > 0),
    "constant": ("constant > 0", lambda value: 0 < value < math.inf),
    "T": ("T >= 2", lambda value: 2 <= value < math.inf),
    "alpha": ("alpha > 0", lambda value: 0 < value < math.inf),
    "s": ("0 <= s <= 1/2", lambda value: 0 <= value <= 0.5),
}


def check(**values: Any) -> None:
    """Raises ValueError unless each value, or each of an array's, lies in the range that its name has."""
    for name, value in values.items():
        condition, holds = _CONDITIONS[name]
        items = [value] if isinstance(value, numbers.Real) else jnp.ravel(jnp.asarray(value)).tolist()
        if not all(holds(item) for item in items):
            raise ValueError(f"Theorem 4.3 needs {condition}, got {name} = {value}.")
