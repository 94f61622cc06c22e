"""AdaBound and AMSBound (Luo et al., ICLR 2019), which the paper compares with and Optax does not have."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _stages
from padam_optax.transforms._elementwise import Now, elementwise, value_at


class ScaleByAdaboundState(NamedTuple):
    """State of `scale_by_adabound`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped and typed like the parameters.
      nu: Second moment, real, in float32 at least.
      nu_max: Elementwise maximum of every `nu` so far with `amsbound`, None without.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: Any = None


def scale_by_adabound(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    final_ratio: jax.typing.ArrayLike,
    gamma: jax.typing.ArrayLike = 1e-3,
    amsbound: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by Adam's factor, clipped between bounds that meet as training goes on.

    .. math::

      u_t = \mathrm{clip}\left(\frac{\sqrt{1-\beta_2^t}}{1-\beta_1^t} \cdot \frac{1}{\sqrt{v_t} + \varepsilon},\;
      r \Big(1 - \frac{1}{\gamma t + 1}\Big),\; r \Big(1 + \frac{1}{\gamma t}\Big)\right) m_t

    with :math:`r` = `final_ratio`. The authors clip :math:`\alpha_t` times the first argument between bounds of
    :math:`\alpha^* \alpha_t / \alpha_0`; the rate :math:`\alpha_t` factors out of both, which leaves
    :math:`r = \alpha^* / \alpha_0`.

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment; at least 0.
      final_ratio: Final (SGD) learning rate over the base learning rate; at least 0.
      gamma: How fast the bounds close; at least 0.
      amsbound: Whether :math:`v_t` is replaced by the maximum of its past values (AMSBound).

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; dtypes as for :func:`padam_optax.scale_by_partial_amsgrad`.

    Raises:
      ValueError: If a Python number b1 or b2 is outside [0, 1), or eps, final_ratio or gamma is negative or not
        finite. Traced values are not checked.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_adabound(final_ratio=100.)
      >>> params = jnp.array([1., 2., 3.])
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(updates.round(4))  # Adam's factor: at step 1 the bounds do not bind.
      [1. 1. 1.]

    References:
      Luo et al., `Adaptive Gradient Methods with Dynamic Bound of Learning Rate <https://arxiv.org/abs/1902.09843>`_,
      ICLR 2019, Algorithms 2 and 3, with the bounds of the authors' code.

    .. seealso:: :func:`padam_optax.adabound`
    """
    _checks.check_decay("b1", b1)
    _checks.check_decay("b2", b2)
    _checks.check_non_negative("eps", eps)
    _checks.check_non_negative("final_ratio", final_ratio)
    _checks.check_non_negative("gamma", gamma)

    def step(
        now: Now,
        gradient: jax.Array,
        param: jax.Array | None,
        mu: jax.Array,
        nu: jax.Array,
        nu_max: jax.Array | None = None,
    ) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, mu, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_mu = _averages.decay_average(mu, wide, b1)
        new_nu = _averages.decay_squares(nu, wide, b2)
        # The last one is the divisor.
        second_moments = (new_nu,) if nu_max is None else (new_nu, jnp.maximum(nu_max, new_nu))
        t = now.t(dtype)
        ratio = jnp.asarray(final_ratio, dtype)
        time = jnp.asarray(gamma, dtype) * t
        # The largest finite value stands for infinity, which would be a false alarm under jax_debug_infs.
        infinite = jnp.finfo(dtype).max
        factor = jnp.sqrt(_averages.weight_so_far(b2, t)) / _averages.weight_so_far(b1, t)
        root = _powers.root(second_moments[-1].astype(dtype), eps)
        factor = jnp.where(root > 0, factor / jnp.where(root > 0, root, 1), infinite)
        # Where time is 0 (gamma = 0) the bounds are 0 and infinity: nothing is clipped.
        upper = jnp.where(time > 0, ratio * (1 + 1 / jnp.where(time > 0, time, 1)), infinite)
        # `time / (time + 1)` is 1 - 1/(time + 1) without cancellation.
        scale = jnp.clip(factor, ratio * (time / (time + 1)), upper)
        # With eps = 0 the factor is infinite where every squared gradient so far is 0 in this dtype.
        unbounded = jnp.logical_or(new_mu == 0, scale >= infinite)
        update = jnp.where(unbounded, 0, jnp.where(unbounded, 0, scale).astype(new_mu.dtype) * new_mu)
        return _dtypes.cast_update(update, param, mu), new_mu.astype(mu.dtype), *second_moments

    moments = {"mu": _averages.init_mu, "nu": _averages.init_nu}
    if amsbound:
        moments["nu_max"] = _averages.init_nu
    return elementwise(ScaleByAdaboundState, moments, step)


def adabound(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    final_learning_rate: jax.typing.ArrayLike = 0.1,
    base_learning_rate: jax.typing.ArrayLike | None = None,
    gamma: jax.typing.ArrayLike = 1e-3,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    amsbound: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""AdaBound: Adam that turns smoothly into SGD; AMSBound with `amsbound=True`.

    The bounds follow the learning-rate schedule, as in the authors' code: they close on
    `final_learning_rate * learning_rate(t) / base_learning_rate`.

    Args:
      learning_rate: Adam's learning rate, a number or a schedule of the update count, which starts at 0.
      b1, b2, eps, gamma, amsbound: As in :func:`padam_optax.scale_by_adabound`.
      final_learning_rate: The (SGD) learning rate on which the bounds close, before any decay.
      base_learning_rate: The undecayed learning rate; by default the largest one so far, kept in the state. For a
        constant rate, or one that only decays, this is the first. The rate may therefore be traced, injected, or begin
        at 0.
      weight_decay: Coupled (L2) decay. A Python 0 leaves it out, and then `update` needs no parameters; any other
        value, traced ones included, and schedules always keep it.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_adabound`; also if a Python number `weight_decay` is negative, or
        `base_learning_rate` is not above 0.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.adabound(0.1, final_learning_rate=0.5)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      12.83
      11.72
      10.68

    References:
      Luo et al., ICLR 2019.

    .. seealso:: :func:`padam_optax.scale_by_adabound`
    """
    _checks.check_non_negative("final_learning_rate", final_learning_rate)
    _checks.check_non_negative("weight_decay", weight_decay)
    options: dict[str, Any] = {"b1": b1, "b2": b2, "eps": eps, "gamma": gamma, "amsbound": amsbound}
    if base_learning_rate is None:
        scale = _scale_by_adabound_from(learning_rate, final_learning_rate, options)
    else:
        _checks.check_positive("base_learning_rate", base_learning_rate)
        scale = scale_by_adabound(**options, final_ratio=final_learning_rate / base_learning_rate)
    return optax.chain(_stages.weight_decay_stage(weight_decay), scale, _stages.learning_rate_stage(learning_rate))


class _AdaboundFromState(NamedTuple):
    """State of AdaBound without a given base rate.

    Attributes:
      base_learning_rate: The largest learning rate so far, float32 scalar; 0 before the first update.
      scale: A :class:`ScaleByAdaboundState`.
    """

    base_learning_rate: jax.Array
    scale: Any


def _scale_by_adabound_from(
    learning_rate: optax.ScalarOrSchedule, final_learning_rate: jax.typing.ArrayLike, options: Mapping[str, Any]
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_adabound` with the ratio of the final rate to the largest so far."""

    with_any_ratio = scale_by_adabound(**options, final_ratio=1.0)

    def init_fn(params: optax.Params) -> _AdaboundFromState:
        return _AdaboundFromState(jnp.zeros([]), with_any_ratio.init(params))

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, _AdaboundFromState]:
        rate = jnp.asarray(value_at(learning_rate, state.scale.count)).astype(state.base_learning_rate.dtype)
        base = jnp.maximum(state.base_learning_rate, rate)
        # As long as every rate was 0, nothing moves, whatever the bounds are.
        final = jnp.asarray(final_learning_rate).astype(base.dtype)
        ratio = jnp.where(base > 0, final / jnp.where(base > 0, base, 1), 0)
        scale = scale_by_adabound(**options, final_ratio=ratio)
        updates, inner = scale.update(updates, state.scale, params, **extra_args)
        return updates, _AdaboundFromState(base, inner)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
