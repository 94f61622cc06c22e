"""The power of an accumulator: its accuracy, and what it compiles to."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import padam_optax
from padam_optax.transforms._powers import divide_by_power

DYADIC = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 3 / 8]
OTHERS = [1 / 5, 2 / 5, 0.3]
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}

each_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


def roots(dtype: str, size: int = 2_001) -> np.ndarray:
    """Square roots of accumulators over nearly the whole range of float32."""
    return np.sqrt(np.geomspace(1.2e-38, 1e38, size)).astype(dtype)


# Large arrays take another form of the power.
each_size = pytest.mark.parametrize("size", [2_001, 20_001])


def largest_error(actual, base: np.ndarray, p: float) -> float:
    """Largest relative error of `actual` as base^(-2p), against the widest float of the platform."""
    exact = np.power(base.astype(np.longdouble), -2 * np.longdouble(p))
    return float(np.abs(np.asarray(actual).astype(np.longdouble) / exact - 1).max())


def operations(function, *arguments) -> set[str]:
    """Names of the operations that XLA is given."""
    return set(re.findall(r"stablehlo\.(\w+)", jax.jit(function).lower(*arguments).as_text()))


@functools.cache
def inverse_powers(dtype: str, size: int) -> dict[float, jax.Array]:
    """base^(-2p) of `roots(dtype, size)` by p, from one compiled program."""
    with jax.enable_x64(True):
        return jax.jit(lambda base: {p: divide_by_power(jnp.ones_like(base), base, p) for p in DYADIC + OTHERS})(
            roots(dtype, size)
        )


@each_dtype
@each_size
@pytest.mark.parametrize("p", DYADIC + OTHERS)
def test_accuracy(p, size, dtype):
    quotient = inverse_powers(dtype, size)[p]
    assert quotient.dtype == dtype
    assert largest_error(quotient, roots(dtype, size), p) <= TOLERANCE[dtype]


@each_dtype
@each_size
def test_accuracy_of_a_traced_p(size, dtype):
    with jax.enable_x64(True):
        base = roots(dtype, size)
        divide = jax.jit(lambda p: divide_by_power(jnp.ones_like(base), jnp.asarray(base), p))
        for p in map(np.dtype(dtype).type, DYADIC + OTHERS):
            assert largest_error(divide(p), base, float(p)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("p", DYADIC)
def test_a_dyadic_p_costs_square_roots_only(p):
    ones = jnp.ones(8)
    used = operations(lambda numerator, base: divide_by_power(numerator, base, p), ones, ones)
    assert not used & {"power", "log", "exponential", "log_plus_one", "exponential_minus_one"}
    assert ("sqrt" in used) == (p != 1 / 2)


@each_dtype
@pytest.mark.parametrize("p", OTHERS)
def test_another_p_costs_no_power(p, dtype):
    """In float32 no exponential and no logarithm either."""
    with jax.enable_x64(True):
        ones = jnp.ones(20_000, dtype)
        used = operations(lambda numerator, base: divide_by_power(numerator, base, p), ones, ones)
    assert "power" not in used
    assert used & {"exponential", "log"} == (set() if dtype == "float32" else {"exponential", "log"})


@each_size
def test_derivatives(size):
    """Those of base^(-2p): for learned learning rates, and learned p."""
    base = roots("float32", size)

    @jax.jit
    def derivatives(base):
        ones = jnp.ones_like(base)
        return {
            p: (
                jax.grad(lambda base, p=p: divide_by_power(ones, base, p).sum())(base),
                jax.jvp(lambda p: divide_by_power(ones, base, p), (jnp.float32(p),), (jnp.float32(1),))[1],
            )
            for p in (1 / 8, 1 / 5, 2 / 5)
        }

    with jax.enable_x64(True):
        found = derivatives(jnp.asarray(base))
    for p, (by_base, by_p) in found.items():
        assert largest_error(by_base / (-2 * p), base, p + 0.5) <= 2e-5
        expected = -2 * np.log(base.astype(np.float64)) * base.astype(np.float64) ** (-2 * p)
        np.testing.assert_allclose(by_p, expected, rtol=2e-5, atol=1e-6)


@each_size
def test_nan_and_infinity_are_not_hidden(size):
    base = np.resize(np.float32([np.nan, np.inf]), size)

    @jax.jit
    def quotients(base):
        return [divide_by_power(jnp.ones_like(base), base, p) for p in (1 / 8, 1 / 5, jnp.float32(0.3))]

    for quotient in quotients(base):
        np.testing.assert_array_equal(quotient, np.resize([np.nan, 0.0], size))


@pytest.mark.parametrize("p", DYADIC)
def test_a_step_of_padam_takes_no_power(p):
    optimizer = padam_optax.padam(0.1, p=p)
    params = jnp.ones(8)
    used = operations(optimizer.update, params, optimizer.init(params), params)
    assert "sqrt" in used
    assert not used & {"power", "log", "exponential"}


@pytest.mark.parametrize("p", [0, 0.0, np.float32(0)])
def test_p_of_0_divides_by_nothing(p):
    numerator = jnp.array([1.0, -2.0, 3.0])
    np.testing.assert_array_equal(divide_by_power(numerator, jnp.array([0.0, 5.0, 1e-30]), p), numerator)


def test_traced_p_of_0_divides_by_nothing():
    numerator = jnp.array([1.0, -2.0, 3.0])
    quotient = jax.jit(divide_by_power)(numerator, jnp.array([0.0, 5.0, 1e-30]), 0.0)
    np.testing.assert_array_equal(quotient, numerator)


@pytest.mark.parametrize("p", [*DYADIC, *OTHERS, jnp.float32(0.3)])
def test_a_base_of_0_gives_0(p):
    quotient = divide_by_power(jnp.array([0.0, 1.0, -1.0, 2.0]), jnp.array([0.0, 0.0, 0.0, 1.0]), p)
    np.testing.assert_array_equal(quotient, [0.0, 0.0, 0.0, 2.0])


@pytest.mark.parametrize("p", [1 / 2, 1 / 8, 1 / 5])
def test_the_smallest_bases_give_no_nan(p):
    """Subnormal ones, which the hardware may take for 0."""
    base = jnp.array([1e-45, 1e-42, 1e-40, 1.2e-38])
    np.testing.assert_array_equal(divide_by_power(jnp.zeros(4), base, p), jnp.zeros(4))
    np.testing.assert_array_equal(jax.jit(divide_by_power)(jnp.zeros(4), base, p), jnp.zeros(4))


@pytest.mark.parametrize("p", [1 / 2, 1 / 8, 1 / 5])
def test_complex_numerator(p):
    base = jnp.array([1e-15, 0.5, 2.0, 1e15])
    numerator = jnp.array([1 + 2j, -1j, 3.0, -2 + 1j], jnp.complex64)
    quotient = divide_by_power(numerator, base, p)
    assert quotient.dtype == jnp.complex64
    by_part = [divide_by_power(part, base, p) for part in (numerator.real, numerator.imag)]
    np.testing.assert_allclose(quotient, by_part[0] + 1j * by_part[1], rtol=1e-6)
