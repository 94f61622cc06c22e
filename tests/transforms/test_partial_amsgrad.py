"""scale_by_partial_amsgrad, padam and padamw: arguments, formulas, every form of p, and a training loop's needs."""

import functools
import inspect
import math
import pickle
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import numpy_padam
import optax
import orbax.checkpoint as ocp
import pytest
from trajectories import random_gradients, trajectories, trajectory

from padam_optax import padam, padamw, scale_by_partial_amsgrad

CORRECTIONS = ["none", "official", "debiased"]
FACTORIES = {
    "scale_by_partial_amsgrad": scale_by_partial_amsgrad,
    "padam": functools.partial(padam, 0.1),
    "padamw": functools.partial(padamw, 0.1),
}
each_factory = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)
each_correction = pytest.mark.parametrize("correction", CORRECTIONS)
each_alias = pytest.mark.parametrize("alias", [padam, padamw])


def numpy_updates(gradients, **settings) -> np.ndarray:
    return np.stack([*numpy_padam.updates(gradients, **settings)])


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


def test_traced_arguments_equal_numbers():
    gradients = random_gradients(5).astype(np.float32)
    settings = {"learning_rate": 0.3, "b1": 0.8, "b2": 0.99, "eps": 1e-3, "p": 0.2, "weight_decay": 0.01}

    def run(settings):
        optimizers = {
            f"{alias.__name__} {correction}": alias(**settings, bias_correction=correction)
            for alias in (padam, padamw)
            for correction in CORRECTIONS
        }
        return {name: updates for name, (updates, _) in trajectories(optimizers, gradients, jnp.ones(5)).items()}

    chex.assert_trees_all_close(jax.jit(run)(settings), run(settings), rtol=1e-4)


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


# Formulas


def test_p_of_0_is_sgd_with_momentum():
    both = {"padam": padam(0.1, 0.9, p=0), "sgd": optax.sgd(0.1 * (1 - 0.9), momentum=0.9)}
    with jax.enable_x64(True):
        found = trajectories(both, random_gradients(50))
    np.testing.assert_allclose(found["padam"][0], found["sgd"][0], rtol=1e-12)


def test_p_of_one_half_is_amsgrad():
    optimizers = {}
    for eps in (0.0, 1e-8, 0.1):
        optimizers["padam", eps] = scale_by_partial_amsgrad(eps=eps, p=1 / 2)
        optimizers["amsgrad", eps] = optax.scale_by_amsgrad(eps=eps, bias_correction_mu=False, bias_correction_nu=False)
    with jax.enable_x64(True):
        found = trajectories(optimizers, random_gradients(50))
    for eps in (0.0, 1e-8, 0.1):
        np.testing.assert_allclose(found["padam", eps][0], found["amsgrad", eps][0], rtol=1e-12)


STEPS, RATE, DECAY = 1_000, 0.01, 5e-4
START = np.linspace(-1.0, 2.0, 5)
# Curvatures from 1e-2 to 1e2, and a gradient that is noise at first.
CURVATURE = 10.0 ** np.arange(-2, 3)
NOISE = random_gradients(STEPS)


@functools.cache
def numpy_iterates(p: float, correction: str) -> np.ndarray:
    """Parameters after every step of Algorithm 1 on a noisy quadratic with weight decay."""

    def gradient(x, t):
        return CURVATURE * x + NOISE[t - 1] + DECAY * x

    return numpy_padam.iterates(START, gradient, RATE, STEPS, p=p, bias_correction=correction)


def iterates(p, dtype: str) -> dict[str, jax.Array]:
    """The same from `padam`, by correction, in one scan."""
    optimizers = {
        correction: padam(RATE, p=p, weight_decay=DECAY, bias_correction=correction) for correction in CORRECTIONS
    }
    start, curvature, noise = (jnp.asarray(array, dtype) for array in (START, CURVATURE, NOISE))

    def step(carry, noise):
        results = {}
        for name, (x, state) in carry.items():
            updates, state = optimizers[name].update(curvature * x + noise, state, x)
            results[name] = (optax.apply_updates(x, updates), state)
        return results, {name: x for name, (x, _) in results.items()}

    carry = {name: (start, optimizer.init(start)) for name, optimizer in optimizers.items()}
    return jax.lax.scan(step, carry, noise)[1]


