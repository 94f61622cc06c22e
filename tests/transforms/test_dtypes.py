"""Dtypes of states and updates, whatever the dtypes of parameters and gradients are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import SCALES, types
from trajectories import random_gradients, trajectories, trajectory

from padam_optax import padam, padamw, partial_rmsprop, scale_by_adabound, scale_by_partial_amsgrad

PARAMETER_DTYPES = ["float16", "bfloat16", "float32", "complex64"]


@pytest.mark.parametrize("dtype", PARAMETER_DTYPES)
def test_state_of_padam(dtype):
    params = jnp.ones(2, dtype)
    state = scale_by_partial_amsgrad().init(params)
    assert (state.mu.dtype, state.nu.dtype, state.nu_max.dtype) == (dtype, jnp.float32, jnp.float32)
    state = scale_by_partial_amsgrad(mu_dtype="bfloat16", nu_dtype="bfloat16").init(params)
    mu_dtype = dtype if dtype == "complex64" else "bfloat16"
    assert (state.mu.dtype, state.nu.dtype, state.nu_max.dtype) == (mu_dtype, jnp.bfloat16, jnp.bfloat16)


# Fields of states that are real and 32 bits wide at least, and those that follow the parameter's dtype.
REAL = ("sum_of_squares", "nu", "e_g", "e_x")
LIKE_THE_PARAMETER = {"amsgrad": ("mu",), "adabound": ("mu",), "amsbound": ("mu",), "adamax": ("mu",)}


@pytest.mark.parametrize("dtype", PARAMETER_DTYPES)
@pytest.mark.parametrize("name", SCALES)
def test_state_and_updates(name, dtype):
    """Real accumulators in float32, updates like the parameters, and like the gradients or moments without them."""
    params = jnp.ones(2, dtype)
    transformation = SCALES[name]()
    state = transformation.init(params)
    update = functools.partial(jax.eval_shape, transformation.update)
    for gradient_dtype in ("float16", "bfloat16", "float32"):
        updates, state = update(jnp.ones(2, gradient_dtype), state, params)
        assert updates.dtype == dtype
        real = [leaf for field in REAL if (leaf := getattr(state, field, None)) is not None]
        assert {leaf.dtype for leaf in real} == {jnp.dtype("float32")}
        assert {getattr(state, field).dtype for field in LIKE_THE_PARAMETER.get(name, ())} <= {jnp.dtype(dtype)}
    assert update(params, state)[0].dtype == dtype


def test_adabound_holds_no_maximum():
    for name in ("adabound", "amsbound"):
        transformation = SCALES[name]()
        state = transformation.init(jnp.ones(2))
        for each in (state, transformation.update(jnp.ones(2), state)[1]):
            assert (each.nu_max is None) == (name == "adabound")


STATE_DTYPES = [{}, {"mu_dtype": "float32"}, {"mu_dtype": "bfloat16", "nu_dtype": "bfloat16"}, {"nu_dtype": "float64"}]
DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("state_dtypes", STATE_DTYPES, ids=lambda dtypes: "-".join(dtypes) or "default")
def test_types_are_stable_whatever_the_gradient(state_dtypes):
    """In cond and scan, with and without parameters: parameters and gradients of every dtype, all in one tree."""
    pairs = [(own, other) for own in DTYPES for other in DTYPES if own == "complex64" or other != "complex64"]
    with jax.enable_x64(True):
        params = {f"{own} {other}": jnp.ones(2, own) for own, other in pairs}
        gradients = {f"{own} {other}": jnp.ones(2, other) for own, other in pairs}
        for alias in (functools.partial(padam, weight_decay=0.1), padamw, padam):
            optimizer = alias(0.1, p=1 / 5, bias_correction="official", **state_dtypes)

            def step(carry, _, optimizer=optimizer):
                params, state = carry
                updates, new_state = optimizer.update(gradients, state, params)
                state = jax.lax.cond(params["float32 float32"][0] > 0, lambda: new_state, lambda: state)
                return (optax.apply_updates(params, updates), state), updates

            carry = (params, optimizer.init(params))
            after, updates = jax.eval_shape(functools.partial(jax.lax.scan, step, length=3), carry)
            assert types(after) == types(carry)
            assert {name: leaf.dtype for name, leaf in updates.items()} == {
                name: leaf.dtype for name, leaf in params.items()
            }
        without_params = scale_by_partial_amsgrad(**state_dtypes)
        state = without_params.init(params)
        updates, new_state = jax.eval_shape(without_params.update, gradients, state)
        assert types(new_state) == types(state)
        for own, other in pairs:
            follows_mu = "mu_dtype" not in state_dtypes or own == "complex64"
            assert updates[f"{own} {other}"].dtype == (own if follows_mu else other)


def test_traced_momentum_keeps_the_dtypes():
    gradients = jnp.ones((3, 2), jnp.bfloat16)

    def run(momentum):
        return trajectory(partial_rmsprop(0.1, momentum=momentum, nesterov=True), gradients)

    updates, state = jax.jit(run)(jnp.float32(0.9))
    assert updates.dtype == optax.tree.get(state, "trace").dtype == jnp.bfloat16


# Numbers


def test_16_bit_updates_are_those_of_float32_rounded():
    gradients = random_gradients(30).astype(np.float16)
    transformation = scale_by_partial_amsgrad(eps=1e-8, p=1 / 8, bias_correction="official", mu_dtype="float32")
    narrow, _ = trajectory(transformation, gradients)
    wide, _ = trajectory(transformation, gradients.astype(np.float32))
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_updates_of_adabound_are_those_of_float32_rounded(dtype):
    gradients = jnp.asarray(random_gradients(1, coordinates=7), dtype)
    transformation = scale_by_adabound(final_ratio=2.0, gamma=1.0)
    narrow, _ = trajectory(transformation, gradients)
    wide, _ = trajectory(transformation, gradients.astype("float32"))
    np.testing.assert_array_equal(narrow, wide.astype(dtype))


def test_bfloat16_parameters_keep_a_full_second_moment():
    """A bfloat16 average would stop at a quarter to a half of the squared gradient."""
    _, state = trajectory(scale_by_partial_amsgrad(), jnp.ones((6_000, 1), jnp.bfloat16))
    np.testing.assert_allclose(state.nu_max, [1 - 0.999**6_000], rtol=1e-3)


def test_complex_parameters():
    gradients = jnp.array([[3 + 4j], [1 - 1j]], jnp.complex64)
    updates, state = trajectory(scale_by_partial_amsgrad(b1=0.5, b2=0.5, eps=0.0, p=1 / 4), gradients)
    np.testing.assert_allclose(state.nu, [0.5 * 12.5 + 0.5 * 2], rtol=1e-6)
    np.testing.assert_allclose(state.nu_max, [12.5], rtol=1e-6)
    np.testing.assert_allclose(updates[1], [(0.5 * (1.5 + 2j) + 0.5 * (1 - 1j)) / 12.5**0.25], rtol=1e-6)


def test_complex_parameters_in_the_family():
    gradient = jnp.array([3 + 4j], jnp.complex64)
    settings = {
        "rss": {"initial_accumulator_value": 0.0},
        "rms": {"decay": 0.0},
        "stddev": {"bias_correction": True, "initial_scale": 0.0},
        "adadelta": {"rho": 0.0},
        "adamax": {},
    }
    optimizers = {name: SCALES[name](eps=0.0, p=1 / 4, **each) for name, each in settings.items()}
    for name, (updates, _) in trajectories(optimizers, gradient[None]).items():
        # Adadelta does not start without eps; a variance of one gradient is 0.
        expected = 0 * gradient if name in ("adadelta", "stddev") else gradient / np.sqrt(5.0)
        np.testing.assert_allclose(updates[0], expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_real_gradient_leaves_complex_momentum_complex():
    transformation = scale_by_partial_amsgrad(b1=0.5)
    params = jnp.array([1 + 1j], jnp.complex64)
    _, state = transformation.update(params, transformation.init(params), params)
    _, state = transformation.update(jnp.ones(1), state, params)
    np.testing.assert_allclose(state.mu, [0.75 + 0.25j], rtol=1e-6)
