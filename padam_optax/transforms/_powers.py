"""The power of a second moment, `base^(2p)` of its root. No other module computes it.

Three forms, chosen at trace time:

- p a Python number whose `2p` is a short binary fraction (1/2, 1/4, 1/8, 1/16, 3/8, ...): a chain of square roots,
  one a binary digit, each correctly rounded. It adds no measurable time to a step that is bound by memory.
- any other p, and every traced p, in float32: `exp2(-2p log2(base))` from two polynomials and the exponent's bits.
  `benchmarks/speed/powers.py` times it against `jnp.power`, `exp(log)` and other forms; its relative error stays below
  3e-6 over [1.2e-38, 1e38].
- the same in float64, and for small arrays: `exp(-2p log(base))`, which compiles three times as fast; its error stays
  below 1e-13 in float64 and 4e-6 in float32.
"""

import functools
import numbers

import jax
import jax.numpy as jnp

from padam_optax.transforms import _checks

# For smaller arrays the time of a step does not matter, but the time to compile thousands of them does.
_SMALL = 16_384
# p = 2^-9 still is a chain of square roots; a longer one would cost more than the logarithm.
_MOST_ROOTS = 8

# log2(1 + t) / t on [sqrt(1/2) - 1, sqrt(2) - 1], and (2^f - 1) / f on [-1/2, 1/2], lowest power first: least squares,
# reweighted until the largest error of log2 (3.0e-7) and the largest relative one of 2^f (9.2e-8) were least.
_LOG2 = (
    1.442699670791626,
    -0.7213758230209351,
    0.48046624660491943,
    -0.3589632213115692,
    0.29725053906440735,
    -0.27268651127815247,
    0.17065808176994324,
)
_EXP2 = (
    0.6931470036506653,
    0.24022242426872253,
    0.05550733581185341,
    0.009671511128544807,
    0.0013264729641377926,
)
_MANTISSA_BITS = 23
_SQRT_HALF_BITS = 0x3F3504F3


def root(square: jax.Array, eps: jax.typing.ArrayLike, *, eps_in_sqrt: bool = False) -> jax.Array:
    """`sqrt(square) + eps`, or `sqrt(square + eps)`: the base of the power 2p."""
    added = jnp.asarray(eps, square.dtype)
    return _square_root(square + added) if eps_in_sqrt else _square_root(square) + added


@jax.custom_jvp
def _square_root(square: jax.Array) -> jax.Array:
    """The square root, with the derivative 0 at 0: a coordinate without gradients must not make a derivative NaN."""
    return jnp.sqrt(square)


@_square_root.defjvp
def _square_root_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    result = _square_root(*primals)
    positive = result > 0
    return result, jnp.where(positive, tangents[0] / (2 * jnp.where(positive, result, 1)), 0)


def divide_by_power(
    numerator: jax.Array,
    base: jax.Array,
    p: jax.typing.ArrayLike,
    *,
    positive: bool = False,
    up_to_one: bool = False,
) -> jax.Array:
    """Returns `numerator / base^(2p)`, and 0 where `base` is 0 and p is not.

    Args:
      numerator: Real or complex array.
      base: Real, non-negative array of the same shape and precision.
      p: The partially adaptive parameter: a Python number, or a scalar array, traced or not.
      positive: Whether every `base` is above 0. It is then used once, so that XLA need not keep it in memory.
      up_to_one: Whether p may be above 1/2. With such a p, and with any that is not a Python number, it divides twice
        by `base^p`: the inverse of a power above 1 can leave the range of float32 where the quotient does not.

    Returns:
      An array of `numerator`'s shape and dtype.
    """
    if up_to_one and not (isinstance(p, numbers.Real) and float(p) <= 0.5):
        half = p / 2
        return divide_by_power(divide_by_power(numerator, base, half, positive=positive), base, half, positive=positive)
    if _checks.is_python_zero(p):
        return numerator
    if positive:
        return _quotient(numerator, base, p)
    is_zero = base == 0
    quotient = _quotient(numerator, jnp.where(is_zero, 1, base), p)
    keeps = jnp.logical_not(is_zero)
    if not isinstance(p, numbers.Real):
        keeps = jnp.logical_or(keeps, jnp.asarray(p) == 0)
    return jnp.where(keeps, quotient, 0)


def _quotient(numerator: jax.Array, base: jax.Array, p: jax.typing.ArrayLike) -> jax.Array:
    """`numerator / base^(2p)` for positive `base`."""
    if isinstance(p, numbers.Real):
        digits, denominator = (2 * float(p)).as_integer_ratio()
        roots = denominator.bit_length() - 1
        if roots <= _MOST_ROOTS:
            return numerator / _chain_of_roots(base, digits, roots).astype(numerator.dtype)
        exponent = jnp.asarray(2 * float(p), base.dtype)
    else:
        exponent = jnp.asarray(2 * jnp.asarray(p), base.dtype)
    by_polynomials = base.dtype == jnp.float32 and base.size >= _SMALL
    inverse = _inverse_power(base, exponent) if by_polynomials else jnp.exp(-exponent * jnp.log(base))
    return numerator * inverse.astype(numerator.dtype)


def _chain_of_roots(base: jax.Array, digits: int, roots: int) -> jax.Array:
    """`base^(digits / 2^roots)`, digit by digit from the one of base^1 down: 3/4 is base^(1/2) * base^(1/4)."""
    product = None
    for place in range(roots, -1, -1):
        if digits >> place & 1:
            product = base if product is None else product * base
        base = jnp.sqrt(base) if place else base
    assert product is not None, "p = 0 is handled by the caller"
    return product


@jax.custom_jvp
def _inverse_power(base: jax.Array, exponent: jax.Array) -> jax.Array:
    """`base^-exponent` in float32, for positive normal `base` and a scalar exponent in [0, 1]; NaN stays NaN.

    base is 2^n (1 + t) with t in [sqrt(1/2) - 1, sqrt(2) - 1), and the result 2^k 2^f with a whole k.
    """
    bits = jax.lax.bitcast_convert_type(base, jnp.int32)
    n = (bits - jnp.int32(_SQRT_HALF_BITS)) >> _MANTISSA_BITS
    t = jax.lax.bitcast_convert_type(bits - (n << _MANTISSA_BITS), jnp.float32) - 1
    power = -exponent * (n.astype(jnp.float32) + t * _polynomial(_LOG2, t))
    k = jnp.round(power)
    f = power - k
    bits = jax.lax.bitcast_convert_type(1 + f * _polynomial(_EXP2, f), jnp.int32)
    result = jax.lax.bitcast_convert_type(bits + (k.astype(jnp.int32) << _MANTISSA_BITS), jnp.float32)
    # Values that are not finite come from `base`: a constant NaN or infinity would be a false alarm under
    # jax_debug_nans.
    highest = jnp.finfo(base.dtype).max
    return jnp.where(base <= highest, result, jnp.where(base > highest, 0, base))


@_inverse_power.defjvp
def _inverse_power_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    base, exponent = primals
    base_dot, exponent_dot = tangents
    result = _inverse_power(base, exponent)
    return result, -result * (exponent / base * base_dot + jnp.log(base) * exponent_dot)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    """Horner's rule; coefficients from the lowest power up."""
    highest, *others = (jnp.float32(value) for value in reversed(coefficients))
    return functools.reduce(lambda value, coefficient: value * x + coefficient, others, jnp.full_like(x, highest))
