"""What optimizers do over some steps, several in one compiled program: compiling is what tests take time for."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def random_gradients(steps: int, coordinates: int = 5) -> np.ndarray:
    """Gradients whose scale changes by 10 from coordinate to coordinate and falls to a tenth with the steps."""
    normal = np.random.default_rng(0).normal(size=(steps, coordinates))
    exponents = np.arange(coordinates) - coordinates // 2
    return normal * np.geomspace(1, 0.1, steps)[:, None] * 10.0**exponents


def trajectories(
    optimizers: Mapping[Any, optax.GradientTransformation], gradients: Any, params: Any = None
) -> dict[Any, tuple[Any, Any]]:
    """By name: the updates of all steps, stacked, and the last state. Gradients lead with the steps.

    Parameters stay where they are, at 0 by default.
    """
    gradients = jax.tree.map(jnp.asarray, gradients)
    params = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), gradients) if params is None else params

    @jax.jit
    def run(gradients, params):
        def step(states, gradient):
            results = [
                tx.update(gradient, state, params) for tx, state in zip(optimizers.values(), states, strict=True)
            ]
            return [state for _, state in results], [updates for updates, _ in results]

        return jax.lax.scan(step, [tx.init(params) for tx in optimizers.values()], gradients)

    states, updates = run(gradients, params)
    return dict(zip(optimizers, zip(updates, states, strict=True), strict=True))


def trajectory(optimizer: optax.GradientTransformation, gradients: Any, params: Any = None) -> tuple[Any, Any]:
    """`trajectories` of one optimizer."""
    return trajectories({0: optimizer}, gradients, params)[0]
