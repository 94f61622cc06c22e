"""Properties of scale_by_partial_amsgrad, padam and padamw."""

import functools
import inspect
import math
import pickle
import re

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import padam_optax
from padam_optax import padam, padamw, scale_by_partial_amsgrad

INT32_MAX = np.iinfo(np.int32).max
CORRECTIONS = ["none", "official", "debiased"]
FACTORIES = {
    "scale_by_partial_amsgrad": scale_by_partial_amsgrad,
    "padam": functools.partial(padam, 0.1),
    "padamw": functools.partial(padamw, 0.1),
}
each_factory = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
each_correction = pytest.mark.parametrize("correction", CORRECTIONS)
each_alias = pytest.mark.parametrize("alias", [padam, padamw])


def random_gradients(steps: int, shape=(5,), seed: int = 0) -> np.ndarray:
    """Gradients whose scale changes from coordinate to coordinate and falls with the steps."""
    normal = np.random.default_rng(seed).normal(size=(steps, *shape))
    return normal * np.geomspace(1, 0.1, steps).reshape(-1, *[1] * len(shape)) * 10.0 ** np.arange(-2, shape[-1] - 2)


def trajectory(optimizer, gradients, params=None):
    """Updates of each step, stacked, and the last state; parameters stay where they are."""
    params = jnp.zeros_like(gradients[0]) if params is None else params

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state, params)
        return state, updates

    state, updates = jax.jit(lambda state, gradients: jax.lax.scan(step, state, gradients))(
        optimizer.init(params), jnp.asarray(gradients)
    )
    return updates, state


def numpy_updates(gradients, b1=0.9, b2=0.999, eps=1e-8, *, p, correction="none") -> np.ndarray:
    mu = nu = nu_max = np.zeros_like(gradients[0])
    rows = []
    for t, gradient in enumerate(gradients, start=1):
        mu = b1 * mu + (1 - b1) * gradient
        nu = b2 * nu + (1 - b2) * gradient**2
        nu_max = np.maximum(nu_max, nu)
        factor = {
            "none": 1.0,
            "official": math.sqrt(1 - b2**t) / (1 - b1**t),
            "debiased": (1 - b2**t) ** p / (1 - b1**t),
        }[correction]
        rows.append(factor * mu / (np.sqrt(nu_max) + eps) ** (2 * p))
    return np.stack(rows)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


# Arguments


BAD_ARGUMENTS = [
    *[("p", value) for value in (-0.01, 0.51, 1, math.nan, np.float32(0.75), np.float64(-1e-9), np.int64(1))],
    *[(name, value) for name in ("b1", "b2") for value in (-0.1, 1, 1.0, math.nan, np.float32(1.5))],
    *[("eps", value) for value in (-1e-8, math.inf, math.nan, np.float32(-1))],
]


