"""Zeros, overflow and underflow: no moment becomes infinite or NaN, and no coordinate is stuck."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import SCALES
from trajectories import trajectories, trajectory

from padam_optax import adabound, scale_by_partial_amsgrad
from padam_optax.transforms import _averages

P_FORMS = {"1/2": 1 / 2, "1/8": 1 / 8, "1/5": 1 / 5, "array": jnp.float32(1 / 8)}
FAMILY = {name: SCALES[name] for name in ("rss", "rms", "stddev", "adadelta", "adamax")}


def assert_all_equal(found, expected):
    """Every trajectory's updates, leaf by leaf."""
    for name, (updates, _) in found.items():
        jax.tree.map(functools.partial(np.testing.assert_array_equal, err_msg=str(name)), updates, expected)


def assert_finite(found):
    for name, result in found.items():
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(result)), name


# Zeros


def zero_gradients(dtypes=("float16", "bfloat16", "float32")):
    return {dtype: jnp.zeros((2, 3), dtype) for dtype in dtypes}


@pytest.mark.parametrize("p", P_FORMS.values(), ids=P_FORMS)
def test_zero_gradients_give_zero_updates(p):
    settings = [{"eps": eps} for eps in (0.0, 1e-8, 1e-42)]
    settings += [{"eps": 0.0, "bias_correction": correction} for correction in ("official", "debiased")]
    found = trajectories({str(each): scale_by_partial_amsgrad(p=p, **each) for each in settings}, zero_gradients())
    assert_all_equal(found, zero_gradients())


@pytest.mark.parametrize("p", [P_FORMS["1/2"], P_FORMS["array"]], ids=["1/2", "array"])
def test_zero_gradients_give_zero_updates_in_the_family(p):
    settings = {name: {"initial_accumulator_value": 0.0} if name == "rss" else {} for name in FAMILY}
    optimizers = {
        (name, eps): make(eps=eps, p=p, **settings[name]) for name, make in FAMILY.items() for eps in (0.0, 1e-8)
    }
    gradients = zero_gradients(("float16", "float32"))
    assert_all_equal(trajectories(optimizers, gradients), gradients)


def test_zero_gradients_give_zero_updates_of_adabound():
    optimizers = {
        (eps, gamma, amsbound): adabound(0.1, eps=eps, gamma=gamma, amsbound=amsbound)
        for eps in (0.0, 1e-8)
        for gamma in (0.0, 1e-3)
        for amsbound in (False, True)
    }
    assert_all_equal(trajectories(optimizers, zero_gradients()), zero_gradients())


