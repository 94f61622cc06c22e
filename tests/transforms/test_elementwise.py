"""The init and update that all transformations share: trees, states, counts, abstract values."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optimizers_under_test import FACTORIES, SCALES, make, side_by_side, types

import padam_optax
from padam_optax.transforms import elementwise, value_at

INT32_MAX = np.iinfo(np.int32).max
# The transformations alone and the optimizers around them.
ALL = {f"scale_by_{name}": scale for name, scale in SCALES.items()} | {
    name: functools.partial(make, name) for name in FACTORIES
}
each_scale = pytest.mark.parametrize("name", SCALES)
each_optimizer = pytest.mark.parametrize("name", ALL)


class SumState(NamedTuple):
    count: Any
    total: Any
    unused: Any = None


def summing(p=None):
    """Adds to the sum of the gradients t and p; without parameters, the gradient comes back."""

    def step(now, gradient, param, total):
        added = total + gradient
        return gradient if param is None else added + now.t(gradient.dtype) + now.p * param, added

    return elementwise(SumState, {"total": jnp.zeros_like}, step, p)


def test_a_transformation_is_a_state_its_moments_and_a_step():
    transformation = summing(p=lambda count: 10.0 * count)
    params = {"w": jnp.ones(2), "b": jnp.ones([])}
    state = transformation.init(params)
    chex.assert_trees_all_equal(state, SumState(jnp.int32(0), optax.tree.zeros_like(params)))
    updates, state = transformation.update({"w": jnp.full(2, 3.0), "b": jnp.ones([])}, state, params)
    chex.assert_trees_all_equal(updates, {"w": jnp.full(2, 4.0), "b": jnp.float32(2.0)})
    updates, state = transformation.update({"w": jnp.full(2, 3.0), "b": jnp.ones([])}, state, params, unknown=1)
    chex.assert_trees_all_equal(updates, {"w": jnp.full(2, 6.0 + 2 + 10), "b": jnp.float32(2 + 2 + 10)})
    updates, state = transformation.update(params, state)
    chex.assert_trees_all_equal(updates, params)
    chex.assert_trees_all_equal(state, SumState(jnp.int32(3), {"w": jnp.full(2, 7.0), "b": jnp.float32(3.0)}))


def test_value_at():
    assert value_at(0.5, jnp.int32(3)) == 0.5
    assert value_at(optax.linear_schedule(0.0, 1.0, 4), jnp.int32(3)) == 0.75


# Trees


def tree_of_all():
    """What a tree may hold; few arrays, because each is compiled for each optimizer."""
    return {
        "nested": ([jnp.ones(2)], {}),
        "absent": None,
        "masked": optax.MaskedNode(),
        "empty": jnp.ones((0, 3)),
        "scalar": jnp.float32(2.0),
    }


@functools.cache
def updates_of_trees():
    """By optimizer: the initial state, donated, and what an update returns."""
    params = {name: tree_of_all() for name in ALL}
    optimizers = side_by_side({name: make() for name, make in ALL.items()})
    state = optimizers.init(params)
    buffers = {name: [leaf.unsafe_buffer_pointer() for leaf in arrays_with_elements(state[name])] for name in state}
    return state, buffers, *jax.jit(optimizers.update, donate_argnums=1)(params, state, params)


def arrays_with_elements(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if leaf.size]


@each_optimizer
def test_trees(name):
    _, _, updates, state = (tree[name] for tree in updates_of_trees())
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, tree_of_all())
    chex.assert_trees_all_equal_shapes_and_dtypes(state, ALL[name]().init(tree_of_all()))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates, state)))


@each_optimizer
def test_state_can_be_donated(name):
    """A donated state that holds one buffer twice is refused."""
    state, buffers, _, _ = (tree[name] for tree in updates_of_trees())
    assert len(set(buffers)) == len(buffers)
    assert all(leaf.is_deleted() for leaf in arrays_with_elements(state))


TREES = {
    "none": {"w": jnp.ones(2), "absent": None},
    "masked": {"w": jnp.ones(2), "masked": optax.MaskedNode()},
    "empty": {},
    "zero-size": {"w": jnp.ones((0, 3)), "b": jnp.ones(2)},
    "scalar": jnp.float32(2.0),
    "tuple": (jnp.ones(2), [jnp.ones(1)]),
}
PADAMS = {
    "scale_by_partial_amsgrad": padam_optax.scale_by_partial_amsgrad(),
    "padam": padam_optax.padam(0.1),
    "padamw": padam_optax.padamw(0.1),
}


def test_trees_of_every_kind_at_the_root():
    pairs = [(name, tree) for name in PADAMS for tree in TREES]
    optimizers = side_by_side({pair: PADAMS[pair[0]] for pair in pairs})
    params = {(name, tree): TREES[tree] for name, tree in pairs}
    updates, state = jax.jit(optimizers.update)(params, optimizers.init(params), params)
    for pair in pairs:
        chex.assert_trees_all_equal_shapes_and_dtypes(updates[pair], params[pair])
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((updates[pair], state[pair])))


@each_optimizer
def test_python_and_numpy_parameters(name):
    """Optax's optimizers take them too; float64 without x64 gives float32 and no warning."""
    optimizer = ALL[name]()
    params = {"python": 2.0, "numpy": np.float64(2.0), "array": np.array([2.0, 3.0])}
    updates, state = optimizer.update(params, optimizer.init(params), params)
    arrays = jax.tree.map(jnp.asarray, params)
    expected, expected_state = optimizer.update(arrays, optimizer.init(arrays), arrays)
    chex.assert_trees_all_equal(updates, expected)
    assert types((updates, state)) == types((expected, expected_state))
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}


# States


@each_scale
def test_abstract_init(name):
    transformation = SCALES[name]()
    params = {"w": jnp.ones((2, 3), jnp.bfloat16), "b": jnp.ones(3)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    expected = types(transformation.init(params))
    assert types(jax.eval_shape(transformation.init, abstract)) == expected
    assert types(transformation.init(abstract)) == expected


@each_scale
def test_extra_arguments(name):
    transformation = SCALES[name]()
    assert isinstance(transformation, optax.GradientTransformationExtraArgs)
    params = jnp.ones(2)
    updates, _ = transformation.update(params, transformation.init(params), params, value=1.0, anything=None)
    assert updates.shape == (2,)


COUNTED = SCALES | {
    correction: functools.partial(padam_optax.scale_by_partial_amsgrad, bias_correction=correction)
    for correction in ("official", "debiased")
}


@pytest.mark.parametrize("name", COUNTED)
def test_count_does_not_overflow(name):
    transformation = COUNTED[name]()
    gradient = jnp.ones(2)
    state = transformation.init(gradient)
    assert transformation.update(gradient, state)[1].count == 1
    updates, state = transformation.update(gradient, state._replace(count=jnp.int32(INT32_MAX)))
    assert state.count.dtype == jnp.int32
    assert state.count == INT32_MAX
    assert (updates > 0).all()
