"""Partially adaptive Adagrad, RMSprop, Adadelta and AdaMax, which the paper names at the end of its section 3.

Each takes Optax's arguments in Optax's order and, keyword-only, p: what Optax divides by, an estimate of the gradient's
magnitude, is raised to the power 2p. p = 1/2 is Optax's own method, p = 0 divides by nothing.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _checks, _moments, _powers


class ScaleByPartialRssState(NamedTuple):
    """State of `scale_by_partial_rss`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      sum_of_squares: Sum of the squared gradients, real, shaped like the parameters, in float32 at least.
    """

    count: jax.Array
    sum_of_squares: optax.Updates


class ScaleByPartialRmsState(NamedTuple):
    """State of `scale_by_partial_rms`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      nu: Second moment, real, shaped like the parameters, in float32 at least.
    """

    count: jax.Array
    nu: optax.Updates


class ScaleByPartialStddevState(NamedTuple):
    """State of `scale_by_partial_stddev`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped like the parameters, in float32 at least.
      nu: Second moment, real, shaped like the parameters, in float32 at least.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


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


class ScaleByPartialAdamaxState(NamedTuple):
    """State of `scale_by_partial_adamax`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped and typed like the parameters.
      nu: Infinity moment, an unsquared magnitude: real, shaped like the parameters, in float32 at least.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates


def scale_by_partial_rss(
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
    *,
    p: optax.ScalarOrSchedule = 0.125,
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

    def init_moments(params: optax.Params) -> tuple[optax.Updates, ...]:
        return (_moments.init_nu(params, None, initial_accumulator_value),)

    def step(now: _Now, gradient: jax.Array, total: jax.Array, param: jax.Array | None) -> tuple[jax.Array, ...]:
        wide = _moments.widened(gradient, total)
        dtype = _moments.real_dtype(wide.dtype)
        new_total = total.astype(dtype) + _moments.squared_magnitude(wide)
        new_total = _moments.saturating_cast(new_total, total.dtype)
        # As in Optax, eps does not move a coordinate whose squares all underflowed.
        root = jnp.where(new_total > 0, jnp.sqrt(new_total.astype(dtype) + jnp.asarray(eps, dtype)), 0)
        update = _powers.divide_by_power(wide, root, now.p)
        return update.astype(_update_dtype(gradient, param)), new_total

    return _elementwise(ScaleByPartialRssState, init_moments, step, p)


def partial_adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive Adagrad: :func:`optax.adagrad` at p = 1/2, SGD at p = 0.

    .. math::

      x_{t+1} = x_t - \alpha_t \, g_t / \big(s_0 + \textstyle\sum_{\tau \le t} |g_\tau|^2 + \varepsilon\big)^p

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      initial_accumulator_value: :math:`s_0`; at least 0.
      eps: Added to the sum; at least 0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.

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
        scale_by_partial_rss(initial_accumulator_value, eps, p=p),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
    )


def scale_by_partial_rms(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    p: optax.ScalarOrSchedule = 0.125,
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

    def init_moments(params: optax.Params) -> tuple[optax.Updates, ...]:
        return (_moments.init_nu(params, None, initial_scale),)

    def step(now: _Now, gradient: jax.Array, nu: jax.Array, param: jax.Array | None) -> tuple[jax.Array, ...]:
        wide = _moments.widened(gradient, nu)
        dtype = _moments.real_dtype(wide.dtype)
        new_nu = _moments.decay_average(nu, _moments.squared_magnitude(wide), decay)
        new_nu = _moments.cast_average(new_nu, nu.dtype)
        corrected = _corrected(new_nu.astype(dtype), decay, now.count) if bias_correction else new_nu
        root = _root(corrected.astype(dtype), eps, eps_in_sqrt)
        update = _powers.divide_by_power(wide, root, now.p)
        return update.astype(_update_dtype(gradient, param)), new_nu

    return _elementwise(ScaleByPartialRmsState, init_moments, step, p)


def scale_by_partial_stddev(
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by a power of the average variance of the gradients (partially adaptive, centered RMSprop).

    .. math::

      m_t = \rho m_{t-1} + (1-\rho) g_t, \quad v_t = \rho v_{t-1} + (1-\rho) |g_t|^2, \quad
      u_t = g_t / (v_t - |m_t|^2 + \varepsilon)^p

    p = 1/2 is :func:`optax.scale_by_stddev`, but that a variance that rounding makes negative is taken for 0.

    Args:
      decay: :math:`\rho`, in [0, 1).
      eps: Added to the variance or to its root; at least 0. With 0, a coordinate whose variance is 0 gets the update
        0 (its gradient at p = 0).
      initial_scale: :math:`v_0`, of every coordinate; at least 0.
      eps_in_sqrt: Whether `eps` is added to the variance (Optax's default) or to its root (PyTorch).
      bias_correction: Whether both moments are divided by :math:`1-\rho^t`.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.

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

    .. seealso:: :func:`padam_optax.partial_rmsprop`, which takes it with `centered=True`
    """
    _check_rms(decay, eps, initial_scale, p)

    def init_moments(params: optax.Params) -> tuple[optax.Updates, ...]:
        return _moments.init_wide(params), _moments.init_nu(params, None, initial_scale)

    def step(
        now: _Now, gradient: jax.Array, mu: jax.Array, nu: jax.Array, param: jax.Array | None
    ) -> tuple[jax.Array, ...]:
        wide = _moments.widened(gradient, mu, nu)
        dtype = _moments.real_dtype(wide.dtype)
        new_mu = _moments.decay_average(mu, wide, decay)
        new_nu = _moments.decay_average(nu, _moments.squared_magnitude(wide), decay)
        new_nu = _moments.cast_average(new_nu, nu.dtype)
        mean, square = new_mu, new_nu.astype(dtype)
        if bias_correction:
            mean, square = (_corrected(moment, decay, now.count) for moment in (mean, square))
        variance = jnp.maximum(square - _moments.squared_magnitude(mean), 0)
        update = _powers.divide_by_power(wide, _root(variance, eps, eps_in_sqrt), now.p)
        return update.astype(_update_dtype(gradient, param)), new_mu.astype(mu.dtype), new_nu

    return _elementwise(ScaleByPartialStddevState, init_moments, step, p)


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
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive RMSprop: :func:`optax.rmsprop` at p = 1/2, SGD at p = 0, with momentum if that is given.

    .. math::

      x_{t+1} = x_t - \alpha_t \, g_t / (v_t + \varepsilon)^p

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      decay: Decay rate of the second moment, in [0, 1).
      eps: Added to the second moment or to its root; at least 0.
      initial_scale: Initial second moment; at least 0.
      eps_in_sqrt: Whether `eps` is added to the second moment (Optax's default) or to its root (PyTorch).
      centered: Whether the variance of the gradients stands in the second moment's place.
      momentum: Decay rate of a trace of the updates, learning rate included, in [0, 1); None for none.
      nesterov: Whether that momentum is Nesterov's.
      bias_correction: Whether the moments are divided by :math:`1-\rho^t`.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.

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
        scale(decay, eps, initial_scale, eps_in_sqrt, bias_correction, p=p),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
        optax.identity() if momentum is None else _moments.keeping_dtype(optax.trace(momentum, nesterov)),
    )


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

    p = 1/2 is :func:`optax.scale_by_adadelta`; p = 0 leaves the gradient as it is. The power is that of the whole
    ratio: were the numerator left at its square root, u would be proportional to its own past values with the factor
    :math:`|g|^{1-2p}`, and grow or die out exponentially for p < 1/2. Under gradients of a steady size updates tend to
    :math:`|u| = |g|`, the slower the nearer p is to 1/2: a learning rate is needed as for SGD.

    Args:
      rho: Decay rate of both averages, in [0, 1).
      eps: Added to both averages; at least 0. It starts the method: with 0, every update is 0 (but at p = 0).
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

    def init_moments(params: optax.Params) -> tuple[optax.Updates, ...]:
        return _moments.init_nu(params, None), _moments.init_nu(params, None)

    def step(
        now: _Now, gradient: jax.Array, e_g: jax.Array, e_x: jax.Array, param: jax.Array | None
    ) -> tuple[jax.Array, ...]:
        wide = _moments.widened(gradient, e_g)
        dtype = _moments.real_dtype(wide.dtype)
        new_e_g = _moments.decay_average(e_g, _moments.squared_magnitude(wide), rho)
        new_e_g = _moments.cast_average(new_e_g, e_g.dtype)
        below, above = (_root(average.astype(dtype), eps, True) for average in (new_e_g, e_x))
        # 0 on either side gives the update 0, as 0 for the base of the power does.
        ratio = jnp.where(above > 0, below / jnp.where(above > 0, above, 1), 0)
        update = _powers.divide_by_power(wide, ratio, now.p)
        new_e_x = _moments.decay_average(e_x, _moments.squared_magnitude(update), rho)
        new_e_x = _moments.cast_average(new_e_x, e_x.dtype)
        return update.astype(_update_dtype(gradient, param)), new_e_g, new_e_x

    return _elementwise(ScaleByPartialAdadeltaState, init_moments, step, p)


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
        has none, that is 1.
      rho: Decay rate of both averages, in [0, 1).
      eps: Added to both averages; at least 0.
      weight_decay: :math:`\lambda`, coupled. A Python 0 leaves decay out, and then `update` needs no parameters; any
        other value, traced ones included, and schedules always keep it.
      weight_decay_mask: Tree of booleans, a prefix of the parameters, or a function of them that returns one: what
        decays.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.

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
        _moments.weight_decay_stage(weight_decay, weight_decay_mask),
        scale_by_partial_adadelta(rho, eps, p=p),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
    )


