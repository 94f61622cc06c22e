"""How the small studies train: a fixed number of steps on batches drawn at random, in one compiled loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax


def cosine(rate: jax.Array, steps: int) -> optax.Schedule:
    """From `rate`, which may be traced, to 0."""
    return lambda count: rate * 0.5 * (1 + jnp.cos(jnp.pi * count / steps))


def fit(
    params: Any,
    optimizer: optax.GradientTransformation,
    loss: Callable[[Any, Any], jax.Array],
    data: Any,
    key: jax.Array,
    *,
    steps: int,
    batch: int,
) -> tuple[Any, Any]:
    """The parameters and the optimizer's state after so many steps.

    Args:
      params: Those to begin with.
      optimizer: It may hold traced numbers.
      loss: Maps parameters and a batch to the batch's mean loss.
      data: A pytree of arrays with one entry an example.
      key: Draws the batches, with replacement.
      steps: Updates.
      batch: Examples of one update.
    """
    number = len(jax.tree.leaves(data)[0])

    def step(carry: Any, key: jax.Array) -> Any:
        params, state = carry
        places = jax.random.randint(key, (batch,), 0, number)
        gradients = jax.grad(loss)(params, jax.tree.map(lambda array: array[places], data))
        updates, state = optimizer.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))[0]
