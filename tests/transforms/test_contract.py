"""What Optax's own tests ask of every optimizer, asked of ours."""

import inspect
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import FACTORIES, RATE, RATES, make, minimise

each_optimizer = pytest.mark.parametrize("name", FACTORIES)
each_16_and_32_bit = pytest.mark.parametrize("dtype", ["bfloat16", "float32"])

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


def params_and_gradients(dtype="float32"):
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]], dtype), "b": jnp.array([0.25, -0.5], dtype)}
    return params, jax.tree.map(lambda x: 2 * x + 1, params)


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


@each_optimizer
def test_converges_on_every_target(name):
    """The updates work element by element, so that one run minimises the sum of all the targets."""
    start, end = ({target: pair[i] for target, pair in TARGETS.items()} for i in (0, 1))

    def loss(params):
        quadratic = {target: value for target, value in params.items() if target != "rosenbrock"}
        return squared_distance(quadratic, {target: end[target] for target in quadratic}) + rosenbrock(
            params["rosenbrock"]
        )

    params, _ = minimise(make(name), loss, start, 10_000)
    chex.assert_trees_all_close(params, end, atol=1e-3)


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


@each_optimizer
@pytest.mark.parametrize("wrap", [schedule_free, mechanize, reduce_on_plateau, sam])
def test_converges_inside(wrap, name):
    start, end = TARGETS["parabola"]
    extra_args = {"value": lambda value: value} if wrap is reduce_on_plateau else {}
    params, state = minimise(wrap(name), lambda x: squared_distance(x, end), start, 10_000, **extra_args)
    if wrap is schedule_free:
        params = optax.contrib.schedule_free_eval_params(state, params)
    np.testing.assert_allclose(params, end, rtol=3e-2, atol=3e-2)


@each_optimizer
def test_schedule_equals_number(name):
    start, end = TARGETS["parabola"]
    by_number, by_schedule = (
        minimise(make(name, rate), lambda x: squared_distance(x, end), start, 10)[0]
        for rate in (1e-3, optax.constant_schedule(1e-3))
    )
    np.testing.assert_allclose(by_schedule, by_number, rtol=1e-6)


@each_optimizer
@each_16_and_32_bit
def test_inject_hyperparams(name, dtype):
    """In bfloat16 b2 would round to 1: the dtype of the hyper-parameters has to be told."""
    optimizer = make(name)
    injected = optax.inject_hyperparams(FACTORIES[name], hyperparam_dtype=jnp.float32)(learning_rate=RATES[name])
    params, gradients = params_and_gradients(dtype)
    expected, state = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    updates, injected_state = jax.jit(injected.update)(gradients, jax.jit(injected.init)(params), params)
    assert types(updates) == types(params)
    # Rounded to bfloat16, neighbours may differ by one unit in the last place.
    chex.assert_trees_all_close(updates, expected, rtol=1e-5 if dtype == "float32" else 2**-7)
    state_rtol = 2**-7 if name == "padam-bfloat16" else 1e-5
    chex.assert_trees_all_close(injected_state.inner_state, state, rtol=state_rtol, atol=1e-5)


@each_optimizer
@each_16_and_32_bit
def test_updates_have_the_dtype_of_the_parameters(name, dtype):
    optimizer = make(name)
    params, gradients = params_and_gradients(dtype)
    updates, _ = jax.eval_shape(optimizer.update, gradients, optimizer.init(params), params)
    assert types(updates) == types(params)


@each_optimizer
@pytest.mark.parametrize("gradient_dtype", ["own", "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"])
def test_types_are_stable_in_cond(name, dtype, gradient_dtype):
    optimizer = make(name)
    with jax.enable_x64(True):
        params = jnp.array([1.0, 2.0], dtype)
        gradients = jnp.ones(2, dtype if gradient_dtype == "own" else gradient_dtype)

        def step(params, state):
            updates, state = jax.lax.cond(
                params[0].real > 0,
                lambda: optimizer.update(gradients, state, params),
                lambda: (params, state),
            )
            return optax.apply_updates(params, updates), state

        state = optimizer.init(params)
        assert types(jax.eval_shape(step, params, state)) == types((params, state))


@each_optimizer
@each_16_and_32_bit
def test_multi_steps(name, dtype):
    optimizer = make(name)
    accumulating = optax.MultiSteps(optimizer, every_k_schedule=2)
    params, gradients = params_and_gradients(dtype)
    update = jax.jit(accumulating.update)
    first, state = update(gradients, accumulating.init(params), params)
    second, _ = update(gradients, state, params)
    expected, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    chex.assert_trees_all_equal(first, optax.tree.zeros_like(params))
    chex.assert_trees_all_close(second, expected, rtol=1e-6)


@each_optimizer
def test_masked(name):
    optimizer = make(name)
    params, gradients = params_and_gradients()
    masked = optax.masked(optimizer, {"w": True, "b": False})
    updates, _ = masked.update(gradients, masked.init(params), params)
    expected, _ = optimizer.update(gradients, optimizer.init(params), params)
    chex.assert_trees_all_equal(updates, {"w": expected["w"], "b": gradients["b"]})


