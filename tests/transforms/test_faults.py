"""What reports on other libraries led to: false alarms, lost gradients, derivatives, wrong arguments."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import FACTORIES, SCALES, make
from trajectories import random_gradients, trajectories

import padam_optax
from padam_optax import padam, padamw, scale_by_partial_amsgrad

each_optimizer = pytest.mark.parametrize("name", FACTORIES)

# False alarms

LARGE = 16_384
P_FORMS = {"1/5": 1 / 5, "1/8": 1 / 8, "schedule": optax.linear_schedule(1 / 2, 1 / 8, 10)}


def two_steps(optimizer):
    """Updates of two eager steps, a row each: gradients of both signs, some 0, in a large array and in a small one."""
    params = {"large": jnp.linspace(-1, 1, LARGE), "small": jnp.array([0.0, 1e-3])}
    state = optimizer.init(params)
    rows = []
    for _ in range(2):
        updates, state = optimizer.update(params, state, params)
        rows.append(np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(updates)]))
    return np.stack(rows)


@pytest.mark.parametrize("flag", ["jax_debug_nans", "jax_debug_infs"])
@each_optimizer
def test_finite_gradients_raise_no_alarm(name, flag):
    with getattr(jax, flag.removeprefix("jax_"))(True):
        updates = two_steps(make(name))
    assert np.isfinite(updates).all()
    assert updates.any(axis=1).all()


@pytest.mark.parametrize("flag", ["jax_debug_nans", "jax_debug_infs"])
@pytest.mark.parametrize("form", P_FORMS)
def test_finite_gradients_raise_no_alarm_for_any_p(form, flag):
    injected = optax.inject_hyperparams(padam)(0.1, p=P_FORMS[form])
    settings = {"p": P_FORMS[form], "eps": 0.0}
    optimizers = [
        injected,
        *(padam(0.1, **settings, bias_correction=correction) for correction in ("none", "official", "debiased")),
        padam_optax.partial_rmsprop(0.1, **settings),
        padam_optax.adabound(0.1, eps=0.0, gamma=0.0),
        padam(0.1, b1=0.0, b2=0.0, p=P_FORMS[form]),
    ]
    with getattr(jax, flag.removeprefix("jax_"))(True):
        for disabled in (False, True):
            with jax.disable_jit() if disabled else contextlib.nullcontext():
                found = [two_steps(optimizer) for optimizer in (optimizers[:2] if disabled else optimizers)]
            assert np.isfinite(found).all()
            assert np.any(found, axis=-1).all()


# None in the place of a gradient


@each_optimizer
def test_a_missing_gradient_passes_through(name):
    """With an array in the parameters, with and without a moment of it, as Equinox's unfiltered models have."""
    optimizer = make(name)
    state = optimizer.init({"a": jnp.ones(2), "b": None, "c": jnp.ones(3)})
    params = {"a": jnp.ones(2), "b": jnp.array(6.0), "c": jnp.ones(3)}
    updates, new_state = optimizer.update({"a": jnp.ones(2), "b": None, "c": None}, state, params)
    assert updates["b"] is None
    assert updates["c"] is None
    assert jax.tree.structure(state) == jax.tree.structure(new_state)
    whole, _ = optimizer.update({"a": jnp.ones(2), "b": None, "c": jnp.ones(3)}, state, {**params, "b": None})
    if name != "padam-reference-all":
        np.testing.assert_array_equal(updates["a"], whole["a"])
    before, after = ([leaf for leaf in jax.tree.leaves(each) if leaf.shape == (3,)] for each in (state, new_state))
    # The vector of roots has three places too.
    for old, new in zip(before, after, strict=True):
        assert "reference" in name or np.array_equal(old, new)


@pytest.mark.parametrize("alias", [padam, padamw])
def test_a_missing_gradient_passes_decay_and_masks(alias):
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    for mask in (None, {"a": True, "b": False}, lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 0, tree)):
        optimizer = alias(0.1, weight_decay=0.1, mask=mask)
        updates, _ = optimizer.update({"a": jnp.ones(2), "b": None}, optimizer.init(params), params)
        assert updates["b"] is None
        assert np.isfinite(updates["a"]).all()


# Gradients whose squares overflow


@pytest.mark.parametrize("p", [1 / 8, 1 / 2])
def test_momentum_is_bounded_as_the_square_is(p):
    """A gradient above sqrt(max/2) counts as that: a step is the formula's, not 1e11 times as large."""
    bound = float(np.sqrt(np.float64(np.finfo(np.float32).max) / 2))
    optimizer = scale_by_partial_amsgrad(p=p)
    largest, larger = (
        optimizer.update(jnp.float32(value), optimizer.init(jnp.float32(0)))[0] for value in (bound, 1e30)
    )
    np.testing.assert_allclose(larger, largest, rtol=1e-6)
    np.testing.assert_allclose(largest, 0.1 * bound / (np.sqrt(0.001) * bound) ** (2 * p), rtol=1e-4)
    for value in (jnp.inf, jnp.nan):
        assert not np.isfinite(optimizer.update(jnp.float32(value), optimizer.init(jnp.float32(0)))[0])


# Derivatives through the optimizer


