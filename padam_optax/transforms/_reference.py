"""The factor `R^(2(p - q))` that makes one learning rate serve every p; R is a typical root of the second moments.

R is measured over the first updates and then held in the state. From then on an update is that of Algorithm 1 times a
constant.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp

from padam_optax.transforms import _checks, _dtypes

ReferenceScope: TypeAlias = Literal["all", "leaf"]
# Returns the roots of one array, shaped like it, and where it has moved. It is called only while R is measured, with a
# number that must be computed first, or None.
Roots = Callable[[jax.Array | None], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Reference:
    """How a learning rate that is given in the units of one p is used at another.

    Attributes:
      p: q, the p in whose units the learning rate is given: a number or a scalar array, traced or not.
      calibration_steps: The number of updates over which R follows the roots; longer until R is defined.
      scope: "all": one R for all coordinates; "leaf": one for each array.
    """

    p: jax.typing.ArrayLike
    calibration_steps: jax.typing.ArrayLike
    scope: ReferenceScope

    def init(self, params: Any) -> jax.Array:
        """R before the first update: 0, which stands for undefined; a scalar, or one for each leaf, (leaves,)."""
        dtype = _dtypes.compute_dtype(*map(jnp.result_type, jax.tree.leaves(params)))
        # None is counted: it stands where an array without a gradient may stand later.
        leaves = jax.tree.leaves(params, is_leaf=lambda leaf: leaf is None)
        return jnp.zeros((len(leaves),) if self.scope == "leaf" else (), dtype)

    def measure(self, held: jax.Array, count: jax.Array, roots: Mapping[int, Roots]) -> jax.Array:
        """R at this update: either measured or `held`.

        Args:
          held: R at the update before, as `init` makes it.
          count: Updates before this one, int32 scalar.
          roots: The function that computes the roots of a leaf, by the index of each leaf that has a gradient. A branch
            of a conditional calls it, so that it reads the state in the first updates only.

        Returns:
          An array like `held`.
        """
        if not roots:
            return held
        places = jnp.array(list(roots))
        old = held[places] if held.ndim else held
        measures = (count < self.calibration_steps) | (old == 0)

        def measured() -> tuple[jax.Array, jax.Array]:
            numbers, totals = [], []
            for each in roots.values():
                # One array after the other, so that the memory for one serves all.
                root, moved = each(numbers[-1] if numbers else None)
                numbers.append(jnp.sum(moved, dtype=root.dtype).astype(held.dtype))
                totals.append(jnp.sum(jnp.log(jnp.where(moved, root, 1))).astype(held.dtype))
            return jnp.stack(numbers), jnp.stack(totals)

        nothing = jnp.zeros(len(roots), held.dtype)
        number, total = jax.lax.cond(jnp.any(measures), measured, lambda: (nothing, nothing))
        if not held.ndim:
            number, total = jnp.sum(number), jnp.sum(total)
        mean = jnp.where(number > 0, jnp.exp(total / jnp.maximum(number, 1)), 0)
        new = jnp.where(measures, mean, old)
        return held.at[places].set(new) if held.ndim else new

    def factor(self, root: jax.Array, p: Any) -> jax.Array:
        """The factor of the update, for each R: `R^(2(p - q))`, and 1 while R is undefined."""
        q, p = (jnp.asarray(each, root.dtype) for each in (self.p, p))
        return convert(1, q, p, jnp.where(root == 0, 1, root))


def after(number: jax.Array | None, array: jax.Array) -> jax.Array:
    """The same array, bit by bit, but computed after `number`, which is never negative; XLA does not know that.

    A barrier does not suffice: XLA's CPU backend removes it before it decides what shares memory and what is copied.
    """
    return array if number is None else array * jnp.where(jnp.any(number < 0), 0, 1).astype(array.dtype)


def convert(learning_rate: Any, p: Any, new_p: Any, root: Any) -> Any:
    """The learning rate at `new_p` that moves a coordinate of this root as far as `learning_rate` does at `p`."""
    return learning_rate * root ** (2 * (new_p - p))


def checked_reference(
    reference_p: jax.typing.ArrayLike | None,
    calibration_steps: jax.typing.ArrayLike,
    reference_scope: ReferenceScope,
    *,
    highest: float = 0.5,
) -> Reference | None:
    """The reference that these arguments of a transformation describe; None without a `reference_p`."""
    _checks.check_one_of("reference_scope", reference_scope, get_args(ReferenceScope))
    _checks.check_positive("calibration_steps", calibration_steps)
    if reference_p is None:
        return None
    _checks.check_p(reference_p, highest=highest, name="reference_p")
    return Reference(reference_p, calibration_steps, reference_scope)
