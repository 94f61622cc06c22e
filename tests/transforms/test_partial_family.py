"""Properties of partially adaptive Adagrad, RMSprop, Adadelta and AdaMax."""

import functools
import inspect
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import padam_optax

SCALES = {
    "rss": padam_optax.scale_by_partial_rss,
    "rms": padam_optax.scale_by_partial_rms,
    "stddev": padam_optax.scale_by_partial_stddev,
    "adadelta": padam_optax.scale_by_partial_adadelta,
    "adamax": padam_optax.scale_by_partial_adamax,
}
ALIASES = {
    "adagrad": padam_optax.partial_adagrad,
    "rmsprop": padam_optax.partial_rmsprop,
    "adadelta": padam_optax.partial_adadelta,
    "adamax": padam_optax.partial_adamax,
}
each_scale = pytest.mark.parametrize("make", SCALES.values(), ids=SCALES)
each_alias = pytest.mark.parametrize("name", ALIASES)
each_factory = pytest.mark.parametrize("make", [*SCALES.values(), *ALIASES.values()], ids=lambda make: make.__name__)


def build(make, **settings):
    return make(0.1, **settings) if make in ALIASES.values() else make(**settings)


def random_gradients(steps: int) -> np.ndarray:
    """Gradients whose scale changes from coordinate to coordinate and falls with the steps."""
    normal = np.random.default_rng(0).normal(size=(steps, 5))
    return normal * np.geomspace(1, 0.1, steps)[:, None] * 10.0 ** np.arange(-2, 3)


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


# Optax's own, at p = 1/2


RMS = [
    {},
    {"decay": 0.99, "eps": 1e-3, "initial_scale": 1.0},
    {"eps_in_sqrt": False, "eps": 1e-2},
    {"bias_correction": True},
    {"bias_correction": True, "eps_in_sqrt": False},
]
CASES = [
    *[("scale_by_rss", settings) for settings in ({}, {"initial_accumulator_value": 0.0, "eps": 1e-3})],
    *[("scale_by_rms", settings) for settings in RMS],
    *[("scale_by_stddev", settings) for settings in RMS],
    *[("scale_by_adadelta", settings) for settings in ({}, {"rho": 0.5, "eps": 1e-2})],
    *[("scale_by_adamax", settings) for settings in ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-2})],
    *[("adagrad", settings) for settings in ({}, {"initial_accumulator_value": 1.0})],
    *[("rmsprop", settings) for settings in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True})],
    ("rmsprop", {"centered": True, "momentum": 0.5, "decay": 0.8, "eps_in_sqrt": False}),
    *[("adadelta", settings) for settings in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "rho": 0.5})],
    ("adadelta", {"weight_decay": 0.1, "weight_decay_mask": False}),
    *[("adamax", settings) for settings in ({}, {"b1": 0.5, "b2": 0.9, "eps": 1e-2})],
]


def ours(name: str):
    return getattr(padam_optax, name.replace("scale_by_", "scale_by_partial_") if "_" in name else f"partial_{name}")


@pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_p_of_one_half_is_optax(name, settings):
    gradients, params = random_gradients(50), jnp.linspace(-1.0, 1.0, 5)
    rate = () if name.startswith("scale_by") else (optax.linear_schedule(0.1, 0.01, 40),)
    with jax.enable_x64(True):
        updates, _ = trajectory(ours(name)(*rate, p=1 / 2, **settings), gradients, params.astype("float64"))
        expected, _ = trajectory(getattr(optax, name)(*rate, **settings), gradients, params.astype("float64"))
    # The debiased variance of a single gradient is rounding.
    first = 1 if name == "scale_by_stddev" and "bias_correction" in settings else 0
    np.testing.assert_allclose(updates[first:], expected[first:], rtol=1e-9)


@pytest.mark.parametrize("name", sorted({name for name, _ in CASES}))
def test_arguments_are_those_of_optax(name):
    """The same names in the same order with the same defaults, and p by keyword only."""
    *found, p = inspect.signature(ours(name)).parameters.values()
    expected = list(inspect.signature(getattr(optax, name)).parameters.values())
    assert [parameter.name for parameter in found] == [parameter.name for parameter in expected]
    # Adadelta's learning rate is None in Optax, which takes it for an error, and 1 here.
    assert [parameter.default for parameter in found if parameter.name != "learning_rate"] == [
        parameter.default for parameter in expected if parameter.name != "learning_rate"
    ]
    assert (p.name, p.kind) == ("p", inspect.Parameter.KEYWORD_ONLY)