@each_factory
@pytest.mark.parametrize(("name", "value"), BAD_ARGUMENTS)
def test_bad_number(make, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must .*got {re.escape(str(value))}\b"):
        make(**{name: value})


@each_alias
@pytest.mark.parametrize("value", [-1e-4, math.inf, math.nan, np.float32(-1)])
def test_bad_weight_decay(alias, value):
    with pytest.raises(ValueError, match=rf"^weight_decay must .*got {re.escape(str(value))}"):
        alias(0.1, weight_decay=value)


@each_factory
def test_unknown_bias_correction(make):
    with pytest.raises(ValueError, match=r"^bias_correction must be one of none, official, debiased; got 'adam'\.$"):
        make(bias_correction="adam")


@each_factory
@pytest.mark.parametrize("number", [float, np.float32, np.float64, np.float16])
def test_numpy_scalars_are_numbers(make, number):
    settings = {"b1": 0.5, "b2": 0.75, "eps": 0.0, "p": 0.125}
    gradient = jnp.array([1.0, -2.0])
    updates, expected = (
        optimizer.update(gradient, optimizer.init(gradient), gradient)[0]
        for optimizer in (make(**{name: number(value) for name, value in settings.items()}), make(**settings))
    )
    np.testing.assert_array_equal(updates, expected)


@each_factory
@pytest.mark.parametrize("settings", [{"p": 0}, {"p": 0.5}, {"b1": 0}, {"b2": 0.0}, {"eps": 0}])
def test_ends_of_the_ranges(make, settings):
    gradient = jnp.array([1.0, 0.0])
    optimizer = make(**settings)
    updates, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    assert jnp.isfinite(updates).all()


@each_alias
@each_correction
def test_traced_arguments_equal_numbers(alias, correction):
    gradients = random_gradients(5).astype(np.float32)
    settings = {"learning_rate": 0.3, "b1": 0.8, "b2": 0.99, "eps": 1e-3, "p": 0.2, "weight_decay": 0.01}
    params = jnp.ones(5)

    def run(settings):
        return trajectory(alias(**settings, bias_correction=correction), gradients, params)[0]

    np.testing.assert_allclose(jax.jit(run)(settings), run(settings), rtol=1e-4)


@each_factory
def test_traced_arguments_are_not_checked(make):
    gradient = jnp.ones(2)

    def update(p, b1, b2, eps):
        optimizer = make(b1, b2, eps, p=p) if make is scale_by_partial_amsgrad else make(b1=b1, b2=b2, eps=eps, p=p)
        return optimizer.update(gradient, optimizer.init(gradient), gradient)[0]

    assert jax.jit(update)(0.75, -0.5, 0.5, 1.0).shape == (2,)


@each_factory
def test_p_is_keyword_only(make):
    assert inspect.signature(make).parameters["p"].kind is inspect.Parameter.KEYWORD_ONLY


PUBLIC = [
    *[make() for make in FACTORIES.values()],
    padam_optax.scale_by_adabound(final_ratio=1.0),
    padam_optax.adabound(0.1),
    padam(0.1, weight_decay=0.1, mask=True),
]


@pytest.mark.parametrize("optimizer", PUBLIC)
def test_extra_arguments(optimizer):
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    params = jnp.ones(2)
    updates, _ = optimizer.update(params, optimizer.init(params), params, value=1.0, anything=None)
    assert updates.shape == (2,)


# Formulas


def test_p_of_0_is_sgd_with_momentum():
    gradients = random_gradients(50)
    with jax.enable_x64(True):
        updates, _ = trajectory(padam(0.1, 0.9, p=0), gradients)
        expected, _ = trajectory(optax.sgd(0.1 * (1 - 0.9), momentum=0.9), gradients)
    np.testing.assert_allclose(updates, expected, rtol=1e-12)


@pytest.mark.parametrize("eps", [0.0, 1e-8, 0.1])
def test_p_of_one_half_is_amsgrad(eps):
    gradients = random_gradients(50)
    amsgrad = optax.scale_by_amsgrad(eps=eps, bias_correction_mu=False, bias_correction_nu=False)
    with jax.enable_x64(True):
        updates, _ = trajectory(scale_by_partial_amsgrad(eps=eps, p=1 / 2), gradients)
        expected, _ = trajectory(amsgrad, gradients)
    np.testing.assert_allclose(updates, expected, rtol=1e-12)


@each_correction
@pytest.mark.parametrize("p", [0, 1 / 16, 1 / 8, 1 / 5, 1 / 2])
def test_formula(p, correction):
    gradients = random_gradients(60)
    with jax.enable_x64(True):
        updates, _ = trajectory(scale_by_partial_amsgrad(eps=1e-3, p=p, bias_correction=correction), gradients)
    np.testing.assert_allclose(updates, numpy_updates(gradients, eps=1e-3, p=p, correction=correction), rtol=1e-11)


@pytest.mark.parametrize("p", [0, 1 / 8, 1 / 2])
def test_official_correction_is_a_warm_up(p):
    """.316 at t = 1, .22 at 50 and .80 at 1000, whatever p is."""
    gradients = np.ones((1_000, 1), np.float32)
    corrected, plain = (
        trajectory(scale_by_partial_amsgrad(p=p, bias_correction=name), gradients)[0] for name in ("official", "none")
    )
    ratio = np.asarray(corrected / plain)[:, 0]
    np.testing.assert_allclose(ratio[0], 0.316, atol=5e-4)
    np.testing.assert_allclose(ratio[[49, 999]], [0.22, 0.80], atol=5e-3)


def test_debiased_correction_undoes_the_bias():
    """Under a constant gradient g the update is g^(1 - 2p) at every step."""
    gradients = np.full((200, 3), [0.1, 1.0, 10.0], np.float32)
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=0.0, p=1 / 8, bias_correction="debiased"), gradients)
    np.testing.assert_allclose(updates, gradients**0.75, rtol=1e-4)


