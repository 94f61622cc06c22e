"""What Optax's own tests ask of every optimizer, asked of ours.

Compiling takes these tests' time: where it can, one program runs all optimizers, and each test reads its own part.
"""

import functools
import inspect
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import FACTORIES, RATE, RATES, make, minimise, side_by_side, types
from trajectories import trajectories

each_optimizer = pytest.mark.parametrize("name", FACTORIES)

TARGETS = {
    "parabola": (jnp.array([-1.0, 10.0, 1.0]), jnp.array([1.0, -1.0, 1.0])),
    "complex": (jnp.array([-1.0, 10.0, 1.0], jnp.complex64), jnp.array([1 + 1j, -1 - 1j, 1 + 1j], jnp.complex64)),
    "matrix": (jnp.zeros((2, 2)), jnp.array([[3.0, -2.0], [1.0, 4.0]])),
    "mixed": (
        (jnp.zeros(3), jnp.zeros((2, 2))),
        (jnp.array([1.0, -1.0, 2.0]), jnp.array([[1.0, 0.0], [-1.0, 1.0]])),
    ),
    "rosenbrock": (jnp.zeros(2), jnp.ones(2)),
}


def squared_distance(tree, other):
    return optax.tree.norm(optax.tree.sub(tree, other), squared=True)


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


def params_and_gradients():
    params = {"w": jnp.array([1.0, -2.0, 0.5]), "b": jnp.array([0.25, -0.5, 3.0])}
    return params, jax.tree.map(lambda x: 2 * x + 1, params)


def by_dtype(*dtypes):
    """Parameters and gradients of each dtype, in one tree."""
    params = {dtype: jnp.array([1.0, -2.0, 0.5], dtype) for dtype in dtypes}
    return params, jax.tree.map(lambda x: 2 * x + 1, params)


def for_each_optimizer(*trees):
    return [dict.fromkeys(FACTORIES, tree) for tree in trees]


@functools.cache
def first_update():
    """By optimizer: updates and state after one update, of 16- and 32-bit parameters."""
    params, gradients = for_each_optimizer(*by_dtype("bfloat16", "float32"))
    optimizers = side_by_side({name: make(name) for name in FACTORIES})
    return jax.jit(optimizers.update)(gradients, optimizers.init(params), params)


@functools.cache
def minimised():
    """Parameters of all optimizers: they work element by element, so that one run minimises the sum of all targets."""
    start, end = ({target: pair[i] for target, pair in TARGETS.items()} for i in (0, 1))

    def loss(params):
        quadratic = {target: value for target, value in params.items() if target != "rosenbrock"}
        return squared_distance(quadratic, {target: end[target] for target in quadratic}) + rosenbrock(
            params["rosenbrock"]
        )

    params, _ = minimise({name: make(name) for name in FACTORIES}, loss, start, 10_000)
    return params


@each_optimizer
@pytest.mark.parametrize("target", TARGETS)
def test_converges(name, target):
    chex.assert_trees_all_close(minimised()[name][target], TARGETS[target][1], atol=1e-3)


def schedule_free(name):
    """Its interpolation is the momentum."""
    no_momentum = {"b1": 0.0} if "b1" in inspect.signature(FACTORIES[name]).parameters else {}
    return optax.contrib.schedule_free(make(name, RATE, **no_momentum), learning_rate=RATE)


def mechanize(name):
    return optax.contrib.mechanize(make(name, learning_rate=1.0), weight_decay=0.0)


def reduce_on_plateau(name):
    return optax.chain(make(name), optax.contrib.reduce_on_plateau(patience=500))


def sam(name):
    # The usual adversary, normalised, divides by 0 where the gradient has become 0, whatever the optimizer.
    return optax.contrib.sam(make(name), optax.sgd(1e-3), sync_period=2)


def on_parabola(optimizers, steps, **extra_args):
    start, end = TARGETS["parabola"]
    return minimise(optimizers, lambda x: squared_distance(x, end), start, steps, **extra_args)


@functools.cache
def minimised_inside(wrap):
    extra_args = {"value": lambda value: value} if wrap is reduce_on_plateau else {}
    return on_parabola({name: wrap(name) for name in FACTORIES}, 10_000, **extra_args)


@each_optimizer
@pytest.mark.parametrize("wrap", [schedule_free, mechanize, reduce_on_plateau, sam])
def test_converges_inside(wrap, name):
    params, state = (tree[name] for tree in minimised_inside(wrap))
    if wrap is schedule_free:
        params = optax.contrib.schedule_free_eval_params(state, params)
    np.testing.assert_allclose(params, TARGETS["parabola"][1], rtol=3e-2, atol=3e-2)


@functools.cache
def ten_steps():
    """Parameters after ten steps at a rate that is a number, and at one that is a schedule."""
    rates = {"number": 1e-3, "schedule": optax.constant_schedule(1e-3)}
    params, _ = on_parabola({(name, form): make(name, rate) for form, rate in rates.items() for name in FACTORIES}, 10)
    return params