def test_adadelta_has_a_learning_rate_of_1():
    gradient = jnp.array([1.0, -2.0])
    found, expected = (
        optimizer.update(gradient, optimizer.init(gradient))[0]
        for optimizer in (padam_optax.partial_adadelta(), padam_optax.partial_adadelta(1.0))
    )
    np.testing.assert_array_equal(found, expected)


# Any other p


def numpy_updates(name, gradients, p) -> np.ndarray:
    """The formulas of the docstrings with Optax's default arguments."""
    total, nu, mu, e_g, e_x, largest = 0.1, 0.0, 0.0, 0.0, 0.0, 0.0
    rows = []
    for t, g in enumerate(gradients, start=1):
        if name == "rss":
            total = total + g**2
            rows.append(g / (total + 1e-7) ** p)
        elif name == "rms":
            nu = 0.9 * nu + 0.1 * g**2
            rows.append(g / (nu + 1e-8) ** p)
        elif name == "stddev":
            mu, nu = 0.9 * mu + 0.1 * g, 0.9 * nu + 0.1 * g**2
            rows.append(g / (nu - mu**2 + 1e-8) ** p)
        elif name == "adadelta":
            e_g = 0.9 * e_g + 0.1 * g**2
            rows.append(((e_x + 1e-6) / (e_g + 1e-6)) ** p * g)
            e_x = 0.9 * e_x + 0.1 * rows[-1] ** 2
        else:
            mu, largest = 0.9 * mu + 0.1 * g, np.maximum(0.999 * largest, np.abs(g) + 1e-8)
            rows.append(mu / (1 - 0.9**t) / largest ** (2 * p))
    return np.stack(rows)


@pytest.mark.parametrize("p", [0, 1 / 8, 1 / 5, 3 / 8])
@pytest.mark.parametrize("name", SCALES)
def test_formula(name, p):
    gradients = random_gradients(60)
    with jax.enable_x64(True):
        updates, _ = trajectory(SCALES[name](p=p), gradients)
    np.testing.assert_allclose(updates, numpy_updates(name, gradients, p), rtol=1e-10)


@pytest.mark.parametrize("name", SCALES)
def test_every_form_of_p_agrees(name):
    gradients = random_gradients(20).astype(np.float32)
    p, make = 0.2, SCALES[name]
    expected = numpy_updates(name, random_gradients(20), p)
    forms = {
        "number": make(p=p),
        "array": make(p=jnp.asarray(p)),
        "schedule": make(p=lambda count: p + 0.0 * count),
        "injected": optax.inject_hyperparams(make)(p=p),
    }
    for form, optimizer in forms.items():
        np.testing.assert_allclose(trajectory(optimizer, gradients)[0], expected, rtol=1e-3, err_msg=form)
    traced = jax.jit(lambda p: trajectory(make(p=p), gradients)[0])(p)
    np.testing.assert_allclose(traced, expected, rtol=1e-3)


@pytest.mark.parametrize("name", SCALES)
def test_schedule_of_p_starts_at_count_0(name):
    """Adadelta's past updates, too, depend on p: its first update alone is compared."""
    values = jnp.array([0.5, 0.25, 0.0, 0.125])
    gradients = random_gradients(4)
    updates, _ = trajectory(SCALES[name](p=lambda count: values[count]), gradients)
    rows = range(1 if name == "adadelta" else 4)
    expected = [numpy_updates(name, gradients, float(values[row]))[row] for row in rows]
    np.testing.assert_allclose(updates[: len(expected)], expected, rtol=1e-3)


@pytest.mark.parametrize(("name", "settings"), [*[(name, {}) for name in ALIASES], ("rmsprop", {"momentum": 0.9})])
def test_p_of_0_is_sgd(name, settings):
    """With the debiased momentum for AdaMax."""
    gradients = random_gradients(30)
    sgd = optax.chain(optax.ema(0.9), optax.scale(-0.1)) if name == "adamax" else optax.sgd(0.1, **settings)
    with jax.enable_x64(True):
        updates, _ = trajectory(ALIASES[name](0.1, p=0, **settings), gradients)
        expected, _ = trajectory(sgd, gradients)
    np.testing.assert_allclose(updates, expected, rtol=1e-12)