@each_correction
def test_float32_corrections_do_not_cancel(correction):
    """1 - 0.9999999^t is lost in float32 if 0.9999999 is rounded to it first."""
    gradients = random_gradients(50)
    settings = {"b2": 1 - 1e-9, "p": 1 / 8}
    updates, _ = trajectory(scale_by_partial_amsgrad(**settings, bias_correction=correction), gradients)
    np.testing.assert_allclose(updates, numpy_updates(gradients, **settings, correction=correction), rtol=2e-4)


# p as number, traced scalar, schedule


def test_every_form_of_p_agrees():
    gradients = random_gradients(20).astype(np.float32)
    p, expected = 0.2, numpy_updates(random_gradients(20), p=0.2)
    forms = {
        "number": scale_by_partial_amsgrad(p=p),
        "numpy": scale_by_partial_amsgrad(p=np.float32(p)),
        "array": scale_by_partial_amsgrad(p=jnp.asarray(p)),
        "schedule": scale_by_partial_amsgrad(p=optax.constant_schedule(p)),
        "traced schedule": scale_by_partial_amsgrad(p=lambda count: p + 0.0 * count),
        "injected number": optax.inject_hyperparams(scale_by_partial_amsgrad)(p=p),
        "injected schedule": optax.inject_hyperparams(scale_by_partial_amsgrad)(p=lambda count: p + 0.0 * count),
    }
    for name, optimizer in forms.items():
        np.testing.assert_allclose(trajectory(optimizer, gradients)[0], expected, rtol=1e-4, err_msg=name)
    traced = jax.jit(lambda p: trajectory(scale_by_partial_amsgrad(p=p), gradients)[0])(p)
    np.testing.assert_allclose(traced, expected, rtol=1e-4)


def test_schedule_of_p_starts_at_count_0():
    values = [0.5, 0.25, 0.0, 0.125]
    gradients = random_gradients(4)
    updates, _ = trajectory(scale_by_partial_amsgrad(p=lambda count: jnp.array(values)[count]), gradients)
    expected = np.stack([numpy_updates(gradients, p=p)[step] for step, p in enumerate(values)])
    np.testing.assert_allclose(updates, expected, rtol=1e-4)


def test_vmap_over_p_and_rate_equals_a_loop():
    gradients = random_gradients(20).astype(np.float32)
    p, rate = jnp.array([0.0, 1 / 8, 1 / 5, 1 / 2]), jnp.array([1.0, 0.3, 0.1, 0.01])
    lanes = jax.vmap(lambda p, rate: trajectory(padam(rate, p=p), gradients)[0])(p, rate)
    loop = [trajectory(padam(float(rate), p=float(p)), gradients)[0] for p, rate in zip(p, rate, strict=True)]
    np.testing.assert_allclose(lanes, np.stack(loop), rtol=1e-4)


# Weight decay


def decay_problem():
    params = {"layer": {"w": jnp.array([1.0, -2.0]), "b": jnp.array([3.0])}, "norm": jnp.array([4.0, 5.0])}
    return params, jax.tree.map(lambda x: 0.5 * x + 0.1, params)


def one_update(optimizer, gradients, params):
    return optimizer.update(gradients, optimizer.init(params), params)[0]


def test_padam_decay_is_added_to_the_gradient():
    params, gradients = decay_problem()
    updates = one_update(padam(0.1, weight_decay=0.01), gradients, params)
    expected = one_update(padam(0.1), jax.tree.map(lambda g, x: g + 0.01 * x, gradients, params), params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)


def test_padamw_decay_is_added_to_the_update():
    params, gradients = decay_problem()
    updates = one_update(padamw(0.1, weight_decay=0.01), gradients, params)
    scaled = one_update(scale_by_partial_amsgrad(), gradients, params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda u, x: -0.1 * (u + 0.01 * x), scaled, params), rtol=1e-6)