def scale_by_partial_adamax(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by momentum over a power of AdaMax's infinity moment.

    .. math::

      \begin{align*}
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t \\
        n_t &= \max(\beta_2 n_{t-1}, |g_t| + \varepsilon) \\
        u_t &= \frac{m_t}{1-\beta_1^t} \Big/ n_t^{2p}
      \end{align*}

    The infinity moment is a magnitude, not a square: it stands where the root of the second moment stands in Adam,
    and its power is therefore 2p. p = 1/2 is :func:`optax.scale_by_adamax`, which divides by :math:`n_t` itself; p =
    0 is debiased momentum. (The paper's p is not the p of the norms whose limit AdaMax is; see its section 3.)

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the infinity moment, in [0, 1).
      eps: Added to the gradient's magnitude; at least 0. With 0, a coordinate that had no gradient yet gets the update
        0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array, traced or not, or a schedule
        of the update count, which starts at 0.

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

    def init_moments(params: optax.Params) -> tuple[optax.Updates, ...]:
        return _moments.init_mu(params, None), _moments.init_nu(params, None)

    def step(
        now: _Now, gradient: jax.Array, mu: jax.Array, nu: jax.Array, param: jax.Array | None
    ) -> tuple[jax.Array, ...]:
        wide = _moments.widened(gradient, mu, nu)
        dtype = _moments.real_dtype(wide.dtype)
        new_mu = _moments.decay_average(mu, wide, b1)
        decayed = jnp.asarray(b2, dtype) * nu.astype(dtype)
        new_nu = jnp.maximum(decayed, jnp.abs(wide) + jnp.asarray(eps, dtype))
        new_nu = _moments.saturating_cast(new_nu, nu.dtype)
        update = _powers.divide_by_power(_corrected(new_mu, b1, now.count), new_nu.astype(dtype), now.p)
        update = update.astype(_moments.update_dtype(gradient, mu, param, None))
        return update, new_mu.astype(mu.dtype), new_nu

    return _elementwise(ScaleByPartialAdamaxState, init_moments, step, p)


def partial_adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
) -> optax.GradientTransformationExtraArgs:
    r"""Partially adaptive AdaMax: :func:`optax.adamax` at p = 1/2, SGD with debiased momentum at p = 0.

    .. math::

      x_{t+1} = x_t - \alpha_t u_t

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_adamax`.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the infinity moment, in [0, 1).
      eps: Added to the gradient's magnitude; at least 0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.

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
        scale_by_partial_adamax(b1, b2, eps, p=p),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
    )


class _Now(NamedTuple):
    """What does not differ between coordinates: updates before this one, and p at it."""

    count: jax.Array
    p: Any


def _elementwise(
    state_type: Callable[..., Any],
    init_moments: Callable[[optax.Params], tuple[optax.Updates, ...]],
    step: Callable[..., tuple[jax.Array, ...]],
    p: optax.ScalarOrSchedule,
) -> optax.GradientTransformationExtraArgs:
    """A transformation with the state `state_type(count, *moments)`.

    `step(now, gradient, *moments, parameter or None)` returns the update and the new moments of one array.
    """

    def init_fn(params: optax.Params) -> Any:
        return state_type(jnp.zeros([], jnp.int32), *init_moments(params))

    def update_fn(
        updates: optax.Updates, state: Any, params: optax.Params | None = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        del extra_args
        count, *moments = state
        step_now = functools.partial(step, _Now(count, _moments.value_at(p, count)))
        updates, *moments = _moments.map_leaves(step_now, 1 + len(moments), updates, *moments, params=params)
        return updates, state_type(jnp.asarray(optax.safe_increment(count)), *moments)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _check_rms(decay: Any, eps: Any, initial_scale: Any, p: Any) -> None:
    _checks.check_decay("decay", decay)
    _checks.check_non_negative("eps", eps)
    _checks.check_non_negative("initial_scale", initial_scale)
    _checks.check_p(p)


def _root(square: jax.Array, eps: jax.typing.ArrayLike, eps_in_sqrt: bool) -> jax.Array:
    added = jnp.asarray(eps, square.dtype)
    return jnp.sqrt(square + added) if eps_in_sqrt else jnp.sqrt(square) + added


def _corrected(moment: jax.Array, decay: jax.typing.ArrayLike, count: jax.Array) -> jax.Array:
    """`moment` over 1 - decay^t; a real moment does not overflow by it."""
    step = _moments.step_of(count, _moments.real_dtype(moment.dtype))
    corrected = moment / _moments.debias(decay, step).astype(moment.dtype)
    return corrected if jnp.iscomplexobj(moment) else jnp.minimum(corrected, jnp.finfo(moment.dtype).max)


def _update_dtype(gradient: jax.Array, param: jax.Array | None) -> jnp.dtype:
    """The dtype of an update where no moment has the parameter's: the parameter's, or the gradient's without it."""
    return gradient.dtype if param is None else jnp.result_type(param)