@pytest.mark.parametrize("p", [1 / 8, 1 / 4, 0.4])
def test_adadelta_below_one_half_tends_to_sgd(p):
    """Under a steady gradient; at p = 1/2 the updates go on growing from the root of eps."""
    gradients = np.full((2_000, 3), [0.1, -1.0, 10.0], np.float32)
    updates, _ = trajectory(padam_optax.scale_by_partial_adadelta(eps=1e-12, p=p), gradients)
    np.testing.assert_allclose(updates[-1], gradients[-1], rtol=1e-3)
    assert np.all(np.abs(updates[0]) < 0.2 * np.abs(gradients[0]))


# Arguments


BAD_NUMBERS = {
    "p": (-0.01, 0.51, math.nan),
    **dict.fromkeys(("decay", "rho", "b1", "b2", "momentum"), (-0.1, 1, math.nan)),
    **dict.fromkeys(("eps", "initial_scale", "initial_accumulator_value", "weight_decay"), (-1e-8, math.inf)),
}


@each_factory
def test_bad_numbers(make):
    names = inspect.signature(make).parameters
    assert {*names} - {*BAD_NUMBERS} <= {
        *("learning_rate", "weight_decay_mask"),
        *("eps_in_sqrt", "centered", "nesterov", "bias_correction"),
    }
    for name in names:
        for value in BAD_NUMBERS.get(name, ()):
            with pytest.raises(ValueError, match=rf"^{name} must .*got {re.escape(str(value))}\b"):
                build(make, **{name: value})


@each_alias
def test_traced_arguments_equal_numbers(name):
    make = ALIASES[name]
    values = {"learning_rate": 0.3, "decay": 0.8, "rho": 0.8, "b1": 0.8, "b2": 0.99, "eps": 1e-3, "p": 0.2}
    values |= {"initial_accumulator_value": 0.5, "initial_scale": 0.5, "momentum": 0.7, "weight_decay": 0.01}
    settings = {key: value for key, value in values.items() if key in inspect.signature(make).parameters}
    gradients = random_gradients(5).astype(np.float32)

    def run(settings):
        return trajectory(make(**settings), gradients, jnp.ones(5))[0]

    np.testing.assert_allclose(jax.jit(run)(settings), run(settings), rtol=1e-3)


def test_traced_momentum_keeps_the_dtypes():
    gradients = jnp.ones((3, 2), jnp.bfloat16)

    def run(momentum):
        return trajectory(padam_optax.partial_rmsprop(0.1, momentum=momentum, nesterov=True), gradients)

    updates, state = jax.jit(run)(jnp.float32(0.9))
    assert updates.dtype == optax.tree.get(state, "trace").dtype == jnp.bfloat16


# Zeros, overflow, dtypes


P_FORMS = [pytest.param(1 / 2, id="1/2"), pytest.param(jnp.float32(1 / 8), id="array")]


@each_scale
@pytest.mark.parametrize("p", P_FORMS)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_zero_gradients_give_zero_updates(make, dtype, eps, p):
    settings = {"initial_accumulator_value": 0.0} if make is SCALES["rss"] else {}
    gradients = jnp.zeros((2, 3), dtype)
    updates, _ = trajectory(make(eps=eps, p=p, **settings), gradients)
    np.testing.assert_array_equal(updates, gradients)


@each_scale
@pytest.mark.parametrize("p", P_FORMS)
@pytest.mark.parametrize(("dtype", "huge"), [("float32", 1e30), ("bfloat16", 1e30), ("float16", 6e4)])
def test_a_square_that_overflows_saturates(make, dtype, huge, p):
    """The moments stay finite, so that the coordinate still moves afterwards; a variance may come out as 0."""
    updates, state = trajectory(make(p=p), jnp.array([[huge], [1.0], [1.0]], dtype))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
    assert (updates[1:] != 0).all()


def test_a_debiased_square_that_overflows_saturates():
    """Rounding takes the debiased average of the largest float32 beyond it, and the update would be 0."""
    transformation = SCALES["rms"](decay=jnp.linspace(0.5, 0.99, 50), bias_correction=True, p=1 / 2)
    updates, _ = trajectory(transformation, jnp.full((50, 50), 1e30))
    assert (updates > 0).all()