MASKS = {
    "tree": {"layer": {"w": True, "b": True}, "norm": False},
    "prefix": {"layer": True, "norm": False},
    "function": lambda tree: {"layer": jax.tree.map(lambda _: True, tree["layer"]), "norm": False},
}


@each_alias
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_mask_says_what_decays(alias, mask, decay):
    params, gradients = decay_problem()
    updates = one_update(alias(0.1, weight_decay=decay, mask=mask), gradients, params)
    plain = one_update(alias(0.1, weight_decay=0.0), gradients, params)
    decayed = one_update(alias(0.1, weight_decay=decay), gradients, params)
    chex.assert_trees_all_equal(updates, {"layer": decayed["layer"], "norm": plain["norm"]})


@each_alias
@pytest.mark.parametrize("zero", [0, 0.0, np.float32(0)])
def test_python_zero_leaves_decay_out(alias, zero):
    gradient = jnp.array([1.0, -2.0])
    optimizer = alias(0.1, weight_decay=zero)
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_array_equal(updates, one_update(padam(0.1), gradient, gradient))


@each_alias
@pytest.mark.parametrize("zero", [jnp.array(0.0), optax.constant_schedule(0.0)], ids=["array", "schedule"])
def test_any_other_zero_keeps_decay(alias, zero):
    gradient = jnp.array([1.0, -2.0])
    optimizer = alias(0.1, weight_decay=zero)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_array_equal(one_update(optimizer, gradient, gradient), one_update(padam(0.1), gradient, gradient))


@each_alias
def test_traced_decay_is_kept(alias):
    gradient, params = jnp.array([1.0, -2.0]), jnp.array([3.0, 4.0])
    update = jax.jit(lambda decay: one_update(alias(0.1, weight_decay=decay), gradient, params))
    for decay in (0.0, 0.5):
        expected = one_update(alias(0.1, weight_decay=decay), gradient, params)
        np.testing.assert_allclose(update(decay), expected, rtol=1e-6)


@each_alias
@pytest.mark.parametrize("mask", [None, True])
def test_state_has_one_structure_with_and_without_decay(alias, mask):
    """A checkpoint can be resumed with another number."""
    params = jnp.ones(2)
    without, with_decay = (alias(0.1, weight_decay=decay, mask=mask).init(params) for decay in (0.0, 0.1))
    assert jax.tree.structure(without) == jax.tree.structure(with_decay)


@each_alias
def test_scheduled_decay_equals_number(alias):
    params, gradients = decay_problem()
    by_schedule = one_update(alias(0.1, weight_decay=optax.constant_schedule(0.01)), gradients, params)
    chex.assert_trees_all_close(by_schedule, one_update(alias(0.1, weight_decay=0.01), gradients, params), rtol=1e-6)


# Zeros, overflow, underflow


P_FORMS = [pytest.param(1 / 2, id="1/2"), pytest.param(1 / 8, id="1/8"), pytest.param(1 / 5, id="1/5")]
TRACED_P = [pytest.param(jnp.float32(1 / 8), id="array")]


@each_correction
@pytest.mark.parametrize("p", P_FORMS + TRACED_P)
@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e-42])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_zero_gradients_give_zero_updates(dtype, eps, p, correction):
    gradients = jnp.zeros((2, 3), dtype)
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=eps, p=p, bias_correction=correction), gradients)
    np.testing.assert_array_equal(updates, gradients)


@pytest.mark.parametrize("p", P_FORMS + TRACED_P)
def test_a_coordinate_without_gradient_stays(p):
    gradients = jnp.array([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=0.0, p=p), gradients)
    np.testing.assert_array_equal(updates[:2, 0], [0.0, 0.0])
    assert (updates[jnp.array([0, 1, 2, 2]), jnp.array([1, 1, 1, 0])] > 0).all()


@pytest.mark.parametrize("p", [0, jnp.float32(0)])
def test_p_of_0_moves_where_the_square_underflows(p):
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=0.0, p=p), jnp.full((1, 2), 1e-30))
    np.testing.assert_allclose(updates, jnp.full((1, 2), 1e-31), rtol=1e-6)


