"""The registry of optimizers: the seven, their settings, decay and schedule; what is added to it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax.experiments.methods import METHODS, Method, MethodContext, ParameterGroup, make_optimizer, register
from padam_optax.experiments.paper import PAPER_METHODS

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.25, -0.125, 0.0])}
PAPER_SETTINGS = {name: METHODS[name].settings for name in PAPER_METHODS}
COUPLED = [name for name in PAPER_METHODS if name != "adamw"]

each_name = pytest.mark.parametrize("name", PAPER_METHODS)


def gradients(step: int) -> dict[str, jax.Array]:
    key = jax.random.fold_in(jax.random.key(0), step)
    return jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), PARAMS)


def updates_of(optimizer: optax.GradientTransformation, steps: int = 4, gradient=gradients) -> list[dict]:
    """Updates under given gradients, the parameters held where they are."""
    return updates_with(lambda step: optimizer, steps, gradient)


def updates_with(make, steps: int = 4, gradient=gradients) -> list[dict]:
    """The same, the optimizer made anew for each step, as a trainer does."""
    state, found = make(0).init(PARAMS), []
    update = jax.jit(lambda step, *arguments: make(step).update(*arguments))
    for step in range(steps):
        updates, state = update(jnp.asarray(step), gradient(step), state, PARAMS)
        found.append(updates)
    return found


def zeros(step: int) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.zeros_like, PARAMS)


def assert_close(one, other, rtol: float = 1e-5):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=rtol, atol=1e-9), one, other)


def test_the_seven():
    assert list(PAPER_METHODS) == ["sgdm", "adam", "amsgrad", "adamw", "yogi", "adabound", "padam"] == list(METHODS)[:7]


@each_name
def test_descends(name):
    """From a start away from 0, every first update goes against the gradient."""
    settings = {key: 0.0 if "decay" in key else value for key, value in PAPER_SETTINGS[name].items()}
    (updates,) = updates_of(make_optimizer(name, settings), 1)
    jax.tree.map(lambda update, g: np.testing.assert_array_equal(jnp.sign(update), -jnp.sign(g)), updates, gradients(0))


def test_unknown_name():
    with pytest.raises(ValueError, match=r"optimizer must be one of sgdm, adam, amsgrad, .*; got 'rmsprop'"):
        make_optimizer("rmsprop", {"learning_rate": 0.1})


@each_name
def test_missing_setting(name):
    for missing in PAPER_SETTINGS[name]:
        settings = {key: value for key, value in PAPER_SETTINGS[name].items() if key != missing}
        with pytest.raises(ValueError, match=f"{name} takes the hyper-parameters .*{missing}.*; got "):
            make_optimizer(name, settings)


@each_name
def test_extra_setting(name):
    with pytest.raises(ValueError, match=f"{name} takes the hyper-parameters .*; got .*nesterov"):
        make_optimizer(name, {**PAPER_SETTINGS[name], "nesterov": 1.0})


@each_name
def test_traced_settings(name):
    """All settings as arguments of one compiled function give what numbers give."""

    @jax.jit
    def traced(settings):
        optimizer = make_optimizer(name, settings, MethodContext(total_updates=10))
        state = optimizer.init(PARAMS)
        for step in range(2):
            updates, state = optimizer.update(gradients(step), state, PARAMS)
        return updates

    expected = updates_of(make_optimizer(name, PAPER_SETTINGS[name], MethodContext(total_updates=10)), 2)[-1]
    assert_close(traced(jax.tree.map(jnp.asarray, PAPER_SETTINGS[name])), expected)


@each_name
def test_schedule_scales_updates(name):
    """The factor of step t (from 0) scales the update of step t, decay included, and nothing that is remembered."""
    plain = updates_of(make_optimizer(name, PAPER_SETTINGS[name]))
    factors = jnp.array([1.0, 0.5, 0.1, 2.0])
    scheduled = updates_with(lambda step: make_optimizer(name, PAPER_SETTINGS[name], MethodContext(factors[step])))
    for factor, one, other in zip(factors, scheduled, plain, strict=True):
        assert_close(one, jax.tree.map(lambda update, factor=factor: factor * update, other))


@each_name
def test_learning_rate_scales_the_gradients_part(name):
    """Twice the rate is twice the update without decay; AdaBound's bounds close on its final rate instead."""
    settings = {key: 0.0 if "decay" in key else value for key, value in PAPER_SETTINGS[name].items()}
    double = {**settings, "learning_rate": 2 * settings["learning_rate"]}
    one, two = (updates_of(make_optimizer(name, values), 1)[0] for values in (settings, double))
    assert_close(two, jax.tree.map(lambda update: 2 * update, one))