def assert_is_algorithm_1(found: dict[str, jax.Array], p: float, tolerance: float):
    """At every step, relative to the largest value that the coordinate takes."""
    for correction in CORRECTIONS:
        expected = numpy_iterates(p, correction)
        error = np.abs(np.asarray(found[correction], np.float64) - expected) / np.abs(expected).max(axis=0)
        assert error.max() < tolerance, (correction, error.max())


ALL_P = [0, 1 / 16, 1 / 8, 1 / 5, 1 / 2]


@functools.cache
def iterates_of_traced_p(dtype: str):
    return jax.jit(functools.partial(iterates, dtype=dtype))


@pytest.mark.parametrize("p", ALL_P)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_a_thousand_steps_are_algorithm_1(p, dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        assert_is_algorithm_1(iterates_of_traced_p(dtype)(jnp.asarray(p, dtype)), p, tolerance)


@functools.cache
def iterates_of_numbers() -> dict[float, dict[str, jax.Array]]:
    with jax.enable_x64(True):
        return jax.jit(lambda: {p: iterates(p, "float64") for p in ALL_P})()


@pytest.mark.parametrize("p", ALL_P)
def test_a_thousand_steps_with_a_python_number(p):
    assert_is_algorithm_1(iterates_of_numbers()[p], p, 1e-13)


def test_official_correction_is_a_warm_up():
    """.316 at t = 1, .22 at 50 and .80 at 1000, whatever p is."""
    optimizers = {
        (p, name): scale_by_partial_amsgrad(p=p, bias_correction=name)
        for p in (0, 1 / 8, 1 / 2)
        for name in ("official", "none")
    }
    found = trajectories(optimizers, np.ones((1_000, 1), np.float32))
    for p in (0, 1 / 8, 1 / 2):
        ratio = np.asarray(found[p, "official"][0] / found[p, "none"][0])[:, 0]
        np.testing.assert_allclose(ratio[0], 0.316, atol=5e-4)
        np.testing.assert_allclose(ratio[[49, 999]], [0.22, 0.80], atol=5e-3)


def test_debiased_correction_undoes_the_bias():
    """Under a constant gradient g the update is g^(1 - 2p) at every step."""
    gradients = np.full((200, 3), [0.1, 1.0, 10.0], np.float32)
    updates, _ = trajectory(scale_by_partial_amsgrad(eps=0.0, p=1 / 8, bias_correction="debiased"), gradients)
    np.testing.assert_allclose(updates, gradients**0.75, rtol=1e-4)


def test_float32_corrections_do_not_cancel():
    """1 - 0.9999999^t is lost in float32 if 0.9999999 is rounded to it first."""
    gradients = random_gradients(50)
    settings = {"b2": 1 - 1e-9, "p": 1 / 8}
    optimizers = {name: scale_by_partial_amsgrad(**settings, bias_correction=name) for name in CORRECTIONS}
    for name, (updates, _) in trajectories(optimizers, gradients).items():
        np.testing.assert_allclose(updates, numpy_updates(gradients, **settings, bias_correction=name), rtol=2e-4)


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
    for name, (updates, _) in trajectories(forms, gradients).items():
        np.testing.assert_allclose(updates, expected, rtol=1e-4, err_msg=name)
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
    loop = trajectories({i: padam(float(rate[i]), p=float(p[i])) for i in range(len(p))}, gradients)
    np.testing.assert_allclose(lanes, np.stack([updates for updates, _ in loop.values()]), rtol=1e-4)


# In a training loop


def through_pickle(state, path):
    del path
    return pickle.loads(pickle.dumps(state))


def through_orbax(state, path):
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
        checkpointer.wait_until_finished()
        return checkpointer.restore(path / "state", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))


@functools.cache
def scheduled(alias):
    """An optimizer whose state is saved, and its compiled update."""
    optimizer = alias(optax.linear_schedule(0.1, 0.0, 10), p=optax.linear_schedule(0.5, 0.0, 10), nu_dtype="bfloat16")
    return optimizer, jax.jit(optimizer.update)


@pytest.mark.parametrize("through", [through_pickle, through_orbax])
@each_alias
def test_a_resumed_run_is_bit_equal(alias, through, tmp_path):
    optimizer, update = scheduled(alias)
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