@each_optimizer
def test_schedule_equals_number(name):
    params = ten_steps()
    np.testing.assert_allclose(params[name, "schedule"], params[name, "number"], rtol=1e-6)


@functools.cache
def first_injected_update():
    """As `first_update`. In bfloat16 b2 would round to 1: the dtype of the hyper-parameters has to be told."""
    params, gradients = for_each_optimizer(*by_dtype("bfloat16", "float32"))
    inject = functools.partial(optax.inject_hyperparams, hyperparam_dtype=jnp.float32)
    optimizers = side_by_side({name: inject(make)(learning_rate=RATES[name]) for name, make in FACTORIES.items()})
    return jax.jit(optimizers.update)(gradients, jax.jit(optimizers.init)(params), params)


@each_optimizer
def test_inject_hyperparams(name):
    updates, state = (tree[name] for tree in first_injected_update())
    expected, expected_state = (tree[name] for tree in first_update())
    assert types(updates) == types(expected)
    # Rounded to bfloat16, neighbours may differ by one unit in the last place.
    for dtype, rtol in (("float32", 1e-5), ("bfloat16", 2**-7)):
        chex.assert_trees_all_close(updates[dtype], expected[dtype], rtol=rtol)
    state_rtol = 2**-7 if name == "padam-bfloat16" else 1e-5
    chex.assert_trees_all_close(state.inner_state, expected_state, rtol=state_rtol, atol=1e-5)


@each_optimizer
def test_updates_have_the_dtype_of_the_parameters(name):
    params, _ = by_dtype("bfloat16", "float32")
    assert types(first_update()[0][name]) == types(params)


PARAMETER_DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
GRADIENT_DTYPES = ["own", "float16", "bfloat16", "float32", "float64"]


@each_optimizer
def test_types_are_stable_in_cond(name):
    """Parameters of every dtype with gradients of every dtype, all in one tree."""
    optimizer = make(name)
    pairs = [(dtype, gradient_dtype) for dtype in PARAMETER_DTYPES for gradient_dtype in GRADIENT_DTYPES]
    with jax.enable_x64(True):
        params = {f"{own} {other}": jnp.array([1.0, 2.0], own) for own, other in pairs}
        gradients = {f"{own} {other}": jnp.ones(2, own if other == "own" else other) for own, other in pairs}

        def step(params, state):
            updates, state = jax.lax.cond(
                params["float32 own"][0] > 0,
                lambda: optimizer.update(gradients, state, params),
                lambda: (params, state),
            )
            return optax.apply_updates(params, updates), state

        state = optimizer.init(params)
        assert types(jax.eval_shape(step, params, state)) == types((params, state))


@functools.cache
def accumulated_updates():
    """By optimizer: the updates of two steps that accumulate one gradient each."""
    params, gradients = for_each_optimizer(*by_dtype("bfloat16", "float32"))
    accumulating = optax.MultiSteps(side_by_side({name: make(name) for name in FACTORIES}), every_k_schedule=2)
    update = jax.jit(accumulating.update)
    first, state = update(gradients, accumulating.init(params), params)
    second, _ = update(gradients, state, params)
    return first, second


@each_optimizer
def test_multi_steps(name):
    first, second = (updates[name] for updates in accumulated_updates())
    expected = first_update()[0][name]
    chex.assert_trees_all_equal(first, optax.tree.zeros_like(expected))
    chex.assert_trees_all_close(second, expected, rtol=1e-6)


@functools.cache
def eager_update(name):
    """Updates after one step that is not compiled."""
    optimizer = make(name)
    params, gradients = params_and_gradients()
    return optimizer.update(gradients, optimizer.init(params), params)[0]


# A reference of all coordinates is another one where some are left out; tests/transforms/test_reference_p.py has those.
each_of_its_own = pytest.mark.parametrize("name", [name for name in FACTORIES if name != "padam-reference-all"])


@each_of_its_own
def test_masked(name):
    params, gradients = params_and_gradients()
    masked = optax.masked(make(name), {"w": True, "b": False})
    updates, _ = masked.update(gradients, masked.init(params), params)
    chex.assert_trees_all_equal(updates, {"w": eager_update(name)["w"], "b": gradients["b"]})


@each_of_its_own
def test_partition(name):
    params, gradients = params_and_gradients()
    parts = optax.partition({"ours": make(name), "other": optax.sgd(0.5)}, {"w": "ours", "b": "other"})
    updates, _ = parts.update(gradients, parts.init(params), params)
    chex.assert_trees_all_close(updates, {"w": eager_update(name)["w"], "b": -0.5 * gradients["b"]})


@pytest.mark.parametrize("name", [name for name in FACTORIES if name.startswith(("padam", "adabound"))])
def test_no_memory_beyond_one_leaf(name):
    """With donated buffers a step works in place; what measures R needs two arrays of a leaf more on a CPU."""
    optimizer = make(name)
    params = [jax.ShapeDtypeStruct((10_000,), jnp.float32)] * 20

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, jax.eval_shape(optimizer.init, params), params)
    assert lowered.compile().memory_analysis().temp_size_in_bytes <= 4 * 10_000 * (3.1 if "reference" in name else 1)


