"""Partially adaptive Adagrad: Optax's `adagrad` with the power 2p in the place of its root."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _stages
from padam_optax.transforms._elementwise import Now, elementwise
from padam_optax.transforms._reference import ReferenceScope, checked_reference


class ScaleByPartialRssState(NamedTuple):
    """State of `scale_by_partial_rss`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      sum_of_squares: Sum of the squared gradients, real, shaped like the parameters, in float32 at least.
      reference_root: R of `reference_p`, see :class:`padam_optax.ScaleByPartialAmsgradState`; None without it.
    """

    count: jax.Array
    sum_of_squares: optax.Updates
    reference_root: Any = None


def scale_by_partial_rss(
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a power of the sum of all squared gradients to date (partially adaptive Adagrad).

    .. math::

      s_t = s_{t-1} + |g_t|^2, \qquad u_t = g_t / (s_t + \varepsilon)^p

    p = 1/2 is :func:`optax.scale_by_rss`; p = 0 leaves the gradient as it is.

    Args:
      initial_accumulator_value: :math:`s_0`, of every coordinate; at least 0.
      eps: Added to the sum; at least 0. A coordinate whose sum is 0 gets the update 0 (its gradient at p = 0).
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.
      reference_p, calibration_steps, reference_scope: As in :func:`padam_optax.scale_by_partial_amsgrad`: the p in
        whose units the learning rate is given, and how its factor is measured.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`. The updates have the shapes of the gradients and the dtypes of
      the parameters, or of the gradients where `update` is called without parameters. Computed in float32 at least; a
      sum that overflows saturates at the dtype's maximum. Works element by element.

    Raises:
      ValueError: If a Python number initial_accumulator_value or eps is negative or not finite, or p is outside
        [0, 1/2]. Traced values and schedules are not checked.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_partial_rss(0., 0., p=1/4)
      >>> params = jnp.array([1., 4., 9.])
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(updates)
      [1. 2. 3.]

    References:
      Duchi et al., `Adaptive Subgradient Methods for Online Learning and Stochastic Optimization
      <https://jmlr.org/papers/v12/duchi11a.html>`_, JMLR 2011; Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.partial_adagrad`
    """
    _checks.check_non_negative("initial_accumulator_value", initial_accumulator_value)
    _checks.check_non_negative("eps", eps)
    _checks.check_p(p)

    reference = checked_reference(reference_p, calibration_steps, reference_scope)

    def new_sum(gradient: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The gradient in the dtype of the computation, and the new sum in the real dtype of that."""
        wide = _dtypes.widened(gradient, total)
        added = total.astype(_dtypes.real_dtype(wide.dtype)) + _averages.squared_magnitude(wide)
        return wide, _averages.saturating_cast(added, total.dtype).astype(added.dtype)

    def roots(now: Now, gradient: jax.Array, total: jax.Array) -> tuple[jax.Array, jax.Array]:
        del now
        _, new_total = new_sum(gradient, total)
        return _powers.root(new_total, eps, eps_in_sqrt=True), new_total > initial_accumulator_value

    def step(now: Now, gradient: jax.Array, param: jax.Array | None, total: jax.Array) -> tuple[jax.Array, ...]:
        wide, new_total = new_sum(gradient, total)
        # As in Optax, eps does not move a coordinate whose squares all underflowed.
        root = jnp.where(new_total > 0, _powers.root(new_total, eps, eps_in_sqrt=True), 0)
        update = _powers.divide_by_power(wide, root, now.p)
        return _dtypes.cast_update(now.scaled(update), param, gradient), new_total.astype(total.dtype)

    moments = {"sum_of_squares": functools.partial(_averages.init_nu, value=initial_accumulator_value)}
    return elementwise(ScaleByPartialRssState, moments, step, p, reference=reference, roots=roots)


def partial_adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive Adagrad: :func:`optax.adagrad` at p = 1/2, SGD at p = 0.

    .. math::

      x_{t+1} = x_t - \alpha_t \, g_t / \big(s_0 + \textstyle\sum_{\tau \le t} |g_\tau|^2 + \varepsilon\big)^p

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      initial_accumulator_value, eps, p, reference_p, calibration_steps, reference_scope: As in
        :func:`padam_optax.scale_by_partial_rss`.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_rss`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.partial_adagrad(0.1, p=1/8)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      10.49
      8.03
      6.21

    References:
      Duchi et al., JMLR 2011; Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.scale_by_partial_rss`, :func:`optax.adagrad`
    """
    return optax.chain(
        scale_by_partial_rss(
            initial_accumulator_value,
            eps,
            p=p,
            reference_p=reference_p,
            calibration_steps=calibration_steps,
            reference_scope=reference_scope,
        ),
        _stages.learning_rate_stage(learning_rate),
    )
