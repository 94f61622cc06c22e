"""Weight decay before and after the transformation, and what it does to the state."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax import adabound, padam, padamw, scale_by_partial_amsgrad

each_alias = pytest.mark.parametrize("alias", [padam, padamw])


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
def test_a_masked_decay_takes_extra_arguments(alias):
    params, gradients = decay_problem()
    optimizer = alias(0.1, weight_decay=0.1, mask=True)
    assert isinstance(optimizer, optax.GradientTransformationExtraArgs)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, value=1.0, anything=None)
    chex.assert_trees_all_equal(updates, one_update(optimizer, gradients, params))


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


@pytest.mark.parametrize("amsbound", [False, True])
def test_adabound_decay_is_added_to_the_gradient(amsbound):
    params, gradient = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.25])
    decayed = adabound(0.1, weight_decay=0.1, amsbound=amsbound)
    plain = adabound(0.1, amsbound=amsbound)
    updates, _ = decayed.update(gradient, decayed.init(params), params)
    expected, _ = plain.update(gradient + 0.1 * params, plain.init(params))
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