def test_second_call_does_not_compile(caplog):
    optimizers = side_by_side({name: make(name) for name in FACTORIES})
    params, gradients = for_each_optimizer(*(tree["w"] for tree in params_and_gradients()))

    @jax.jit
    def step(params, state):
        updates, state = optimizers.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def compiled(params, state):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            params, state = step(params, state)
        return params, state, [message for message in caplog.messages if "compilation" in message]

    params, state, first = compiled(params, optimizers.init(params))
    *_, second = compiled(params, state)
    assert first
    assert not second


@each_optimizer
def test_map_params_reaches_the_moments_only(name):
    optimizer = make(name)
    params, _ = params_and_gradients()
    state = optimizer.init(params)
    mapped = optax.tree.map_params(optimizer, lambda moment: moment + 1, state)
    expected = jax.tree.map(lambda leaf: leaf + 1 if leaf.shape == (3,) else leaf, state)
    chex.assert_trees_all_equal(mapped, expected)
    assert optax.tree.get(mapped, "count") == 0


@each_optimizer
def test_abstract_init(name):
    optimizer = make(name)
    params, _ = by_dtype("bfloat16", "float32")
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    state = optimizer.init(params)
    assert types(jax.eval_shape(optimizer.init, params)) == types(state)
    assert types(optimizer.init(abstract)) == types(state)


EXTREMES = {
    "float16": [0.0, 6e-8, 6e4, 65_504.0],
    "bfloat16": [0.0, 1e-40, 1e-30, 1e30],
    "float32": [0.0, 1e-45, 1e-40, 1e-30, 1e30],
}


@functools.cache
def updates_after_extremes():
    """Updates of both steps and the last state, by optimizer, for an extreme gradient and then an ordinary one."""
    extreme = {
        dtype: jnp.array([sign * value for value in values for sign in (1, -1)], dtype)
        for dtype, values in EXTREMES.items()
    }
    gradients = jax.tree.map(lambda leaf: jnp.stack([leaf, jnp.full_like(leaf, 0.5)]), extreme)
    return trajectories({name: make(name) for name in FACTORIES}, gradients, optax.tree.ones_like(extreme))


@each_optimizer
@pytest.mark.parametrize("dtype", EXTREMES)
def test_an_ordinary_gradient_moves_what_an_extreme_one_met(name, dtype):
    """Squares of the largest would overflow, those of the smallest underflow; all stays finite, and none is stuck."""
    updates, state = updates_after_extremes()[name]
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates[dtype], state)))
    assert (updates[dtype][1] != 0).all()


@functools.cache
def updates_if_finite():
    """By optimizer: what `test_apply_if_finite` compares, from one program that all of them share."""
    _, gradient = params_and_gradients()
    params, gradients = for_each_optimizer(*params_and_gradients())
    optimizer = optax.apply_if_finite(side_by_side({name: make(name) for name in FACTORIES}), max_consecutive_errors=3)
    update = jax.jit(optimizer.update)
    _, state = update(gradients, optimizer.init(params), params)
    expected, _ = update(gradients, state, params)
    first, skipped = state, []
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        (bad_gradients,) = for_each_optimizer(gradient | {"b": gradient["b"].at[0].set(bad)})
        updates, state = update(bad_gradients, state, params)
        skipped.append((updates, state))
    return first, skipped, expected, update(gradients, state, params)[0]


@each_optimizer
def test_apply_if_finite(name):
    """One bad coordinate leaves all parameters and moments as they were, and the next step as it would be."""
    first, skipped, expected, after = updates_if_finite()
    params, _ = params_and_gradients()
    for number, (updates, state) in enumerate(skipped, 1):
        chex.assert_trees_all_equal(optax.apply_updates(params, updates[name]), params)
        chex.assert_trees_all_equal(state.inner_state[name], first.inner_state[name])
        assert state.total_notfinite == number
    chex.assert_trees_all_equal(after[name], expected[name])


@each_optimizer
def test_unknown_extra_arguments_are_accepted(name):
    optimizer = make(name)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    params, gradients = params_and_gradients()
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, value=1.0, unknown="argument")
    chex.assert_trees_all_equal(updates, eager_update(name))


@each_optimizer
@pytest.mark.parametrize("rate", [RATE, optax.constant_schedule(RATE)], ids=["number", "schedule"])
def test_strict_promotion(name, rate):
    """No implicit promotion of dtypes or ranks."""
    optimizer = make(name, rate)
    params, gradients = by_dtype("float16", "bfloat16", "float32", "complex64")
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        updates, _ = jax.eval_shape(lambda: optimizer.update(gradients, optimizer.init(params), params))
    assert types(updates) == types(params)
