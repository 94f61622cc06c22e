"""The one init and update of all transformations here: `elementwise` makes them from a step over one array.

A transformation says three things: the type of its state, how each moment in it begins, and the step that makes the
update and the new moments of one array from its gradient and the old moments. This module does the rest once: it maps
over the leaves of the trees, counts updates, follows a schedule of p, and multiplies by the factor of a learning rate
in the units of another p.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _checks
from padam_optax.transforms._reference import Reference, after

Init = Callable[[Any], jax.Array]
Step = Callable[..., tuple[jax.Array, ...]]
Roots = Callable[..., tuple[jax.Array, jax.Array]]


class Now(NamedTuple):
    """What a step knows beside its arrays.

    Attributes:
      count: Updates before this one, int32 scalar.
      p: The value of p at this update, a Python number or a scalar array; None where the transformation has no p.
      factor: The number that multiplies the update before it is cast; None for no factor.
    """

    count: jax.Array
    p: Any
    factor: jax.Array | None = None

    def t(self, dtype: jax.typing.DTypeLike) -> jax.Array:
        """The step t of the formulas, which is 1 at the first update."""
        return jnp.asarray(optax.safe_increment(self.count), dtype)

    def scaled(self, update: jax.Array) -> jax.Array:
        """The update times the factor, in its dtype."""
        return update if self.factor is None else update * self.factor.astype(update.dtype)


def elementwise(
    state_type: Callable[..., Any],
    moments: Mapping[str, Init],
    step: Step,
    p: optax.ScalarOrSchedule | None = None,
    *,
    reference: Reference | None = None,
    roots: Roots | None = None,
) -> optax.GradientTransformationExtraArgs:
    """A transformation that treats every array of a tree alike, coordinate by coordinate.

    Args:
      state_type: A NamedTuple with the field `count` and the fields that `moments` names; others have defaults.
      moments: For each moment, by the name of its field, the function that makes the moment's array from a parameter.
        The parameter may be abstract or a placeholder.
      step: Called once an array as `step(now, gradient, param, *moments)`, with its moments in the order of `moments`
        and with `param` None where `update` got no parameters. Returns the update and the new moments, in the same
        order and in their old dtypes. It multiplies the update by `now.factor` (see `now.scaled`) if there is a
        `reference`.
      p: The partially adaptive parameter, or a schedule of it: `now.p` is its value.
      reference: The units of the learning rate; needs `roots` and a field `reference_root` of the state.
      roots: Called as `roots(now, gradient, *moments)`. Returns the roots whose power 2p this step divides by, without
        the bias of their average, and where they have moved.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs` with states of `state_type`. Extra arguments are ignored. None
      in the place of a gradient gives the update None and leaves the moments as they are.
    """

    def init_fn(params: optax.Params) -> Any:
        _checks.check_leaves("Parameters", params)
        arrays = {name: jax.tree.map(init, params) for name, init in moments.items()}
        if reference is not None:
            arrays["reference_root"] = reference.init(params)
        return state_type(count=jnp.zeros([], jnp.int32), **arrays)

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        _checks.check_leaves("Gradients", updates)
        places = Places(updates)
        old = [getattr(state, name) for name in moments]
        for tree in old:
            _checks.check_shapes(updates, tree)
        gradients = [jnp.asarray(gradient) for gradient in places.of(updates)]
        of_params = [None] * len(gradients) if params is None else places.of(params)
        columns = [places.of(tree) for tree in old]
        now = Now(state.count, value_at(p, state.count))
        nows, new = [now] * len(gradients), {"count": jnp.asarray(optax.safe_increment(state.count))}
        if reference is not None and roots is not None:
            rows = [functools.partial(_roots_after, roots, now, *row) for row in zip(gradients, *columns, strict=True)]
            root = reference.measure(state.reference_root, state.count, dict(zip(places.held, rows, strict=True)))
            factor = reference.factor(root, now.p)
            nows = [now._replace(factor=factor[i] if factor.ndim else factor) for i in places.held]
            # R is measured from the old moments before the new ones are made, so that XLA need not copy the old.
            gradients = [after(root, gradient) for gradient in gradients]
            new["reference_root"] = root
        results = [step(*row) for row in zip(nows, gradients, of_params, *columns, strict=True)]
        updates, *arrays = (
            places.put(tree, [result[i] for result in results]) for i, tree in enumerate([updates, *old])
        )
        return updates, state._replace(**new, **dict(zip(moments, arrays, strict=True)))

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def value_at(argument: Any, count: jax.Array) -> Any:
    """A schedule's value at `count`, which is 0 at the first update; anything else as it is."""
    return argument(count) if callable(argument) else argument


def _roots_after(roots: Roots, now: Now, gradient: jax.Array, *rest: Any) -> tuple[jax.Array, jax.Array]:
    *moments, number = rest
    return roots(now, after(number, gradient), *moments)


class Places:
    """The places in a tree of gradients that hold an array and not None.

    Args:
      gradients: A tree of arrays, with None where a parameter has no gradient.

    Attributes:
      held: Indices of these places among all leaves.
    """

    def __init__(self, gradients: optax.Updates) -> None:
        leaves, self._structure = jax.tree.flatten(gradients, is_leaf=lambda leaf: leaf is None)
        self.held = [i for i, leaf in enumerate(leaves) if leaf is not None]

    def of(self, tree: Any) -> list[Any]:
        """The leaves of a tree of the same structure at these places."""
        leaves = self._structure.flatten_up_to(tree)
        return [leaves[i] for i in self.held]

    def put(self, tree: Any, values: list[Any]) -> Any:
        """The tree with `values` at these places; its other leaves stay."""
        leaves = self._structure.flatten_up_to(tree)
        for i, value in zip(self.held, values, strict=True):
            leaves[i] = value
        return self._structure.unflatten(leaves)
