"""Partially adaptive RMSprop, centered and not: Optax's `rmsprop` with the power 2p in the place of its root."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _stages
from padam_optax.transforms._elementwise import Now, elementwise
from padam_optax.transforms._reference import ReferenceScope, checked_reference


class ScaleByPartialRmsState(NamedTuple):
    """State of `scale_by_partial_rms`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      nu: Second moment, real, shaped like the parameters, in float32 at least.
      reference_root: R of `reference_p`, see :class:`padam_optax.ScaleByPartialAmsgradState`; None without it.
    """

    count: jax.Array
    nu: optax.Updates
    reference_root: Any = None


class ScaleByPartialStddevState(NamedTuple):
    """State of `scale_by_partial_stddev`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped like the parameters, in float32 at least.
      nu: Second moment, real, shaped like the parameters, in float32 at least.
      reference_root: R of `reference_p`, see :class:`padam_optax.ScaleByPartialAmsgradState`; None without it.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    reference_root: Any = None


def scale_by_partial_rms(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a power of the average of the squared gradients (partially adaptive RMSprop).

    .. math::

      v_t = \rho v_{t-1} + (1-\rho) |g_t|^2, \qquad u_t = g_t / (v_t + \varepsilon)^p

    or, without `eps_in_sqrt`, :math:`g_t / (\sqrt{v_t} + \varepsilon)^{2p}`, as Padam has it. p = 1/2 is
    :func:`optax.scale_by_rms`; p = 0 leaves the gradient as it is.

    Args:
      decay: :math:`\rho`, in [0, 1).
      eps: Added to the second moment or to its root; at least 0. With 0, a coordinate whose second moment is 0 gets
        the update 0 (its gradient at p = 0).
      initial_scale: :math:`v_0`, of every coordinate; at least 0.
      eps_in_sqrt: Whether `eps` is added to the second moment (Optax's default) or to its root (PyTorch).
      bias_correction: Whether :math:`v_t` is divided by :math:`1-\rho^t`.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.
      reference_p, calibration_steps, reference_scope: As in :func:`padam_optax.scale_by_partial_amsgrad`: the p in
        whose units the learning rate is given, and how its factor is measured.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; dtypes as for :func:`padam_optax.scale_by_partial_rss`.

    Raises:
      ValueError: If a Python number decay is outside [0, 1), eps or initial_scale is negative or not finite, or p is
        outside [0, 1/2]. Traced values and schedules are not checked.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_partial_rms(0., 0., p=1/4)
      >>> params = jnp.array([1., 4., 9.])
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(updates)
      [1. 2. 3.]

    References:
      Hinton, `Overview of mini-batch gradient descent
      <https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf>`_, 2012; Chen et al., IJCAI 2020,
      section 3.

    .. seealso:: :func:`padam_optax.partial_rmsprop`, :func:`padam_optax.scale_by_partial_stddev`
    """
    _check_rms(decay, eps, initial_scale, p)
    reference = checked_reference(reference_p, calibration_steps, reference_scope)

    def roots(now: Now, gradient: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = _dtypes.widened(gradient, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_nu = _averages.decay_squares(nu, wide, decay)
        square = _averages.debias(new_nu.astype(dtype), decay, now.t(dtype))
        return _powers.root(square, eps, eps_in_sqrt=eps_in_sqrt), new_nu > 0

    def step(now: Now, gradient: jax.Array, param: jax.Array | None, nu: jax.Array) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_nu = _averages.decay_squares(nu, wide, decay)
        square = new_nu.astype(dtype)
        if bias_correction:
            square = _averages.debias(square, decay, now.t(dtype))
        update = _powers.divide_by_power(wide, _powers.root(square, eps, eps_in_sqrt=eps_in_sqrt), now.p)
        return _dtypes.cast_update(now.scaled(update), param, gradient), new_nu

    moments = {"nu": functools.partial(_averages.init_nu, value=initial_scale)}
    return elementwise(ScaleByPartialRmsState, moments, step, p, reference=reference, roots=roots)


def scale_by_partial_stddev(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a power of the average variance of the gradients (partially adaptive, centered RMSprop).

    .. math::

      m_t = \rho m_{t-1} + (1-\rho) g_t, \quad v_t = \rho v_{t-1} + (1-\rho) |g_t|^2, \quad
      u_t = g_t / (v_t - |m_t|^2 + \varepsilon)^p

    p = 1/2 is :func:`optax.scale_by_stddev`, except that a variance made negative by rounding counts as 0.

    Args:
      decay: :math:`\rho`, in [0, 1).
      eps: Added to the variance or to its root; at least 0. With 0, a coordinate whose variance is 0 gets the update
        0 (its gradient at p = 0).
      initial_scale: :math:`v_0`, of every coordinate; at least 0.
      eps_in_sqrt: Whether `eps` is added to the variance (Optax's default) or to its root (PyTorch).
      bias_correction: Whether both moments are divided by :math:`1-\rho^t`.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.
      reference_p, calibration_steps, reference_scope: As in :func:`padam_optax.scale_by_partial_amsgrad`: the p in
        whose units the learning rate is given, and how its factor is measured.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`; dtypes as for :func:`padam_optax.scale_by_partial_rss`.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_rms`.

    Examples:
      >>> import jax.numpy as jnp, padam_optax
      >>> transformation = padam_optax.scale_by_partial_stddev(0.5, 0., p=1/4)
      >>> params = jnp.array([2., 8., 18.])  # The variance is a quarter of the square.
      >>> updates, state = transformation.update(params, transformation.init(params))
      >>> print(updates)
      [2. 4. 6.]

    References:
      Graves, `Generating Sequences With Recurrent Neural Networks <https://arxiv.org/abs/1308.0850>`_, 2013; Chen et
      al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.partial_rmsprop`, which uses it with `centered=True`
    """
    _check_rms(decay, eps, initial_scale, p)
    reference = checked_reference(reference_p, calibration_steps, reference_scope)

    def variance_of(now: Now, mean: jax.Array, square: jax.Array, *, debiased: bool) -> jax.Array:
        if debiased:
            mean, square = (_averages.debias(moment, decay, now.t(square.dtype)) for moment in (mean, square))
        return jnp.maximum(square - _averages.squared_magnitude(mean), 0)

    def roots(now: Now, gradient: jax.Array, mu: jax.Array, nu: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = _dtypes.widened(gradient, mu, nu)
        new_mu = _averages.decay_average(mu, wide, decay)
        square = _averages.decay_squares(nu, wide, decay).astype(_dtypes.real_dtype(wide.dtype))
        variance = variance_of(now, new_mu, square, debiased=True)
        return _powers.root(variance, eps, eps_in_sqrt=eps_in_sqrt), variance > 0

    def step(
        now: Now, gradient: jax.Array, param: jax.Array | None, mu: jax.Array, nu: jax.Array
    ) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, mu, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        new_mu = _averages.decay_average(mu, wide, decay)
        new_nu = _averages.decay_squares(nu, wide, decay)
        variance = variance_of(now, new_mu, new_nu.astype(dtype), debiased=bias_correction)
        update = _powers.divide_by_power(wide, _powers.root(variance, eps, eps_in_sqrt=eps_in_sqrt), now.p)
        return _dtypes.cast_update(now.scaled(update), param, gradient), new_mu.astype(mu.dtype), new_nu

    moments = {"mu": _averages.init_wide_mu, "nu": functools.partial(_averages.init_nu, value=initial_scale)}
    return elementwise(ScaleByPartialStddevState, moments, step, p, reference=reference, roots=roots)


def partial_rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: jax.typing.ArrayLike | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive RMSprop: :func:`optax.rmsprop` at p = 1/2, SGD at p = 0, with optional momentum.

    .. math::

      x_{t+1} = x_t - \alpha_t \, g_t / (v_t + \varepsilon)^p

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      decay, eps, initial_scale, eps_in_sqrt, bias_correction, p, reference_p, calibration_steps, reference_scope: As in
        :func:`padam_optax.scale_by_partial_rms`.
      centered: Whether the variance of the gradients replaces the second moment
        (:func:`padam_optax.scale_by_partial_stddev`).
      momentum: Decay rate of a trace of the updates, learning rate included, in [0, 1); None for no momentum.
      nesterov: Whether that momentum is Nesterov's.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_rms`; also if a Python number `momentum` is outside [0, 1).

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.partial_rmsprop(0.1, p=1/8)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(3):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      9.43
      6.51
      4.54

    References:
      Hinton, 2012; Graves, 2013 (centered); Chen et al., IJCAI 2020, section 3.

    .. seealso:: :func:`padam_optax.scale_by_partial_rms`, :func:`optax.rmsprop`
    """
    if momentum is not None:
        _checks.check_decay("momentum", momentum)
    scale = scale_by_partial_stddev if centered else scale_by_partial_rms
    return optax.chain(
        scale(
            decay,
            eps,
            initial_scale,
            eps_in_sqrt,
            bias_correction,
            p=p,
            reference_p=reference_p,
            calibration_steps=calibration_steps,
            reference_scope=reference_scope,
        ),
        _stages.learning_rate_stage(learning_rate),
        optax.identity() if momentum is None else _stages.momentum_stage(momentum, nesterov),
    )


def _check_rms(decay: Any, eps: Any, initial_scale: Any, p: Any) -> None:
    _checks.check_decay("decay", decay)
    _checks.check_non_negative("eps", eps)
    _checks.check_non_negative("initial_scale", initial_scale)
    _checks.check_p(p)
