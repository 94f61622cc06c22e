"""Run by test_sharding.py with 8 fake CPU devices: prints as JSON what each optimizer does with sharded parameters."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optimizers_under_test import FACTORIES, SAMPLED, make, moments

COLLECTIVES = re.compile(r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)\b")


def types(tree) -> list[str]:
    """Shapes, dtypes and shardings of the leaves."""
    return [str(jax.typeof(leaf)) for leaf in jax.tree.leaves(tree)]


def explicit(optimizer: optax.GradientTransformation) -> dict:
    """Types of the state on an explicit mesh, where the sharding is part of the type."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        sharding = jax.sharding.NamedSharding(mesh, jax.P(None, "x"))
        params = jnp.ones((2, 8, 4), jnp.float16, out_sharding=sharding)
        state = optimizer.init(params)
        updates, new_state = optimizer.update(params, state, params)
        return {
            "params": types(params),
            "updates": types(updates),
            "moments": [str(jax.typeof(leaf)) for _, leaf in moments(state)],
            "init": types(state),
            "jit(init)": types(jax.jit(optimizer.init)(params)),
            "update": types(new_state),
            "jit(update)": types(jax.jit(optimizer.update)(params, state, params)[1]),
        }


def automatic(optimizer: optax.GradientTransformation) -> dict:
    """The compiled update where the compiler propagates the shardings, and how far it is from one device's."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    on_one = {"w": jnp.linspace(-1, 1, 32).reshape(8, 4), "b": jnp.linspace(1, 2, 8)}
    specs = {"w": jax.P("x", "y"), "b": jax.P("x")}
    params = jax.tree.map(lambda x, spec: jax.device_put(x, jax.sharding.NamedSharding(mesh, spec)), on_one, specs)
    state = optimizer.init(params)
    compiled = jax.jit(optimizer.update).lower(params, state, params).compile()
    updates, new_state = compiled(params, state, params)
    expected, expected_state = jax.jit(optimizer.update)(on_one, optimizer.init(on_one), on_one)
    return {
        "collectives": sorted(set(COLLECTIVES.findall(compiled.as_text()))),
        "init is sharded": state_is_sharded(state, params),
        "update is sharded": state_is_sharded(new_state, params),
        "difference": max(
            float(np.max(np.abs(np.asarray(x) - np.asarray(y)), initial=0))
            for x, y in zip(
                jax.tree.leaves((updates, new_state)), jax.tree.leaves((expected, expected_state)), strict=True
            )
        ),
    }


def state_is_sharded(state, params) -> bool:
    """Whether every moment lies where its parameter lies."""
    return all(leaf.sharding.is_equivalent_to(params[name].sharding, leaf.ndim) for name, leaf in moments(state))


if __name__ == "__main__":
    assert jax.device_count() == 8, jax.devices()
    optimizers = {name: make(name) for name in FACTORIES} | {"sampled": SAMPLED}
    print(json.dumps({name: {"explicit": explicit(o), "automatic": automatic(o)} for name, o in optimizers.items()}))
