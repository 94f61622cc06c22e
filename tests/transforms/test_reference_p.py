"""reference_p: one learning rate for every p. Against NumPy in float64, and as properties."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from trajectories import random_gradients, trajectories, trajectory

import padam_optax
from padam_optax import scale_by_partial_amsgrad

SCOPES = ("leaf", "all")
each_scope = pytest.mark.parametrize("scope", SCOPES)
STEPS = 8


def gradients_of_two_leaves(steps=STEPS):
    """Leaves whose gradients differ by a factor of 1000; one coordinate never moves, one moves late."""
    first, second = random_gradients(steps), 1e-3 * random_gradients(steps)[:, :2]
    first[:, 0] = 0
    first[:4, 1] = 0
    return {"a": first, "b": second}


def numpy_updates(gradients, p, q, scope, calibration_steps, b1=0.9, b2=0.999, eps=1e-8):
    """The definition, with both moments debiased."""
    names = list(gradients)
    mu, nu_max, nu = ({name: np.zeros(gradients[name].shape[1:]) for name in names} for _ in range(3))
    roots, rows = dict.fromkeys(names, 1.0), {name: [] for name in names}
    for t in range(1, STEPS + 1):
        for name in names:
            gradient = gradients[name][t - 1]
            mu[name] = b1 * mu[name] + (1 - b1) * gradient
            nu[name] = b2 * nu[name] + (1 - b2) * gradient**2
            nu_max[name] = np.maximum(nu_max[name], nu[name])
        if t <= calibration_steps:
            logs = {name: np.log(np.sqrt(nu_max[name][nu_max[name] > 0] / (1 - b2**t)) + eps) for name in names}
            every = np.mean(np.concatenate(list(logs.values())))
            roots = {name: np.exp(np.mean(logs[name]) if scope == "leaf" else every) for name in names}
        for name in names:
            denominator = (np.sqrt(nu_max[name]) + eps) ** (2 * p)
            correction = (1 - b2**t) ** p / (1 - b1**t)
            rows[name].append(roots[name] ** (2 * (p - q)) * correction * mu[name] / denominator)
    return {name: np.stack(rows[name]) for name in names}


@each_scope
def test_equals_its_definition(scope):
    gradients = gradients_of_two_leaves()
    cases = {(p, q): (p, q) for p in (0, 1 / 8, 0.3, 1 / 2) for q in (0, 1 / 2)}
    with jax.enable_x64(True):
        optimizers = {
            (p, q): scale_by_partial_amsgrad(p=p, reference_p=q, calibration_steps=3, reference_scope=scope)
            for p, q in cases
        }
        for (p, q), (updates, _) in trajectories(optimizers, gradients).items():
            expected = numpy_updates(gradients, p, q, scope, 3)
            for name in gradients:
                np.testing.assert_allclose(updates[name], expected[name], rtol=1e-9, err_msg=f"p={p}, q={q}")


@each_scope
def test_the_scale_of_the_gradients_plays_no_part(scope):
    """As for Adam: at q = 1/2 the updates are the same if all gradients are 1000 times as large, whatever p is."""
    gradients = gradients_of_two_leaves()
    with jax.enable_x64(True):
        optimizers = {
            p: scale_by_partial_amsgrad(p=p, eps=0.0, reference_p=1 / 2, reference_scope=scope) for p in (0.0, 1 / 8)
        }
        found = trajectories(optimizers, gradients)
        larger = trajectories(optimizers, jax.tree.map(lambda leaf: 1000 * leaf, gradients))
    for p in optimizers:
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9), found[p][0], larger[p][0])


def test_steady_gradients_move_as_adam_moves_them():
    """Where every root is the same, the update is Adam's for every p."""
    gradients = np.full((STEPS, 4), -0.003, np.float32)
    for p in (0.0, 1 / 16, 1 / 4, 0.4):
        found = trajectory(padam_optax.padamw(1e-3, p=p, weight_decay=0.01, reference_p=1 / 2), gradients)[0]
        expected = trajectory(optax.adamw(1e-3, weight_decay=0.01), gradients)[0]
        np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_the_same_p_is_padam_itself():
    gradients = random_gradients(STEPS).astype(np.float32)
    found = trajectory(scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 8), gradients)[0]
    expected = trajectory(scale_by_partial_amsgrad(p=1 / 8, bias_correction="debiased"), gradients)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_held_root_is_a_converted_learning_rate():
    """From the end of the calibration on, and as `convert_learning_rate` has it."""
    gradients = random_gradients(STEPS).astype(np.float32)
    updates, state = trajectory(
        padam_optax.padam(0.01, p=1 / 8, reference_p=1 / 2, calibration_steps=3, reference_scope="all"), gradients
    )
    root = optax.tree.get(state, "reference_root")
    rate = padam_optax.convert_learning_rate(0.01, 1 / 2, 1 / 8, root)
    expected = trajectory(padam_optax.padam(rate, p=1 / 8, bias_correction="debiased"), gradients)[0]
    np.testing.assert_allclose(updates[2:], expected[2:], rtol=1e-5)
    assert not np.allclose(updates[0], expected[0], rtol=1e-2)