OVERFLOWS = [
    pytest.param("float32", 1e30, None, id="float32"),
    pytest.param("bfloat16", 1e30, None, id="bfloat16"),
    pytest.param("float16", 6e4, None, id="float16"),
    pytest.param("float16", 6e4, "float16", id="float16-nu"),
    pytest.param("float64", 1e200, None, id="float64"),
    pytest.param("complex64", 1e30 - 1e30j, None, id="complex64"),
]


@pytest.mark.parametrize("b1", [0.0, 0.9])
@pytest.mark.parametrize("p", P_FORMS)
@pytest.mark.parametrize(("dtype", "huge", "nu_dtype"), OVERFLOWS)
def test_a_square_that_overflows_saturates(dtype, huge, nu_dtype, p, b1):
    """Were nu_max infinite, the coordinate would never move again."""
    with jax.enable_x64(True):
        gradients = jnp.array([[huge], [1.0], [1.0]], dtype)
        updates, state = trajectory(scale_by_partial_amsgrad(b1=b1, p=p, nu_dtype=nu_dtype), gradients)
        assert updates.dtype == dtype
        assert jnp.isfinite(updates).all()
        assert jnp.isfinite(state.nu_max).all()
        assert (updates != 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saturated_square_is_averaged(dtype):
    """nu becomes (1 - b2) times half the largest float32, not the largest itself."""
    _, state = trajectory(scale_by_partial_amsgrad(), jnp.array([[1e30]], dtype))
    np.testing.assert_allclose(state.nu, [0.0005 * np.finfo(np.float32).max], rtol=1e-4)


@pytest.mark.parametrize("b2", [0.0, 0.9, 0.999, 0.999999])
def test_saturated_squares_without_end_stay_finite(b2):
    """Though each average is rounded, and never capped."""
    optimizer = scale_by_partial_amsgrad(b2=b2)
    gradient = jnp.full(3, 1e30)

    def step(state, _):
        updates, state = optimizer.update(gradient, state)
        return state, jnp.isfinite(updates).all() & jnp.isfinite(state.nu).all()

    state, finite = jax.jit(lambda: jax.lax.scan(step, optimizer.init(gradient), length=20_000))()
    assert bool(finite.all())
    assert bool((state.nu_max > 0.001 * jnp.finfo(jnp.float32).max).all())


def test_nan_is_not_hidden():
    updates, state = trajectory(scale_by_partial_amsgrad(), jnp.array([[jnp.nan, 1.0]]))
    np.testing.assert_array_equal(jnp.isnan(updates), [[True, False]])
    np.testing.assert_array_equal(jnp.isnan(state.nu_max), [True, False])


@pytest.mark.parametrize("p", P_FORMS + TRACED_P)
@pytest.mark.parametrize(
    ("dtype", "tiny"), [("float32", 1e-42), ("float32", 1e-21), ("bfloat16", 1e-39), ("float16", 6e-8)]
)
def test_tiny_gradients_give_finite_updates(dtype, tiny, p):
    """The gradient or its square is subnormal."""
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=0.0, p=p), jnp.array([[tiny, -tiny, 0.0]] * 3, dtype))
    assert jnp.isfinite(updates).all()
    assert (updates[:, 0] >= 0).all()
    assert (updates[:, 1] <= 0).all()
    np.testing.assert_array_equal(updates[:, 2], jnp.zeros(3, dtype))


@jax.jit
def all_nu_max(gradients):
    transformation = scale_by_partial_amsgrad(b2=0.5)

    def step(state, gradient):
        _, state = transformation.update(gradient, state)
        return state, (state.nu, state.nu_max)

    return jax.lax.scan(step, transformation.init(gradients[0]), gradients)[1]


@hypothesis.settings(max_examples=50, deadline=None)
@hypothesis.given(st.lists(st.floats(width=32, allow_nan=False), min_size=8, max_size=8))
def test_nu_max_never_falls(gradients):
    nu, nu_max = map(np.asarray, all_nu_max(jnp.array(gradients, jnp.float32)))
    np.testing.assert_array_equal(nu_max, np.maximum.accumulate(nu))