def test_a_coordinate_without_gradient_stays():
    gradients = jnp.array([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    optimizers = {form: scale_by_partial_amsgrad(eps=0.0, p=p) for form, p in P_FORMS.items()}
    for updates, _ in trajectories(optimizers, gradients).values():
        np.testing.assert_array_equal(updates[:2, 0], [0.0, 0.0])
        assert (updates[jnp.array([0, 1, 2, 2]), jnp.array([1, 1, 1, 0])] > 0).all()


# Underflow


def test_p_of_0_moves_where_the_square_underflows():
    optimizers = {
        (name, form): SCALES[name](eps=0.0, p=p)
        for name in ("amsgrad", *FAMILY)
        for form, p in {"number": 0, "array": jnp.float32(0)}.items()
    }
    for (name, _), (updates, _) in trajectories(optimizers, jnp.full((1, 2), 1e-30)).items():
        expected, rtol = (1e-31, 1e-6) if name == "amsgrad" else (1e-30, 1e-5)
        np.testing.assert_allclose(updates, jnp.full((1, 2), expected), rtol=rtol, err_msg=name)


def test_adagrad_with_a_sum_of_0_does_not_divide_by_eps():
    """As Optax: the gradient's square underflows, and g / sqrt(eps) would be larger than g."""
    both = {
        "ours": SCALES["rss"](initial_accumulator_value=0.0, p=1 / 2),
        "optax": optax.scale_by_rss(initial_accumulator_value=0.0),
    }
    assert_all_equal(trajectories(both, jnp.full((1, 2), 1e-30)), jnp.zeros((1, 2)))


TINY = {"float32": 1e-21, "float32 subnormal": 1e-42, "bfloat16": 1e-39, "float16": 6e-8}


def test_tiny_gradients_give_finite_updates():
    """The gradient or its square is subnormal."""
    gradients = {name: jnp.array([[tiny, -tiny, 0.0]] * 3, name.split()[0]) for name, tiny in TINY.items()}
    optimizers = {form: scale_by_partial_amsgrad(eps=0.0, p=p) for form, p in P_FORMS.items()}
    found = trajectories(optimizers, gradients)
    assert_finite({form: updates for form, (updates, _) in found.items()})
    for updates, _ in found.values():
        for leaf in updates.values():
            assert (leaf[:, 0] >= 0).all()
            assert (leaf[:, 1] <= 0).all()
            np.testing.assert_array_equal(leaf[:, 2], jnp.zeros(3, leaf.dtype))


def test_a_square_that_underflows_gives_finite_updates_of_adabound():
    gradients = {name: jnp.array([[tiny, 0.0]] * 3, name) for name, tiny in (("float32", 1e-30), ("float16", 6e-8))}
    gradients["float32 subnormal"] = jnp.array([[1e-42, 0.0]] * 3)
    optimizers = {
        (gamma, amsbound): adabound(0.1, eps=0.0, gamma=gamma, amsbound=amsbound)
        for gamma in (0.0, 1e-3)
        for amsbound in (False, True)
    }
    found = trajectories(optimizers, gradients)
    assert_finite({name: updates for name, (updates, _) in found.items()})
    for updates, _ in found.values():
        for leaf in updates.values():
            np.testing.assert_array_equal(leaf[:, 1], jnp.zeros(3, leaf.dtype))


# Overflow


HUGE = {"float32": 1e30, "bfloat16": 1e30, "float16": 6e4, "float64": 1e200, "complex64": 1e30 - 1e30j}


def huge_then_ordinary(dtypes):
    return {dtype: jnp.array([[HUGE[dtype]], [1.0], [1.0]], dtype) for dtype in dtypes}


@pytest.mark.parametrize(("dtypes", "nu_dtype"), [(list(HUGE), None), (["bfloat16"], "bfloat16")])
def test_a_square_that_overflows_saturates(dtypes, nu_dtype):
    """Were nu_max infinite, the coordinate would never move again."""
    with jax.enable_x64(True):
        optimizers = {
            (b1, p): scale_by_partial_amsgrad(b1=b1, p=p, nu_dtype=nu_dtype)
            for b1 in (0.0, 0.9)
            for p in (1 / 2, 1 / 8, 1 / 5)
        }
        found = trajectories(optimizers, huge_then_ordinary(dtypes))
        assert_finite({name: (updates, state.nu_max) for name, (updates, state) in found.items()})
        for updates, _ in found.values():
            for dtype, leaf in updates.items():
                assert leaf.dtype == dtype
                assert (leaf != 0).all()


@pytest.mark.parametrize("name", FAMILY)
def test_a_square_that_overflows_saturates_in_the_family(name):
    """The moments stay finite, so that the coordinate still moves afterwards; a variance may come out as 0."""
    optimizers = {form: FAMILY[name](p=P_FORMS[form]) for form in ("1/2", "array")}
    found = trajectories(optimizers, huge_then_ordinary(["float32", "bfloat16", "float16"]))
    assert_finite(found)
    for updates, _ in found.values():
        assert all((leaf[1:] != 0).all() for leaf in updates.values())


def test_a_square_that_overflows_saturates_in_adabound():
    optimizers = {amsbound: adabound(0.1, b1=0.0, gamma=1.0, amsbound=amsbound) for amsbound in (False, True)}
    found = trajectories(optimizers, huge_then_ordinary(["float32", "bfloat16", "float16"]))
    assert_finite({name: (updates, optax.tree.get(state, "nu")) for name, (updates, state) in found.items()})
    for updates, _ in found.values():
        assert all((leaf < 0).all() for leaf in updates.values())


def test_a_saturated_square_is_averaged():
    """nu becomes (1 - b2) times half the largest float32, not the largest itself."""
    gradients = {dtype: jnp.array([[1e30]], dtype) for dtype in ("float32", "bfloat16")}
    _, state = trajectory(scale_by_partial_amsgrad(), gradients)
    for nu in state.nu.values():
        np.testing.assert_allclose(nu, [0.0005 * np.finfo(np.float32).max], rtol=1e-4)


def test_saturated_squares_without_end_stay_finite():
    """Though each average is rounded, and never capped."""
    optimizers = [scale_by_partial_amsgrad(b2=b2) for b2 in (0.0, 0.9, 0.999, 0.999999)]
    gradient = jnp.full(3, 1e30)

    def step(states, _):
        results = [optimizer.update(gradient, state) for optimizer, state in zip(optimizers, states, strict=True)]
        finite = [jnp.isfinite(updates).all() & jnp.isfinite(state.nu).all() for updates, state in results]
        return [state for _, state in results], jnp.array(finite)

    states = [optimizer.init(gradient) for optimizer in optimizers]
    states, finite = jax.jit(lambda: jax.lax.scan(step, states, length=20_000))()
    assert bool(finite.all())
    assert all((state.nu_max > 0.001 * jnp.finfo(jnp.float32).max).all() for state in states)


def test_a_debiased_square_that_overflows_saturates():
    """Rounding takes the debiased average of the largest float32 beyond it, and the update would be 0."""
    transformation = SCALES["rms"](decay=jnp.linspace(0.5, 0.99, 50), bias_correction=True, p=1 / 2)
    updates, _ = trajectory(transformation, jnp.full((50, 50), 1e30))
    assert (updates > 0).all()


# Corrections, maxima


def test_nan_is_not_hidden():
    updates, state = trajectory(scale_by_partial_amsgrad(), jnp.array([[jnp.nan, 1.0]]))
    np.testing.assert_array_equal(jnp.isnan(updates), [[True, False]])
    np.testing.assert_array_equal(jnp.isnan(state.nu_max), [True, False])


@pytest.mark.parametrize("decay", [0, 0.0, 0.5, 0.9, 1 - 1e-9])
def test_weight_so_far_does_not_cancel(decay):
    """In float32 a number's 1 - decay^t is that of float64; float32 would round 1 - 1e-9 to 1."""
    t = np.array([1, 2, 50, 1_000, 100_000], np.float32)
    expected = -np.expm1(t.astype(np.float64) * np.log(decay)) if decay else np.ones(5)
    np.testing.assert_allclose(_averages.weight_so_far(decay, jnp.asarray(t)), expected, rtol=1e-6)


def test_a_variance_below_0_counts_as_0():
    """Rounding makes the variance of a constant gradient negative at some step, and Optax's root of it NaN."""
    gradients = jnp.full((200, 64), jnp.linspace(0.1, 10.0, 64))
    settings = {"eps": 0.0, "bias_correction": True}
    both = {"ours": SCALES["stddev"](p=1 / 2, **settings), "optax": optax.scale_by_stddev(**settings)}
    found = trajectories(both, gradients)
    assert jnp.isnan(found["optax"][0]).any()
    assert jnp.isfinite(found["ours"][0]).all()


@jax.jit
def all_nu_max(gradients):
    """`nu` and `nu_max` after each step, of Padam and of AMSBound."""
    transformations = [make(b2=0.5) for make in (SCALES["amsgrad"], SCALES["amsbound"])]

    def step(states, gradient):
        states = [tx.update(gradient, state)[1] for tx, state in zip(transformations, states, strict=True)]
        return states, [(state.nu, state.nu_max) for state in states]

    return jax.lax.scan(step, [tx.init(gradients[0]) for tx in transformations], gradients)[1]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.lists(st.floats(width=32, allow_nan=False), min_size=8, max_size=8))
def test_nu_max_never_falls(gradients):
    for nu, nu_max in all_nu_max(jnp.array(gradients, jnp.float32)):
        np.testing.assert_array_equal(nu_max, np.maximum.accumulate(np.asarray(nu)))
