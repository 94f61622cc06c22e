"""Run by test_sharding.py with 8 fake CPU devices: prints as JSON what each optimizer does with sharded parameters.

Compiling takes its time: where no optimizer's own program is looked at, one program runs all of them.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
from optimizers_under_test import FACTORIES, SAMPLED, make, moments, side_by_side

COLLECTIVES = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\b")
OPTIMIZERS = {name: make(name) for name in FACTORIES} | {"sampled": SAMPLED}


def types(tree) -> list[str]:
    """Shapes, dtypes and shardings of the leaves."""
    return [str(jax.typeof(leaf)) for leaf in jax.tree.leaves(tree)]


def explicit() -> dict[str, dict]:
    """Types of the state on an explicit mesh, where the sharding is part of the type, by optimizer."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
        params = dict.fromkeys(OPTIMIZERS, jnp.ones((2, 8, 4), jnp.float16, out_sharding=sharding))
        optimizers = side_by_side(OPTIMIZERS)
        state = optimizers.init(params)
        updates, new_state = optimizers.update(params, state, params)
        compiled_state = jax.jit(optimizers.init)(params)
        _, compiled_new_state = jax.jit(optimizers.update)(params, state, params)
    return {
        name: {
            "params": types(params[name]),
            "updates": types(updates[name]),
            "moments": [str(jax.typeof(leaf)) for _, leaf in moments(state[name])],
            "init": types(state[name]),
            "jit(init)": types(compiled_state[name]),
            "update": types(new_state[name]),
            "jit(update)": types(compiled_new_state[name]),
        }
        for name in OPTIMIZERS
    }


def automatic() -> dict[str, dict]:
    """The compiled update where the compiler propagates the shardings, and how far it is from one device's."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    on_one = {"w": jnp.linspace(-1, 1, 32).reshape(8, 4), "b": jnp.linspace(1, 2, 8)}
    specs = {"w": jax.P("x", "y"), "b": jax.P("x")}
    params = jax.tree.map(lambda x, spec: jax.device_put(x, jax.sharding.NamedSharding(mesh, spec)), on_one, specs)
    all_on_one, optimizers = dict.fromkeys(OPTIMIZERS, on_one), side_by_side(OPTIMIZERS)
    expected = jax.jit(optimizers.update)(all_on_one, optimizers.init(all_on_one), all_on_one)
    return {
        name: sharded(optimizer, params, tuple(tree[name] for tree in expected))
        for name, optimizer in OPTIMIZERS.items()
    }


def sharded(optimizer, params, expected) -> dict:
    state = optimizer.init(params)
    compiled = jax.jit(optimizer.update).lower(params, state, params).compile()
    updates, new_state = compiled(params, state, params)
    return {
        "collectives": COLLECTIVES.findall(compiled.as_text()),
        "init is sharded": state_is_sharded(state, params),
        "update is sharded": state_is_sharded(new_state, params),
        "difference": max(
            float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0))
            for x, y in zip(jax.tree.leaves((updates, new_state)), jax.tree.leaves(expected), strict=True)
        ),
    }


def state_is_sharded(state, params) -> bool:
    """Whether every moment lies where its parameter lies."""
    return all(leaf.sharding.is_equivalent_to(params[name].sharding, leaf.ndim) for name, leaf in moments(state))


if __name__ == "__main__":
    assert jax.device_count() == 8, jax.devices()
    by_kind = {"explicit": explicit(), "automatic": automatic()}
    print(json.dumps({name: {kind: found[name] for kind, found in by_kind.items()} for name in OPTIMIZERS}))