# Dtypes


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_state_dtypes(dtype):
    params = jnp.ones(2, dtype)
    state = scale_by_partial_amsgrad().init(params)
    assert (state.mu.dtype, state.nu.dtype, state.nu_max.dtype) == (dtype, jnp.float32, jnp.float32)
    state = scale_by_partial_amsgrad(mu_dtype="bfloat16", nu_dtype="float16").init(params)
    mu_dtype = dtype if dtype == "complex64" else "bfloat16"
    assert (state.mu.dtype, state.nu.dtype, state.nu_max.dtype) == (mu_dtype, jnp.float16, jnp.float16)


STATE_DTYPES = [{}, {"mu_dtype": "float32"}, {"mu_dtype": "bfloat16", "nu_dtype": "bfloat16"}, {"nu_dtype": "float64"}]
DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("state_dtypes", STATE_DTYPES, ids=lambda dtypes: "-".join(dtypes) or "default")
@pytest.mark.parametrize("dtype", DTYPES)
def test_types_are_stable_whatever_the_gradient(dtype, state_dtypes):
    """In cond and scan, with and without parameters, each gradient's dtype with each optimizer."""
    with jax.enable_x64(True):
        params = jnp.ones(2, dtype)
        gradient_dtypes = DTYPES if dtype == "complex64" else DTYPES[:-1]
        for gradient_dtype in gradient_dtypes:
            gradient = jnp.ones(2, gradient_dtype)
            for alias in (functools.partial(padam, weight_decay=0.1), padamw, padam):
                optimizer = alias(0.1, p=1 / 5, bias_correction="official", **state_dtypes)

                def step(carry, _, optimizer=optimizer, gradient=gradient):
                    params, state = carry
                    updates, new_state = optimizer.update(gradient, state, params)
                    state = jax.lax.cond(params[0].real > 0, lambda: new_state, lambda: state)
                    return (optax.apply_updates(params, updates), state), updates

                carry = (params, optimizer.init(params))
                after, updates = jax.eval_shape(functools.partial(jax.lax.scan, step, length=3), carry)
                assert types(after) == types(carry)
                assert updates.dtype == dtype
            without_params = scale_by_partial_amsgrad(**state_dtypes)
            state = without_params.init(params)
            updates, new_state = jax.eval_shape(without_params.update, gradient, state)
            assert types(new_state) == types(state)
            follows_mu = "mu_dtype" not in state_dtypes or dtype == "complex64"
            assert updates.dtype == (dtype if follows_mu else gradient_dtype)


def test_16_bit_updates_are_those_of_float32_rounded():
    gradients = random_gradients(30).astype(np.float16)
    settings = {"eps": 1e-8, "p": 1 / 8, "bias_correction": "official", "mu_dtype": "float32"}
    narrow, _ = trajectory(scale_by_partial_amsgrad(**settings), gradients)
    wide, _ = trajectory(scale_by_partial_amsgrad(**settings), gradients.astype(np.float32))
    np.testing.assert_array_equal(narrow, wide.astype(np.float16))


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


def test_a_real_gradient_leaves_complex_momentum_complex():
    transformation = scale_by_partial_amsgrad(b1=0.5)
    params = jnp.array([1 + 1j], jnp.complex64)
    _, state = transformation.update(params, transformation.init(params), params)
    _, state = transformation.update(jnp.ones(1), state, params)
    np.testing.assert_allclose(state.mu, [0.75 + 0.25j], rtol=1e-6)


# Trees


TREES = {
    "none": {"w": jnp.ones(2), "absent": None},
    "masked": {"w": jnp.ones(2), "masked": optax.MaskedNode()},
    "empty": {},
    "zero-size": {"w": jnp.ones((0, 3)), "b": jnp.ones(2)},
    "scalar": jnp.float32(2.0),
    "tuple": (jnp.ones(2), [jnp.ones(1)]),
}


@each_factory
@pytest.mark.parametrize("params", TREES.values(), ids=TREES)
def test_trees(make, params):
    optimizer = make()
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))


@each_factory
@pytest.mark.parametrize("number", [2.0, np.float64(2.0), np.array([2.0, 3.0])])
def test_python_and_numpy_parameters(make, number):
    """Optax's optimizers take them too; float64 without x64 gives float32 and no warning."""
    optimizer = make()
    updates, state = optimizer.update({"x": number}, optimizer.init({"x": number}), {"x": number})
    assert updates["x"].dtype == optax.tree.get(state, "nu")["x"].dtype == jnp.float32
    expected = one_update(optimizer, jnp.asarray(number), jnp.asarray(number))
    np.testing.assert_allclose(updates["x"], expected, rtol=1e-6)


