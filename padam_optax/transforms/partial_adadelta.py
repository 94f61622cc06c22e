"""Partially adaptive Adadelta: Optax's `adadelta` with the power p of its ratio of averages, not the root."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _stages
from padam_optax.transforms._elementwise import Now, elementwise


class ScaleByPartialAdadeltaState(NamedTuple):
    """State of `scale_by_partial_adadelta`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      e_g: Average of the squared gradients, real, shaped like the parameters, in float32 at least.
      e_x: Average of the squared updates, before the learning rate, as `e_g`.
    """

    count: jax.Array
    e_g: optax.Updates
    e_x: optax.Updates


def scale_by_partial_adadelta(
    rho: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-6,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a power of Adadelta's ratio of averages.

    .. math::

      \begin{align*}
        E[g^2]_t &= \rho E[g^2]_{t-1} + (1-\rho) |g_t|^2 \\
        u_t &= \left(\frac{E[u^2]_{t-1} + \varepsilon}{E[g^2]_t + \varepsilon}\right)^p g_t \\
        E[u^2]_t &= \rho E[u^2]_{t-1} + (1-\rho) |u_t|^2
      \end{align*}

    p = 1/2 is :func:`optax.scale_by_adadelta`; p = 0 leaves the gradient as it is. The power applies to the whole
    ratio. If the numerator kept its square root, u would be proportional to its own past values with the factor
    :math:`|g|^{1-2p}`, and would grow or die out exponentially for p < 1/2. Under gradients of a steady size updates
    tend to :math:`|u| = |g|`, more slowly the nearer p is to 1/2, so the method needs a learning rate as SGD does.

    Args:
      rho: Decay rate of both averages, in [0, 1).
      eps: Added to both averages; at least 0. It starts the method: with 0, every update is 0, except at p = 0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; dtypes as for :func:`padam_optax.scale_by_partial_rss`.

    Raises:
      ValueError: If a Python number rho is outside [0, 1), eps is negative or not finite, or p is outside [0, 1/2].
        Traced values and schedules are not checked.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_partial_adadelta(p=1/4)
      >>> params = jnp.array([1., 2., 3.])
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(*(f'{x:.4f}' for x in updates))
      0.0562 0.0795 0.0974

    References:
      Zeiler, `Adadelta: An Adaptive Learning Rate Method <https://arxiv.org/abs/1212.5701>`_, 2012; Chen et al., IJCAI
      2020, section 3.

    .. seealso:: :func:`padam_optax.partial_adadelta`
    """
    _checks.check_decay("rho", rho)
    _checks.check_non_negative("eps", eps)
    _checks.check_p(p)

    def step(
        now: Now, gradient: jax.Array, param: jax.Array | None, e_g: jax.Array, e_x: jax.Array
    ) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, e_g)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_e_g = _averages.decay_squares(e_g, wide, rho)
        below, above = (_powers.root(average.astype(dtype), eps, eps_in_sqrt=True) for average in (new_e_g, e_x))
        # The update is 0 where either average is 0: `divide_by_power` returns 0 for the base 0.
        ratio = jnp.where(above > 0, below / jnp.where(above > 0, above, 1), 0)
        update = _powers.divide_by_power(wide, ratio, now.p)
        new_e_x = _averages.decay_squares(e_x, update, rho)
        return _dtypes.cast_update(update, param, gradient), new_e_g, new_e_x

    moments = {"e_g": _averages.init_nu, "e_x": _averages.init_nu}
    return elementwise(ScaleByPartialAdadeltaState, moments, step, p)


def partial_adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any | Callable[[optax.Params], Any] | None = None,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive Adadelta: :func:`optax.adadelta` at p = 1/2, SGD at p = 0.

    .. math::

      g_t \leftarrow g_t + \lambda x_t, \qquad x_{t+1} = x_t - \alpha_t u_t

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_adadelta`.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0. Adadelta's paper
        has none, which is a rate of 1.
      rho, eps, p: As in :func:`padam_optax.scale_by_partial_adadelta`.
      weight_decay: :math:`\lambda`, coupled. A Python 0 leaves decay out, and then `update` needs no parameters; any
        other value, traced ones included, and schedules always keep it.
      weight_decay_mask: Which parameters decay: a prefix tree of booleans, or a function of the parameters that returns
        one.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_adadelta`; also if a Python number `weight_decay` is negative.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.partial_adadelta(0.5, p=1/8)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      9.89
      1.62
      0.06

    References:
      Zeiler, 2012; Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.scale_by_partial_adadelta`, :func:`optax.adadelta`
    """
    _checks.check_non_negative("weight_decay", weight_decay)
    return optax.chain(
        _stages.weight_decay_stage(weight_decay, weight_decay_mask),
        scale_by_partial_adadelta(rho, eps, p=p),
        _stages.learning_rate_stage(learning_rate),
    )
