"""The power of an accumulator, `base^(2p)`: the one place that knows how to compute it.

Two forms, chosen at trace time:

- p a Python number whose `2p` is a short binary fraction (1/2, 1/4, 1/8, 1/16, 3/8, ...): a chain of square roots,
  one a binary digit, each correctly rounded. It adds no measurable time to a step that is bound by memory.
- any other p, and every traced p: `exp(2p log base)`. `benchmarks/powers.py` times it against `jnp.power` and other
  forms; in float32 its relative error stays below 1e-5 over [1.2e-38, 1e38].
"""

import numbers

import jax
import jax.numpy as jnp

from padam_optax import _checks

# p = 2^-9 still is a chain of square roots; a longer one would cost more than exp and log.
_MOST_ROOTS = 8


def divide_by_power(numerator: jax.Array, base: jax.Array, p: jax.typing.ArrayLike) -> jax.Array:
    """Returns `numerator / base^(2p)`, and 0 where `base` is 0 and p is not.

    Args:
      numerator: Real or complex array.
      base: Real, non-negative array of the same shape and precision.
      p: The partially adaptive parameter: a Python number, or a scalar array, traced or not.

    Returns:
      An array of `numerator`'s shape and dtype.
    """
    if _checks.is_python_zero(p):
        return numerator
    is_zero = base == 0
    power = _power(jnp.where(is_zero, 1, base), p)
    keeps = jnp.logical_not(is_zero)
    if not isinstance(p, numbers.Real):
        keeps = jnp.logical_or(keeps, jnp.asarray(p) == 0)
    return jnp.where(keeps, numerator / power.astype(numerator.dtype), 0)


def _power(base: jax.Array, p: jax.typing.ArrayLike) -> jax.Array:
    """`base^(2p)` for positive `base`."""
    if not isinstance(p, numbers.Real):
        return jnp.exp(jnp.asarray(2 * jnp.asarray(p), base.dtype) * jnp.log(base))
    exponent = 2 * float(p)
    digits, denominator = exponent.as_integer_ratio()
    roots = denominator.bit_length() - 1
    if roots > _MOST_ROOTS:
        return jnp.exp(jnp.asarray(exponent, base.dtype) * jnp.log(base))
    # Binary digits of the exponent, from the one of base^1 down: 3/4 is base^(1/2) * base^(1/4).
    product = None
    for place in range(roots, -1, -1):
        if digits >> place & 1:
            product = base if product is None else product * base
        base = jnp.sqrt(base) if place else base
    assert product is not None, "p = 0 is handled by the caller"
    return product
