"""Algorithm 1's output rule: x_out is drawn from the iterates with probabilities proportional to the step sizes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _checks
from padam_optax.transforms._elementwise import value_at


class SampledIterateState(NamedTuple):
    """State of `with_sampled_iterate`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      inner_state: State of the wrapped optimizer.
      key: The random key's data (`jax.random.key_data`), the same at every step.
      total: Sum of the learning rates so far, float32 scalar.
      total_error: What rounding left out of `total`, float32 scalar.
      x_out: The sample, shaped and typed like the parameters.
    """

    count: jax.Array
    inner_state: optax.OptState
    key: jax.Array
    total: jax.Array
    total_error: jax.Array
    x_out: optax.Params


def with_sampled_iterate(
    tx: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    key: jax.Array,
) -> optax.GradientTransformationExtraArgs:
    r"""Keeps one iterate, drawn as Algorithm 1 draws its output.

    .. math::

      P(x_{\text{out}} = x_t) = \alpha_{t-1} \Big/ \sum_{i=1}^{T-1} \alpha_i, \qquad 2 \le t \le T

    A weighted reservoir of size 1: iterate :math:`x_{t+1}`, the parameters after update t, replaces the sample with
    probability :math:`\alpha_t / \sum_{i \le t} \alpha_i`, so that T need not be known. The updates are those of `tx`.

    Wrap it around the whole chain: the updates that it returns must be those added to the parameters. But wrap
    :class:`optax.MultiSteps` and :func:`optax.apply_if_finite` around it, because they leave the parameters unchanged
    at some calls.

    Args:
      tx: The optimizer, learning rate included.
      learning_rate: :math:`\alpha_t`, the number or schedule given to `tx`. A schedule is called with the update count,
        which starts at 0. An iterate made with a rate of 0 or less is never drawn.
      key: A random key, typed or not (`jax.random.key` or `jax.random.PRNGKey`).

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`, whose `update` needs the parameters. Its state holds `tx`'s
      state and the sample, which has the shapes, dtypes and shardings of the parameters;
      :func:`padam_optax.sampled_iterate` returns the sample. Until an update with a rate above 0 the sample is the
      initial parameters. The draw of update n depends on the key and on n alone, so a run resumed from its state draws
      the same.

    Raises:
      ValueError: If a Python number `learning_rate` is negative or not finite; by `update`, if it is called without
        parameters.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> optimizer = padam_optax.with_sampled_iterate(padam_optax.padam(0.1), 0.1, jax.random.key(0))
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> iterates = []
      >>> for _ in range(5):
      ...     updates, state = optimizer.update(2 * params, state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     iterates.append(params)
      >>> x_out = padam_optax.sampled_iterate(state)
      >>> any((x_out == x).all() for x in iterates)
      True

    References:
      Chen et al., IJCAI 2020, Algorithm 1.

      Chao, `A general purpose unequal probability sampling plan <https://doi.org/10.1093/biomet/69.3.653>`_, 1982.

    .. seealso:: :func:`padam_optax.sampled_iterate`
    """
    _checks.check_non_negative("learning_rate", learning_rate)
    inner = optax.with_extra_args_support(tx)
    implementation = str(jax.random.key_impl(key))

    def init_fn(params: optax.Params) -> SampledIterateState:
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        return SampledIterateState(
            count=jnp.zeros([], jnp.int32),
            inner_state=inner.init(params),
            key=jnp.array(jax.random.key_data(key) if is_typed else key),
            total=jnp.zeros([], jnp.float32),
            total_error=jnp.zeros([], jnp.float32),
            x_out=jax.tree.map(jnp.array, params),
        )

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, SampledIterateState]:
        if params is None:
            raise ValueError("with_sampled_iterate needs the parameters: call update(updates, state, params).")
        updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        rate = jnp.asarray(value_at(learning_rate, state.count), jnp.float32)
        rate = jnp.maximum(rate, 0)
        total, total_error = _add(state.total, state.total_error, rate)
        draw = _uniform(jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=implementation), state.count))
        takes = draw * total < rate
        iterate = optax.apply_updates(params, updates)
        x_out = jax.tree.map(lambda new, old: jnp.where(takes, new, old), iterate, state.x_out)
        count = jnp.asarray(optax.safe_increment(state.count))
        return updates, SampledIterateState(count, inner_state, state.key, total, total_error, x_out)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def sampled_iterate(state: optax.OptState) -> optax.Params:
    """The iterate that `with_sampled_iterate` has drawn: Algorithm 1's x_out.

    Args:
      state: A state of :func:`padam_optax.with_sampled_iterate`, or a state that contains exactly one of these (of
        :class:`optax.MultiSteps` around it, for example).

    Returns:
      The sample, a tree like the parameters; the initial parameters before the first update with a rate above 0.

    Raises:
      ValueError: If `state` does not hold exactly one sample.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> optimizer = padam_optax.with_sampled_iterate(optax.sgd(0.5), 0.5, jax.random.key(0))
      >>> params = jnp.array([4., 8.])
      >>> _, state = optimizer.update(params, optimizer.init(params), params)
      >>> print(padam_optax.sampled_iterate(state))
      [2. 4.]

    References:
      Chen et al., IJCAI 2020, Algorithm 1.

    .. seealso:: :func:`padam_optax.with_sampled_iterate`
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, SampledIterateState))
    found = [node for node in nodes if isinstance(node, SampledIterateState)]
    if len(found) != 1:
        raise ValueError(f"state must hold one state of with_sampled_iterate, got {len(found)}.")
    return found[0].x_out


def _add(total: jax.Array, error: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Kahan's sum: late, decayed rates are small beside the sum and would be lost in it."""
    value = value + error
    new_total = total + value
    return new_total, value - (new_total - total)


def _uniform(key: jax.Array) -> jax.Array:
    """A float32 in [0, 1) that is fine near 0: `jax.random.uniform` returns multiples of 2^-23 only.

    The probabilities of a long run are as small as 1e-7; coarse draws would round them up to the next multiple.
    """
    coarse, fine = jax.random.uniform(key, (2,), jnp.float32)
    return jnp.minimum(coarse + fine * 2**-23, 1 - 2**-24)
