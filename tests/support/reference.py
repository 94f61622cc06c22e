"""Trajectories computed with public PyTorch code; tests/support/data/README.md says how."""

import functools
import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import optax

FILE = pathlib.Path(__file__).parent / "data" / "optimizers.npz"
LEAVES = ("w", "b")


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FILE) as archive:
        return dict(archive)


def cases(prefix: str) -> list[dict]:
    """The cases whose name begins with `prefix`: name, formula, source and hyper-parameters."""
    found = [case for case in map(json.loads, arrays()["cases_json"].tolist()) if case["name"].startswith(prefix)]
    assert found, prefix
    return found


def case(name: str) -> dict:
    (found,) = [case for case in cases(name) if case["name"] == name]
    return found


def gradients() -> dict[str, np.ndarray]:
    """Leading axis: the 50 steps."""
    return {leaf: arrays()[f"grads__{leaf}"] for leaf in LEAVES}


def start() -> dict[str, np.ndarray]:
    return {leaf: arrays()[f"x0__{leaf}"] for leaf in LEAVES}


def expected(name: str) -> dict[str, np.ndarray]:
    """Parameters after each of the 50 steps."""
    return {leaf: arrays()[f"{name}__{leaf}"] for leaf in LEAVES}


def trajectories(optimizers: Mapping[str, optax.GradientTransformation]) -> dict[str, dict[str, np.ndarray]]:
    """By name: parameters after each step under the recorded gradients, float64. All run in one compiled program."""
    with jax.enable_x64(True):
        params = jax.tree.map(jax.numpy.asarray, start())

        def update(optimizer, gradient, params, state):
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        def step(carry, gradient):
            carry = {name: update(optimizers[name], gradient, *pair) for name, pair in carry.items()}
            return carry, {name: params for name, (params, _) in carry.items()}

        carry = {name: (params, optimizer.init(params)) for name, optimizer in optimizers.items()}
        _, after = jax.jit(lambda carry, steps: jax.lax.scan(step, carry, steps))(carry, gradients())
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(after))
        return jax.tree.map(np.asarray, after)


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(one[leaf] - other[leaf]).max()) for leaf in LEAVES)