@pytest.mark.parametrize("name", ["padam-1/8", "padam-1/2", "padam-1/5", "padam-official", "padam-reference"])
def test_derivatives_where_a_gradient_is_0(name):
    """Finite; and those of finite differences where no gradient is 0."""
    optimizer = make(name)
    target = jnp.array([1.0, -2.0, 0.5])

    def after_two_steps(scale, gradient):
        params, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))
        for _ in range(2):
            updates, state = optimizer.update(scale * gradient, state, params)
            params = optax.apply_updates(params, updates)
        return jnp.sum((params - target) ** 2)

    with jax.enable_x64(True):
        zeros, others = jnp.array([0.0, 1e-3, 0.0]), jnp.array([0.3, 1e-3, -2.0])
        both = jax.jit(jax.grad(after_two_steps, argnums=(0, 1)))
        for gradient in (zeros, others):
            assert all(np.isfinite(leaf).all() for leaf in both(1.0, gradient))
        step = 1e-6
        numeric = (after_two_steps(1 + step, others) - after_two_steps(1 - step, others)) / (2 * step)
        np.testing.assert_allclose(both(1.0, others)[0], numeric, rtol=1e-5, atol=1e-8)


def test_rounding_passes_derivatives_through():
    """As the identity would, to a moment kept in bfloat16."""

    def moment(gradient, **settings):
        optimizer = scale_by_partial_amsgrad(**settings)
        return optimizer.update(gradient, optimizer.init(gradient))[1].nu_max.astype(jnp.float32)

    narrow, wide = (jax.grad(functools.partial(moment, **each))(2.0) for each in ({"nu_dtype": "bfloat16"}, {}))
    np.testing.assert_allclose(narrow, wide, rtol=0.01)


# Wrong arguments


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[
            ({"nu_dtype": dtype}, "^nu_dtype must be None or one of bfloat16, float32, float64; got")
            for dtype in ("float16", "float8_e5m2", jnp.float8_e4m3fn, "int32", "complex64", "half a byte")
        ],
        *[
            ({"mu_dtype": dtype}, "^mu_dtype must be None or one of float16, bfloat16")
            for dtype in ("float8_e5m2", "int32", "bool", "complex64")
        ],
        (
            {"nu_rounding": "stochastic"},
            "^nu_rounding needs nu_dtype bfloat16; got nu_rounding='stochastic' and nu_dtype=None",
        ),
        ({"nu_rounding": "nearest", "nu_dtype": "float32"}, "^nu_rounding needs nu_dtype bfloat16"),
        ({"b1": (0.9, 0.99)}, r"^b1 must be a number in \[0, 1\), an array; got \(0.9, 0.99\)"),
        ({"b2": "0.9"}, "^b2 must be a number"),
        ({"p": "1/8"}, r"^p must be a number in \[0, 1/2\], an array or a schedule; got '1/8'"),
        ({"p": 0.1j}, "^p must be a number"),
        ({"p": float("nan")}, r"^p must be in \[0, 1/2\], got nan"),
        ({"eps": None}, "^eps must be a finite number"),
    ],
)
def test_refuses_at_construction(settings, message):
    with pytest.raises(ValueError, match=message):
        scale_by_partial_amsgrad(**settings)


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), "0.1", 0.1j])
@each_optimizer
def test_refuses_a_learning_rate(name, rate):
    with pytest.raises(ValueError, match=r"^learning_rate must be (finite|a finite number)"):
        make(name, rate)


@pytest.mark.parametrize("alias", [padam, padamw])
def test_warns_of_a_p_given_as_b1(alias, recwarn):
    with pytest.warns(UserWarning, match="^b1 is 0.125 and p has its default, 1/8. If 0.125 was meant for p, write p="):
        alias(0.1, 1 / 8)
    recwarn.clear()
    for settings in ({"p": 1 / 8}, {"b1": 0.0}, {"b1": 0.5}, {"b1": 0.2, "p": 0.125}, {}):
        alias(0.1, **settings)
    assert not recwarn.list


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("dtype", ["int32", "bool", "float8_e5m2"])
def test_refuses_leaves_by_their_path(name, dtype):
    scale = SCALES[name]()
    good, bad = {"w": {"k": jnp.ones(2)}}, {"w": {"k": jnp.ones(2, dtype)}}
    with pytest.raises(TypeError, match=rf"^Parameters must be of .*; the one at \['w'\]\['k'\] is of {dtype}"):
        scale.init(bad)
    with pytest.raises(TypeError, match=rf"^Gradients must be of .*; the one at \['w'\]\['k'\] is of {dtype}"):
        scale.update(bad, scale.init(good))


@pytest.mark.parametrize("name", SCALES)
def test_refuses_another_shape(name):
    scale = SCALES[name]()
    params = {"w": jnp.ones((3, 1))}
    with pytest.raises(ValueError, match=r"^The gradient at \['w'\] has the shape \(3,\); its parameter has \(3, 1\)"):
        scale.update({"w": jnp.ones(3)}, scale.init(params))


# What the documentation says with a number


def test_one_huge_gradient_is_never_forgotten():
    """One of 1e4 among gradients of 1 divides all later steps by 10^(5p), for good."""
    gradients = np.ones((5_000, 2), np.float32)
    gradients[10, 1] = 1e4
    for p, (updates, _) in trajectories({p: scale_by_partial_amsgrad(p=p) for p in (1 / 8, 1 / 2)}, gradients).items():
        ratio = updates[-1, 0] / updates[-1, 1]
        np.testing.assert_allclose(np.log10(ratio), 5 * p, atol=0.02)


def test_random_gradients_are_as_before():
    """The bound on squares changes nothing below it, bit by bit."""
    gradients = random_gradients(4).astype(np.float32)
    bounded = jnp.where(jnp.abs(gradients) < 1, gradients, 1)
    np.testing.assert_array_equal(padam_optax.transforms.widened(bounded), bounded)