@each_optimizer
def test_partition(name):
    optimizer, other = make(name), optax.sgd(0.5)
    params, gradients = params_and_gradients()
    parts = optax.partition({"ours": optimizer, "other": other}, {"w": "ours", "b": "other"})
    updates, _ = parts.update(gradients, parts.init(params), params)
    expected, _ = optimizer.update(gradients, optimizer.init(params), params)
    chex.assert_trees_all_close(updates, {"w": expected["w"], "b": -0.5 * gradients["b"]})


@pytest.mark.parametrize("name", [name for name in FACTORIES if name.startswith(("padam", "adabound"))])
def test_no_memory_beyond_one_leaf(name):
    """With donated buffers a step works in place."""
    optimizer = make(name)
    params = [jax.ShapeDtypeStruct((1000,), jnp.float32)] * 20

    def step(params, state, gradients):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, jax.eval_shape(optimizer.init, params), params)
    assert lowered.compile().memory_analysis().temp_size_in_bytes <= 4 * 1000


@each_optimizer
def test_second_call_does_not_compile(name, caplog):
    optimizer = make(name)
    params, gradients = params_and_gradients()

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    def compiled(params, state):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            params, state = step(params, state)
        return params, state, [message for message in caplog.messages if "compilation" in message]

    params, state, first = compiled(params, optimizer.init(params))
    *_, second = compiled(params, state)
    assert first
    assert not second


@each_optimizer
def test_map_params_reaches_the_moments_only(name):
    optimizer = make(name)
    params, _ = params_and_gradients()
    state = optimizer.init(params)
    mapped = optax.tree.map_params(optimizer, lambda moment: moment + 1, state)
    chex.assert_trees_all_equal(mapped, jax.tree.map(lambda leaf: leaf + 1 if leaf.ndim else leaf, state))
    assert optax.tree.get(mapped, "count") == 0


@each_optimizer
@each_16_and_32_bit
def test_abstract_init(name, dtype):
    optimizer = make(name)
    params, _ = params_and_gradients(dtype)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    state = optimizer.init(params)
    assert types(jax.eval_shape(optimizer.init, params)) == types(state)
    assert types(optimizer.init(abstract)) == types(state)


EXTREMES = {
    "float16": [0.0, 6e-8, 6e4, 65_504.0],
    "bfloat16": [0.0, 1e-40, 1e-30, 1e30],
    "float32": [0.0, 1e-45, 1e-40, 1e-30, 1e30],
}


@each_optimizer
@pytest.mark.parametrize("dtype", EXTREMES)
def test_an_ordinary_gradient_moves_what_an_extreme_one_met(name, dtype):
    """Squares of the largest would overflow, those of the smallest underflow; all stays finite, and none is stuck."""
    optimizer = make(name)
    extreme = jnp.array([sign * value for value in EXTREMES[dtype] for sign in (1, -1)], dtype)
    params = jnp.ones_like(extreme)
    updates, state = optimizer.update(extreme, optimizer.init(params), params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
    updates, state = optimizer.update(jnp.full_like(extreme, 0.5), state, params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
    assert (updates != 0).all()


@each_optimizer
def test_apply_if_finite(name):
    """One bad coordinate leaves all parameters and moments as they were, and the next step as it would be."""
    optimizer = optax.apply_if_finite(make(name), max_consecutive_errors=3)
    params, gradients = params_and_gradients()
    update = jax.jit(optimizer.update)
    updates, state = update(gradients, optimizer.init(params), params)
    params = optax.apply_updates(params, updates)
    expected, _ = update(gradients, state, params)
    inner_state = state.inner_state
    for number, bad in enumerate((jnp.nan, jnp.inf, -jnp.inf), 1):
        updates, state = update(gradients | {"b": gradients["b"].at[0].set(bad)}, state, params)
        chex.assert_trees_all_equal(optax.apply_updates(params, updates), params)
        chex.assert_trees_all_equal(state.inner_state, inner_state)
        assert state.total_notfinite == number
    updates, _ = update(gradients, state, params)
    chex.assert_trees_all_equal(updates, expected)


@each_optimizer
def test_unknown_extra_arguments_are_accepted(name):
    optimizer = make(name)
    params, gradients = params_and_gradients()
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, value=1.0, unknown="argument")
    expected, _ = optimizer.update(gradients, optimizer.init(params), params)
    chex.assert_trees_all_equal(updates, expected)


@each_optimizer
@pytest.mark.parametrize("rate", [RATE, optax.constant_schedule(RATE)], ids=["number", "schedule"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_strict_promotion(name, dtype, rate):
    """No implicit promotion of dtypes or ranks."""
    optimizer = make(name, rate)
    params, gradients = params_and_gradients(dtype)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        updates, _ = jax.eval_shape(lambda: optimizer.update(gradients, optimizer.init(params), params))
    assert types(updates) == types(params)