@each_factory
def test_abstract_init(make):
    optimizer = make()
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    expected = types(optimizer.init(params))
    assert types(jax.eval_shape(optimizer.init, abstract)) == expected
    assert types(optimizer.init(abstract)) == expected


@each_factory
def test_state_can_be_donated(make):
    """A donated state that holds one buffer twice is refused."""
    optimizer = make()
    params = {"w": jnp.ones((2, 2)), "v": jnp.ones((2, 2))}
    state = optimizer.init(params)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)
    _, new_state = jax.jit(optimizer.update, donate_argnums=1)(params, state, params)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(optax.tree.get(state, "nu_max")))
    assert jnp.isfinite(optax.tree.get(new_state, "nu_max")["w"]).all()


# In a training loop


def through_pickle(state, path):
    del path
    return pickle.loads(pickle.dumps(state))


def through_orbax(state, path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))


@pytest.mark.parametrize("through", [through_pickle, through_orbax])
@each_alias
def test_a_resumed_run_is_bit_equal(alias, through, tmp_path):
    optimizer = alias(optax.linear_schedule(0.1, 0.0, 10), p=optax.linear_schedule(0.5, 0.0, 10), nu_dtype="bfloat16")
    update = jax.jit(optimizer.update)
    params = {"w": jnp.ones(5, jnp.bfloat16)}
    gradients = [{"w": jnp.asarray(row, jnp.bfloat16)} for row in random_gradients(6)]
    state = optimizer.init(params)
    for gradient in gradients[:3]:
        _, state = update(gradient, state, params)
    resumed = through(state, tmp_path)
    for gradient in gradients[3:]:
        updates, state = update(gradient, state, params)
        resumed_updates, resumed = update(gradient, resumed, params)
        chex.assert_trees_all_equal((resumed_updates, resumed), (updates, state))
    assert jax.tree.structure(resumed) == jax.tree.structure(state)


@each_alias
def test_apply_if_finite_leaves_all_as_it_was(alias):
    optimizer = optax.apply_if_finite(alias(0.1), max_consecutive_errors=5)
    params = jnp.ones(2)
    updates, state = optimizer.update(params, optimizer.init(params), params)
    params = optax.apply_updates(params, updates)
    updates, after = optimizer.update(jnp.array([jnp.nan, 1.0]), state, params)
    np.testing.assert_array_equal(optax.apply_updates(params, updates), params)
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)
    updates, _ = optimizer.update(params, after, params)
    assert (updates != 0).all()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("p", [1 / 8, 1 / 5, None], ids=["1/8", "1/5", "argument"])
def test_export(p, platform):
    """Lowers for accelerators on a machine that has none."""
    params = {"w": jnp.ones((4, 3), jnp.bfloat16), "b": jnp.ones(3)}
    schedule = optax.piecewise_constant_schedule(0.1, {100: 0.1, 150: 0.1})

    def optimizer(p_argument):
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            padam(schedule, p=p_argument if p is None else p, weight_decay=5e-4, bias_correction="official"),
        )

    def step(p_argument, params, state):
        updates, state = optimizer(p_argument).update(params, state, params)
        return optax.apply_updates(params, updates), state

    arguments = (0.125, params, optimizer(0.125).init(params))
    exported = jax.export.export(jax.jit(step), platforms=[platform])(*arguments)
    assert exported.platforms == (platform,)
    assert len(exported.out_avals) == len(jax.tree.leaves(arguments[1:]))


@each_correction
def test_count_does_not_overflow(correction):
    transformation = scale_by_partial_amsgrad(bias_correction=correction)
    gradient = jnp.ones(2)
    state = transformation.init(gradient)
    assert transformation.update(gradient, state)[1].count == 1
    updates, state = transformation.update(gradient, state._replace(count=jnp.int32(INT32_MAX)))
    assert state.count.dtype == jnp.int32
    assert state.count == INT32_MAX
    assert (updates > 0).all()
