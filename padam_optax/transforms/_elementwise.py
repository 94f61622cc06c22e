"""The one init and update of all transformations here: `elementwise` makes them from a step over one array.

A transformation says three things: the type of its state, how each moment in it begins, and the step that makes the
update and the new moments of one array from its gradient and the old moments. Mapping over the leaves of the trees,
counting updates and following a schedule of p are done here, once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Init = Callable[[Any], jax.Array]
Step = Callable[..., tuple[jax.Array, ...]]


class Now(NamedTuple):
    """What a step knows beside its arrays; it is the same for all of them.

    Attributes:
      count: Updates before this one, int32 scalar.
      p: The value of p at this update, a Python number or a scalar array; None where the transformation has no p.
    """

    count: jax.Array
    p: Any

    def t(self, dtype: jax.typing.DTypeLike) -> jax.Array:
        """The step t of the formulas, which is 1 at the first update."""
        return jnp.asarray(optax.safe_increment(self.count), dtype)


def elementwise(
    state_type: Callable[..., Any],
    moments: Mapping[str, Init],
    step: Step,
    p: optax.ScalarOrSchedule | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that treats every array of a tree alike, coordinate by coordinate.

    Args:
      state_type: A NamedTuple with the field `count` and the fields that `moments` names; others have defaults.
      moments: From the name of a field that holds an array for each parameter, to what makes that array from the
        parameter, which may be abstract or a placeholder.
      step: Called once an array as `step(now, gradient, param, *moments)`, with its moments in the order of `moments`
        and with `param` None where `update` got no parameters. Returns the update and the new moments, in the same
        order and in their old dtypes.
      p: The partially adaptive parameter, or a schedule of it: `now.p` is its value.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs` with states of `state_type`. Extra arguments are ignored.
    """

    def init_fn(params: optax.Params) -> Any:
        arrays = {name: jax.tree.map(init, params) for name, init in moments.items()}
        return state_type(count=jnp.zeros([], jnp.int32), **arrays)

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        step_now = functools.partial(step, Now(state.count, value_at(p, state.count)))
        old = [getattr(state, name) for name in moments]
        updates, *new = _map_leaves(step_now, updates, params, old)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, state._replace(count=count, **dict(zip(moments, new, strict=True)))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def value_at(argument: Any, count: jax.Array) -> Any:
    """A schedule's value at `count`, which is 0 at the first update; anything else as it is."""
    return argument(count) if callable(argument) else argument


def _map_leaves(step: Step, updates: optax.Updates, params: optax.Params | None, moments: list[optax.Updates]) -> Any:
    """The trees of what `step(gradient, param, *moments)` returns for each leaf of `updates`."""
    gradients, structure = jax.tree.flatten(updates)
    columns = [structure.flatten_up_to(tree) for tree in moments]
    of_params = [None] * len(gradients) if params is None else structure.flatten_up_to(params)
    rows = [step(jnp.asarray(gradient), *row) for gradient, *row in zip(gradients, of_params, *columns, strict=True)]
    return [structure.unflatten(row[i] for row in rows) for i in range(1 + len(moments))]