@pytest.mark.parametrize("correction", ["none", "official", "debiased"])
def test_bias_correction_is_a_choice_beside_it(correction):
    """R is the same; without a reference the default is "none", with one "debiased"."""
    gradients = random_gradients(STEPS).astype(np.float32)
    optimizers = {
        "reference": scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2, bias_correction=correction),
        "default": scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2),
        "plain": scale_by_partial_amsgrad(p=1 / 8, bias_correction=correction),
        "plain default": scale_by_partial_amsgrad(p=1 / 8),
    }
    found = trajectories(optimizers, gradients)
    roots = [found[name][1].reference_root for name in ("reference", "default")]
    np.testing.assert_array_equal(*roots)
    assert np.array_equal(found["reference"][0], found["default"][0]) == (correction == "debiased")
    assert np.array_equal(found["plain"][0], found["plain default"][0]) == (correction == "none")


@each_scope
def test_zero_gradients_first(scope):
    """R is undefined until a coordinate has moved, later than the calibration too; nothing is NaN."""
    gradients = {"a": np.zeros((STEPS, 2), np.float32), "b": np.zeros((STEPS, 3), np.float32)}
    gradients["a"][5:] = [1e-3, -2e-3]
    for eps in (0.0, 1e-8):
        optimizer = scale_by_partial_amsgrad(
            p=1 / 8, eps=eps, reference_p=1 / 2, calibration_steps=2, reference_scope=scope
        )
        updates, state = trajectory(optimizer, gradients)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))
        assert all((leaf[:5] == 0).all() for leaf in updates.values())
        assert (updates["b"] == 0).all()
        assert np.abs(updates["a"][5:]).min() > 1e-3
        if scope == "leaf":
            assert state.reference_root[0] > 0
            assert state.reference_root[1] == 0


@each_scope
def test_traced_values_and_vmap(scope):
    """One program for all p and rates: under vmap, and where they are injected."""
    gradients = jax.tree.map(jnp.float32, gradients_of_two_leaves())

    def run(rate, p, q=0.5):
        return trajectory(padam_optax.padam(rate, p=p, reference_p=q, reference_scope=scope), gradients)[0]

    rates, ps = jnp.array([1e-3, 1e-2]), jnp.array([1 / 16, 0.4])
    found = jax.vmap(run)(rates, ps)
    for i, (rate, p) in enumerate([(1e-3, 1 / 16), (1e-2, 0.4)]):
        expected = run(rate, p)
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=3e-5), found, expected)
    injected = optax.inject_hyperparams(padam_optax.padam)(1e-2, p=0.4, reference_p=0.5, reference_scope=scope)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=3e-5), trajectory(injected, gradients)[0], run(1e-2, 0.4)
    )


def test_a_schedule_of_p_at_matched_rates():
    """Each update is that of a constant p with the same R."""
    gradients = random_gradients(STEPS).astype(np.float32)
    constant = {p: scale_by_partial_amsgrad(p=p, reference_p=1 / 2) for p in (1 / 2, 1 / 8)}
    schedule = optax.piecewise_constant_schedule(1 / 2, {4: 1 / 4})
    found = trajectories({**constant, "schedule": scale_by_partial_amsgrad(p=schedule, reference_p=1 / 2)}, gradients)
    updates = found["schedule"][0]
    np.testing.assert_allclose(updates[:4], found[1 / 2][0][:4], rtol=1e-5)
    np.testing.assert_allclose(updates[4:], found[1 / 8][0][4:], rtol=1e-5)


