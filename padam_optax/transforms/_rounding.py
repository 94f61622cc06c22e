"""Rounding of second moments to bfloat16, so that they can be kept in 2 bytes.

A bfloat16 has 8 significant bits. At b2 = 0.999 a moment moves by less than half of its last bit at a step, so that
rounding to nearest leaves it where it is. Two other roundings, both of float32's upper half, keep what matters:

- stochastic: up with the probability that makes the expected value the exact one;
- upward: never below the exact value, for a maximum that must not fall.
"""

from typing import Any

import jax
import jax.numpy as jnp

from padam_optax.transforms import _averages

_LOWER_HALF = 0xFFFF
_UPPER_HALF = 0xFFFF0000
_NAN = 0x7FFF0000


@jax.custom_jvp
def average_and_maximum(average: jax.Array, maximum: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The new average, which comes in float32 or wider, and the maximum so far, both rounded to bfloat16.

    Derivatives treat rounding, which is piecewise constant, as the identity (straight through).
    """
    # Rounded as float32: XLA's CPU backend takes twice as long over 16-bit integers.
    average = _averages.cast_average(average, jnp.float32)
    highest = jnp.maximum(maximum.astype(jnp.float32), upward(average)).astype(jnp.bfloat16)
    rounded = stochastically(average, count)
    # `rounded` is never above `highest`. The comparison makes XLA write the average last, in place.
    return jnp.where(rounded > highest.astype(jnp.float32), highest, rounded.astype(jnp.bfloat16)), highest


@average_and_maximum.defjvp
def _average_and_maximum_jvp(
    primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    average, maximum, _ = primals
    average_dot, maximum_dot = (tangent.astype(jnp.bfloat16) for tangent in tangents[:2])
    highest_dot = jnp.where(average.astype(jnp.float32) >= maximum.astype(jnp.float32), average_dot, maximum_dot)
    return average_and_maximum(*primals), (average_dot, highest_dot)


def stochastically(value: jax.Array, count: jax.Array) -> jax.Array:
    """Rounds to one of the two bfloat16 around each value, to the nearer one more often.

    The 16 random bits of a value are a hash of it and of `count`. A step therefore repeats bit by bit, whatever the
    array's sharding or place in a tree is, and needs no other random numbers: on a CPU `jax.random.bits` takes ten
    times as long as the rest of a step.

    Args:
      value: Float32 array, non-negative, at most bfloat16's maximum. NaN stays NaN.
      count: Number of the step, an integer scalar.

    Returns:
      A float32 array that bfloat16 holds exactly.
    """
    bits = _bits(value)
    noise = hash_bits(bits ^ hash_bits(count.astype(jnp.uint32))) >> 16
    return _upper_half(bits + noise)


def upward(value: jax.Array) -> jax.Array:
    """Rounds to the smallest bfloat16 that is not below the value; takes and returns what `stochastically` does."""
    return _upper_half(_bits(value) + jnp.uint32(_LOWER_HALF))


def _bits(value: jax.Array) -> jax.Array:
    """The bits as integers; a NaN gets the bits to which 16 bits can be added without leaving NaN."""
    return jnp.minimum(jax.lax.bitcast_convert_type(value, jnp.uint32), jnp.uint32(_NAN))


def _upper_half(bits: jax.Array) -> jax.Array:
    return jax.lax.bitcast_convert_type(bits & jnp.uint32(_UPPER_HALF), jnp.float32)


def hash_bits(number: jax.Array) -> jax.Array:
    """An integer hash: every bit of the result depends on every bit of `number` (Wellons' lowbias32)."""
    number = number + jnp.uint32(0x9E3779B9)
    number = (number ^ (number >> 16)) * jnp.uint32(0x21F0AAAD)
    number = (number ^ (number >> 15)) * jnp.uint32(0xD35A2D97)
    return number ^ (number >> 15)
