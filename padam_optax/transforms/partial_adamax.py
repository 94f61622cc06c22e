"""Partially adaptive AdaMax: Optax's `adamax` with the power 2p of its infinity moment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _stages
from padam_optax.transforms._elementwise import Now, elementwise
from padam_optax.transforms._reference import ReferenceScope, checked_reference


class ScaleByPartialAdamaxState(NamedTuple):
    """State of `scale_by_partial_adamax`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped and typed like the parameters.
      nu: Infinity moment, an unsquared magnitude: real, shaped like the parameters, in float32 at least.
      reference_root: R of `reference_p`, see :class:`padam_optax.ScaleByPartialAmsgradState`; None without it.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    reference_root: Any = None


def scale_by_partial_adamax(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by momentum over a power of AdaMax's infinity moment.

    .. math::

      \begin{align*}
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t \\
        n_t &= \max(\beta_2 n_{t-1}, |g_t| + \varepsilon) \\
        u_t &= \frac{m_t}{1-\beta_1^t} \Big/ n_t^{2p}
      \end{align*}

    The infinity moment is a magnitude, not a square. It takes the place of the root of Adam's second moment, so its
    power is 2p. p = 1/2 is :func:`optax.scale_by_adamax`, which divides by :math:`n_t` itself; p = 0 is debiased
    momentum. (AdaMax is the limit of p-norms; the p of Chen et al. is not the p of these norms, as their section 3
    says.)

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the infinity moment, in [0, 1).
      eps: Added to the gradient's magnitude; at least 0. With 0, a coordinate that had no gradient yet gets the update
        0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.
      reference_p, calibration_steps, reference_scope: As in :func:`padam_optax.scale_by_partial_amsgrad`: the p in
        whose units the learning rate is given, and how its factor is measured.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; dtypes as for :func:`padam_optax.scale_by_partial_amsgrad`.

    Raises:
      ValueError: If a Python number b1 or b2 is outside [0, 1), eps is negative or not finite, or p is outside
        [0, 1/2]. Traced values and schedules are not checked.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_partial_adamax(eps=0., p=1/4)
      >>> params = jnp.array([1., 4., 9.])
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(updates.round(4))
      [1. 2. 3.]

    References:
      Kingma and Ba, `Adam: A Method for Stochastic Optimization <https://arxiv.org/abs/1412.6980>`_, ICLR 2015,
      Algorithm 2; Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.partial_adamax`
    """
    _checks.check_decay("b1", b1)
    _checks.check_decay("b2", b2)
    _checks.check_non_negative("eps", eps)
    _checks.check_p(p)

    reference = checked_reference(reference_p, calibration_steps, reference_scope)

    def new_magnitude(wide: jax.Array, nu: jax.Array) -> jax.Array:
        dtype = _dtypes.real_dtype(wide.dtype)
        decayed = jnp.asarray(b2, dtype) * nu.astype(dtype)
        return _averages.saturating_cast(jnp.maximum(decayed, jnp.abs(wide) + jnp.asarray(eps, dtype)), nu.dtype)

    def roots(now: Now, gradient: jax.Array, mu: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
        del now
        magnitude = new_magnitude(_dtypes.widened(gradient, mu, nu), nu)
        return magnitude, magnitude > jnp.asarray(eps, magnitude.dtype)

    def step(
        now: Now, gradient: jax.Array, param: jax.Array | None, mu: jax.Array, nu: jax.Array
    ) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, mu, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_mu = _averages.decay_average(mu, wide, b1)
        new_nu = new_magnitude(wide, nu)
        momentum = _averages.debias(new_mu, b1, now.t(dtype))
        update = _powers.divide_by_power(momentum, new_nu.astype(dtype), now.p)
        return _dtypes.cast_update(now.scaled(update), param, mu), new_mu.astype(mu.dtype), new_nu

    moments = {"mu": _averages.init_mu, "nu": _averages.init_nu}
    return elementwise(ScaleByPartialAdamaxState, moments, step, p, reference=reference, roots=roots)


def partial_adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive AdaMax: :func:`optax.adamax` at p = 1/2, SGD with debiased momentum at p = 0.

    .. math::

      x_{t+1} = x_t - \alpha_t u_t

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_adamax`.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      b1, b2, eps, p, reference_p, calibration_steps, reference_scope: As in
        :func:`padam_optax.scale_by_partial_adamax`.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_adamax`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.partial_adamax(0.1, p=1/8)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      10.49
      7.68
      5.48

    References:
      Kingma and Ba, ICLR 2015; Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.scale_by_partial_adamax`, :func:`optax.adamax`
    """
    return optax.chain(
        scale_by_partial_adamax(
            b1,
            b2,
            eps,
            p=p,
            reference_p=reference_p,
            calibration_steps=calibration_steps,
            reference_scope=reference_scope,
        ),
        _stages.learning_rate_stage(learning_rate),
    )