def test_a_group_has_a_root_of_its_own():
    """Under partition and masked, with one R of all coordinates: of those of the group."""
    gradients = jax.tree.map(jnp.float32, gradients_of_two_leaves())
    scale = scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2, reference_scope="all")
    parts = optax.partition({"a": scale, "b": scale}, {"a": "a", "b": "b"})
    optimizers = {"parts": parts, "leaf": scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2)}
    found = trajectories(optimizers, gradients)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found["parts"][0], found["leaf"][0])


def test_missing_gradients_keep_their_root():
    scale = scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2)
    params = {"a": jnp.ones(2), "b": None, "c": jnp.ones(3)}
    state = scale.init(params)
    assert state.reference_root.shape == (3,)
    updates, state = scale.update({"a": None, "b": None, "c": jnp.ones(3)}, state, params)
    assert updates["a"] is None
    assert (state.reference_root[:2] == 0).all()
    np.testing.assert_allclose(state.reference_root[2], 1, rtol=1e-6)


def test_accumulated_gradients_are_those_of_the_mean():
    gradients = random_gradients(STEPS).astype(np.float32)
    scale = scale_by_partial_amsgrad(p=1 / 8, reference_p=1 / 2, calibration_steps=2)
    found = trajectory(optax.MultiSteps(scale, 2).gradient_transformation(), gradients)[0]
    expected = trajectory(scale, gradients.reshape(STEPS // 2, 2, -1).mean(axis=1))[0]
    np.testing.assert_allclose(found[1::2], expected, rtol=1e-5)


def test_narrow_and_complex_moments():
    """R of bfloat16 moments is within their rounding of float32's; of complex parameters it is of the magnitudes."""
    gradients = random_gradients(STEPS).astype(np.float32)
    optimizers = {
        "wide": scale_by_partial_amsgrad(reference_p=1 / 2),
        "narrow": scale_by_partial_amsgrad(reference_p=1 / 2, mu_dtype="bfloat16", nu_dtype="bfloat16"),
    }
    roots = [state.reference_root for _, state in trajectories(optimizers, gradients).values()]
    np.testing.assert_allclose(*roots, rtol=0.01)
    turned = (gradients * np.exp(0.7j)).astype(np.complex64)
    updates, state = trajectory(optimizers["wide"], turned)
    np.testing.assert_allclose(state.reference_root, roots[0], rtol=1e-5)
    np.testing.assert_allclose(np.abs(updates), np.abs(trajectory(optimizers["wide"], gradients)[0]), rtol=1e-4)


FAMILY = {
    "adagrad": (padam_optax.partial_adagrad, {"initial_accumulator_value": 0.0}, 0.1),
    "rmsprop": (padam_optax.partial_rmsprop, {"bias_correction": True}, 0.1),
    "rmsprop-centered": (padam_optax.partial_rmsprop, {"centered": True, "bias_correction": True}, 0.1),
    "adamax": (padam_optax.partial_adamax, {}, 0.1),
}


@pytest.mark.parametrize(("make", "settings", "rate"), FAMILY.values(), ids=FAMILY)
def test_the_family_takes_the_rate_of_one_half(make, settings, rate):
    """Gradients 1000 times as large move nothing further; p = 1/2 in its own units is left as it is."""
    gradients = random_gradients(STEPS)
    with jax.enable_x64(True):
        optimizers = {p: make(rate, **settings, eps=0.0, p=p, reference_p=1 / 2) for p in (1 / 8, 1 / 2)}
        found, larger = (trajectories(optimizers, scale * gradients) for scale in (1, 1000))
        plain = trajectory(make(rate, **settings, eps=0.0, p=1 / 2), gradients)[0]
    # A centered first step has a variance of rounding alone.
    for p in optimizers:
        np.testing.assert_allclose(found[p][0][1:], larger[p][0][1:], rtol=1e-6)
    np.testing.assert_allclose(found[1 / 2][0], plain, rtol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reference_p": 0.6}, r"^reference_p must be in \[0, 1/2\], got 0.6"),
        ({"reference_p": "adam"}, r"^reference_p must be a number in \[0, 1/2\]"),
        ({"calibration_steps": 0}, "^calibration_steps must be finite and above 0, got 0"),
        ({"reference_scope": "array"}, "^reference_scope must be one of all, leaf; got 'array'"),
    ],
)
def test_refuses(settings, message):
    for make in (scale_by_partial_amsgrad, lambda **rest: padam_optax.padamw(1e-3, **rest)):
        with pytest.raises(ValueError, match=message):
            make(**settings)