@pytest.mark.parametrize("learning_rate", [1e-3, 0.1])
@pytest.mark.parametrize("total_updates", [1, 100])
def test_adamw_decays_by_the_normalized_factor(learning_rate, total_updates):
    """Without gradients each step takes the schedule's factor times lambda_norm / sqrt(updates), whatever the rate."""
    settings = {**PAPER_SETTINGS["adamw"], "learning_rate": learning_rate, "normalized_weight_decay": 0.5}
    factors = jnp.array([1.0, 1.0, 0.1, 0.01])
    params, state = PARAMS, make_optimizer("adamw", settings).init(PARAMS)
    for step in range(4):
        optimizer = make_optimizer("adamw", settings, MethodContext(factors[step], total_updates))
        updates, state = optimizer.update(zeros(step), state, params)
        expected = jax.tree.map(lambda leaf, step=step: (1 - factors[step] * 0.5 / total_updates**0.5) * leaf, params)
        params = optax.apply_updates(params, updates)
        assert_close(params, expected, 1e-6)


@pytest.mark.parametrize("name", COUPLED)
def test_decay_is_added_to_the_gradient(name):
    """Decay alone is a gradient of decay times the parameter."""
    decayed = {**PAPER_SETTINGS[name], "weight_decay": 0.25}
    plain = {**PAPER_SETTINGS[name], "weight_decay": 0.0}
    one = updates_of(make_optimizer(name, decayed), 3, zeros)
    other = updates_of(make_optimizer(name, plain), 3, lambda step: jax.tree.map(lambda leaf: 0.25 * leaf, PARAMS))
    for left, right in zip(one, other, strict=True):
        assert_close(left, right)


@pytest.mark.parametrize("learning_rate", [1e-3, 0.1])
def test_adabound_closes_on_its_final_rate(learning_rate):
    """With bounds that meet at once it is SGD at the final rate times the schedule's factor, from any base rate.

    A schedule that begins low must not be taken for the base rate.
    """
    settings = {
        **PAPER_SETTINGS["adabound"],
        "learning_rate": learning_rate,
        "final_learning_rate": 0.5,
        "gamma": 1e9,
        "weight_decay": 0.0,
    }
    factors = jnp.array([0.01, 0.1, 1.0])
    momentum = jax.tree.map(jnp.zeros_like, PARAMS)
    updates = updates_with(lambda step: make_optimizer("adabound", settings, MethodContext(factors[step])), 3)
    for step, update in enumerate(updates):
        momentum = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, momentum, gradients(step))
        assert_close(update, jax.tree.map(lambda m, step=step: -0.5 * factors[step] * m, momentum))


def test_amsgrad_is_padam_at_one_half():
    half = {**PAPER_SETTINGS["amsgrad"], "p": 0.5}
    one, other = (
        updates_of(make_optimizer(*pair)) for pair in (("amsgrad", PAPER_SETTINGS["amsgrad"]), ("padam", half))
    )
    for left, right in zip(one, other, strict=True):
        assert_close(left, right)


def test_padam_warms_up_as_the_authors_code():
    """Its factor is sqrt(1 - b2^t) / (1 - b1^t) at any p: .316 at the first step, .222 at the 50th."""
    settings = {**PAPER_SETTINGS["padam"], "weight_decay": 0.0}
    one = updates_of(make_optimizer("padam", settings, MethodContext(bias_correction="official")), 50)
    other = updates_of(make_optimizer("padam", settings), 50)
    for step, factor in ((0, 0.3162), (49, 0.2221)):
        assert_close(one[step], jax.tree.map(lambda update, factor=factor: factor * update, other[step]), 5e-4)


def test_what_is_registered_can_be_made(monkeypatch):
    monkeypatch.setattr("padam_optax.experiments.methods.METHODS", dict(METHODS))
    method = Method(
        "sign",
        "Sign",
        "#000000",
        {"learning_rate": 0.5},
        lambda values, context: optax.sign_sgd(values["learning_rate"] * context.factor),
    )
    assert register(method) is method
    (updates,) = updates_of(make_optimizer("sign", {"learning_rate": 0.5}), 1)
    assert_close(updates, jax.tree.map(lambda g: -0.5 * jnp.sign(g), gradients(0)))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method("padam", "Mine", "#000000", {"learning_rate": 0.1}, optax.sgd), "a method called 'padam' already"),
        (Method("mine", "Mine", "#000000", {"rate": 0.1}, optax.sgd), "settings of 'mine' must have a learning_rate"),
    ],
)
def test_what_cannot_be_registered(method, message):
    with pytest.raises(ValueError, match=message):
        register(method)
    assert METHODS["padam"].title == "Padam"
    assert "mine" not in METHODS


def test_group_by_name_and_by_axes():
    """The name of a part of the network, not one that is in a longer name."""
    params = {"embedding": jnp.ones((3, 2)), "embedding_norm": {"scale": jnp.ones(2)}, "cell": [jnp.ones((2, 2))]}
    named = ParameterGroup(names=("embedding",))(params)
    assert named == {"embedding": True, "embedding_norm": {"scale": False}, "cell": [False]}
    assert ParameterGroup(most_axes=1)(params) == {
        "embedding": False,
        "embedding_norm": {"scale": True},
        "cell": [False],
    }


def test_a_group_is_asked_for():
    method = METHODS["padam-by-group"]
    with pytest.raises(ValueError, match="needs a group"):
        method.make(method.settings, MethodContext())