@each_scale
@pytest.mark.parametrize("p", [0, jnp.float32(0)], ids=["number", "array"])
def test_p_of_0_moves_where_the_square_underflows(make, p):
    updates, _ = trajectory(make(eps=0.0, p=p), jnp.full((1, 2), 1e-30))
    np.testing.assert_allclose(updates, jnp.full((1, 2), 1e-30), rtol=1e-5)


def test_adagrad_with_a_sum_of_0_does_not_divide_by_eps():
    """As Optax: the gradient's square underflows, and g / sqrt(eps) would be larger than g."""
    gradient = jnp.full((1, 2), 1e-30)
    for make in (functools.partial(SCALES["rss"], p=1 / 2), optax.scale_by_rss):
        updates, _ = trajectory(make(initial_accumulator_value=0.0), gradient)
        np.testing.assert_array_equal(updates, jnp.zeros((1, 2)))


def test_a_variance_below_0_counts_as_0():
    """Rounding makes the variance of a constant gradient negative at some step, and Optax's root of it NaN."""
    gradients = jnp.full((200, 64), jnp.linspace(0.1, 10.0, 64))
    expected, _ = trajectory(optax.scale_by_stddev(eps=0.0, bias_correction=True), gradients)
    assert jnp.isnan(expected).any()
    updates, _ = trajectory(SCALES["stddev"](eps=0.0, bias_correction=True, p=1 / 2), gradients)
    assert jnp.isfinite(updates).all()


def test_complex_parameters():
    gradient = jnp.array([3 + 4j], jnp.complex64)
    for name, make in SCALES.items():
        settings = {
            "rss": {"initial_accumulator_value": 0.0},
            "rms": {"decay": 0.0},
            "stddev": {"bias_correction": True, "initial_scale": 0.0},
            "adadelta": {"rho": 0.0},
            "adamax": {},
        }[name]
        updates, _ = trajectory(make(eps=0.0, p=1 / 4, **settings), gradient[None])
        # Adadelta does not start without eps; a variance of one gradient is 0.
        expected = 0 * gradient if name in ("adadelta", "stddev") else gradient / np.sqrt(5.0)
        np.testing.assert_allclose(updates[0], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@each_scale
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_dtypes(make, dtype):
    """Real accumulators in float32, updates like the parameters, and like the gradients or moments without them."""
    params = jnp.ones(2, dtype)
    transformation = make()
    state = transformation.init(params)
    for gradient_dtype in ("float16", "bfloat16", "float32"):
        updates, state = transformation.update(jnp.ones(2, gradient_dtype), state, params)
        assert updates.dtype == dtype
        real = [
            leaf for name in ("sum_of_squares", "nu", "e_g", "e_x") if (leaf := getattr(state, name, None)) is not None
        ]
        assert {leaf.dtype for leaf in real} == {jnp.dtype("float32")}
    assert transformation.update(params, state)[0].dtype == dtype


@each_factory
def test_trees(make):
    optimizer = build(make)
    params = {"w": jnp.ones(2), "absent": None, "masked": optax.MaskedNode(), "empty": jnp.ones((0, 2))}
    updates, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    _, state = jax.jit(optimizer.update, donate_argnums=1)(params, state, params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@each_factory
@pytest.mark.parametrize("number", [2.0, np.float64(2.0), np.array([2.0, 3.0])])
def test_python_and_numpy_parameters(make, number):
    optimizer = build(make)
    updates, _ = optimizer.update({"x": number}, optimizer.init({"x": number}), {"x": number})
    array = jnp.asarray(number)
    expected, _ = optimizer.update(array, optimizer.init(array), array)
    np.testing.assert_array_equal(updates["x"], expected)


@each_scale
def test_count_does_not_overflow(make):
    transformation = make()
    gradient = jnp.ones(2)
    state = transformation.init(gradient)
    assert transformation.update(gradient, state)[1].count == 1
    last = jnp.int32(np.iinfo(np.int32).max)
    updates, state = transformation.update(gradient, state._replace(count=last))
    assert state.count == last
    assert (updates > 0).all()
