"""Padam, the partially adaptive momentum estimation method of Chen et al. (IJCAI 2020)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _checks, _moments, _powers, _rounding

BiasCorrection: TypeAlias = Literal["none", "official", "debiased"]
_BIAS_CORRECTIONS = ("none", "official", "debiased")
Rounding: TypeAlias = Literal["stochastic", "nearest"]
_ROUNDINGS = ("stochastic", "nearest")


class ScaleByPartialAmsgradState(NamedTuple):
    """State of `scale_by_partial_amsgrad`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped like the parameters, in their dtype or `mu_dtype`.
      nu: Second moment, real, shaped like the parameters, in float32 at least or in `nu_dtype`.
      nu_max: Elementwise maximum of every `nu` so far (the paper's v-hat), as `nu`.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: optax.Updates


def scale_by_partial_amsgrad(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    bias_correction: BiasCorrection = "none",
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding = "stochastic",
    allow_unproven_p: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Rescales updates by momentum over a power of AMSGrad's second moment.

    .. math::

      \begin{align*}
        m_t &= \beta_1 m_{t-1} + (1-\beta_1) g_t \\
        v_t &= \beta_2 v_{t-1} + (1-\beta_2) |g_t|^2 \\
        \hat{v}_t &= \max(\hat{v}_{t-1}, v_t) \\
        u_t &= c_t \, m_t / (\sqrt{\hat{v}_t} + \varepsilon)^{2p}
      \end{align*}

    With p = 0 this is SGD with momentum, scaled by :math:`1-\beta_1`; with p = 1/2 it is AMSGrad. The maximum is taken
    of the uncorrected second moment, as in the paper and in PyTorch (:func:`optax.amsgrad` corrects it first).

    Args:
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of `nu_max`, inside the power; at least 0. With 0, a coordinate whose `nu_max` is 0 gets
        the update 0 (at p = 0, where nothing is divided by, its momentum).
      p: The partially adaptive parameter, in [0, 1/2]: a Python number (1/2, 1/4, 1/8, 1/16, ... cost square roots
        only), a scalar array, traced or not, or a schedule of the update count, which starts at 0.
      bias_correction: What multiplies the update at step t = 1, 2, ... "none": 1, as in Algorithm 1. "official":
        :math:`\sqrt{1-\beta_2^t} / (1-\beta_1^t)`, as in the authors' code whatever p is; a warm-up. "debiased":
        :math:`(1-\beta_2^t)^p / (1-\beta_1^t)`, which undoes the bias of both moments.
      mu_dtype: Dtype of the first moment; by default each parameter's. Complex parameters keep their own.
      nu_dtype: Dtype of `nu` and `nu_max`, real; by default the parameter's real one, and float32 for 16-bit
        parameters.
      nu_rounding: How moments are rounded to a `nu_dtype` of bfloat16 (any other dtype is rounded to nearest).
        "stochastic": `nu` up or down at random, exact in expectation, and `nu_max` up, so that it never falls; a
        function of the values and of the step, so that runs repeat. "nearest": a bfloat16 average at b2 = 0.999 stops
        short of its value.
      allow_unproven_p: Whether p may be up to 1, where the paper proves nothing: 1 divides by :math:`\hat{v}_t`
        itself, without the root (Lin et al., 2024). A p that is no Python number then costs a second power.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`. The updates have the shapes of the gradients and the dtypes of
      the parameters; where `update` is called without parameters, of the first moment (of the gradients, if
      `mu_dtype` is given). Moments and denominator are computed in float32 at least, and the update from the moments
      as they are kept; a squared gradient that overflows saturates at the dtype's maximum. Works element by element, so
      that the state takes any sharding.

    Raises:
      ValueError: If a Python number b1 or b2 is outside [0, 1), eps is negative or not finite, p is outside [0, 1/2]
        ([0, 1] with `allow_unproven_p`), `bias_correction` or `nu_rounding` is none of its names, or `nu_dtype` is not
        a real floating dtype. Traced values and schedules are not checked.

    Examples:
      Padam with the paper's schedule for CIFAR-10: the rate is divided by 10 after epochs 100 and 150.

      >>> import jax.numpy as jnp, optax, padam_optax
      >>> steps_per_epoch = 391
      >>> schedule = optax.piecewise_constant_schedule(
      ...     0.1, {100 * steps_per_epoch: 0.1, 150 * steps_per_epoch: 0.1})
      >>> optimizer = optax.chain(
      ...     padam_optax.scale_by_partial_amsgrad(p=1/8),
      ...     optax.scale_by_learning_rate(schedule))
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> updates, state = optimizer.update(2 * params, state, params)
      >>> print(*(f'{x:.4f}' for x in optax.apply_updates(params, updates)))
      0.9601 1.9329 2.9091

      The update with index 39099 is the last of epoch 100; the rate changes with the one after it:

      >>> import numpy as np
      >>> ends = [100 * steps_per_epoch - 1, 150 * steps_per_epoch - 1]
      >>> np.testing.assert_allclose([schedule(end) for end in ends], [0.1, 0.01], rtol=1e-6)
      >>> np.testing.assert_allclose([schedule(end + 1) for end in ends], [0.01, 0.001], rtol=1e-6)

    References:
      Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
      <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, Algorithm 1.

      Lin et al., `Can We Remove the Square-Root in Adaptive Gradient Methods? A Second-Order Perspective
      <https://arxiv.org/abs/2402.03496>`_, ICML 2024.

    .. seealso:: :func:`padam_optax.padam`, :func:`padam_optax.padamw`, :func:`optax.scale_by_amsgrad`
    """
    _checks.check_decay("b1", b1)
    _checks.check_decay("b2", b2)
    _checks.check_non_negative("eps", eps)
    _checks.check_p(
        p, highest=1 if allow_unproven_p else 0.5, hint=" allow_unproven_p=True takes p up to 1 nevertheless."
    )
    if bias_correction not in _BIAS_CORRECTIONS:
        raise ValueError(f"bias_correction must be one of {', '.join(_BIAS_CORRECTIONS)}; got {bias_correction!r}.")
    if nu_rounding not in _ROUNDINGS:
        raise ValueError(f"nu_rounding must be one of {', '.join(_ROUNDINGS)}; got {nu_rounding!r}.")
    _checks.check_real_dtype("nu_dtype", nu_dtype)

    def init_fn(params: optax.Params) -> ScaleByPartialAmsgradState:
        return ScaleByPartialAmsgradState(
            count=jnp.zeros([], jnp.int32),
            mu=_moments.init_mu(params, mu_dtype),
            nu=_moments.init_nu(params, nu_dtype),
            nu_max=_moments.init_nu(params, nu_dtype),
        )

    def accumulate(new_nu: jax.Array, nu_max: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`nu` and `nu_max` as they are kept."""
        if nu_rounding == "nearest" or nu_max.dtype != jnp.bfloat16:
            new_nu = _moments.cast_average(new_nu, nu_max.dtype)
            return new_nu, jnp.maximum(nu_max, new_nu)
        # Rounded as float32: XLA's CPU backend takes twice as long over 16-bit integers.
        new_nu = _moments.cast_average(new_nu, jnp.float32)
        highest = jnp.maximum(nu_max.astype(jnp.float32), _rounding.upward(new_nu))
        highest = highest.astype(nu_max.dtype)
        rounded = _rounding.stochastically(new_nu, count)
        # It never is above: this tells XLA that `nu` is written last, in place.
        return jnp.where(rounded > highest.astype(jnp.float32), highest, rounded.astype(jnp.bfloat16)), highest

    def update_fn(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, ScaleByPartialAmsgradState]:
        del extra_args
        p_now = _moments.value_at(p, state.count)

        def step(
            gradient: jax.Array, mu: jax.Array, nu: jax.Array, nu_max: jax.Array, param: jax.Array | None
        ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
            wide = _moments.widened(gradient, mu, nu)
            dtype = _moments.real_dtype(wide.dtype)
            # The update is made from the moments as kept: wider ones XLA computes again, from copies of the old.
            new_mu = _moments.decay_average(mu, wide, b1).astype(mu.dtype)
            new_nu = _moments.decay_average(nu, _moments.squared_magnitude(wide), b2)
            new_nu, new_nu_max = accumulate(new_nu, nu_max, state.count)
            root = jnp.sqrt(new_nu_max.astype(dtype)) + jnp.asarray(eps, dtype)
            update = _powers.divide_by_power(
                new_mu.astype(wide.dtype),
                root,
                p_now,
                positive=_checks.is_normal(eps, dtype),
                up_to_one=allow_unproven_p,
            )
            if bias_correction != "none":
                correction = _correction(bias_correction, b1, b2, p_now, _moments.step_of(state.count, dtype))
                update = correction.astype(update.dtype) * update
            update = update.astype(_moments.update_dtype(gradient, mu, param, mu_dtype))
            return update, new_mu, new_nu, new_nu_max

        new_updates, mu, nu, nu_max = _moments.map_leaves(
            step, 4, updates, state.mu, state.nu, state.nu_max, params=params
        )
        count = jnp.asarray(optax.safe_increment(state.count))
        return new_updates, ScaleByPartialAmsgradState(count, mu, nu, nu_max)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _correction(
    bias_correction: str,
    b1: jax.typing.ArrayLike,
    b2: jax.typing.ArrayLike,
    p: jax.typing.ArrayLike,
    step: jax.Array,
) -> jax.Array:
    """c_t, in the dtype of `step`."""
    power = 0.5 if bias_correction == "official" else jnp.asarray(p, step.dtype)
    return _moments.debias(b2, step) ** power / _moments.debias(b1, step)


def padam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    bias_correction: BiasCorrection = "none",
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding = "stochastic",
    allow_unproven_p: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Padam with coupled (L2) weight decay, as in the paper's experiments.

    .. math::

      g_t \leftarrow g_t + \lambda x_t, \qquad x_{t+1} = x_t - \alpha_t u_t

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_amsgrad` and the decay :math:`\lambda x_t`
    is added before the moments.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0. The paper uses
        0.1 with p = 1/8, as large as for SGD with momentum.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, inside the power; at least 0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.
      weight_decay: :math:`\lambda`. A Python 0 leaves decay out, and then `update` needs no parameters; any other
        value, traced ones included, and schedules always keep it.
      mask: Tree of booleans, a prefix of the parameters, or a function of them that returns one: what decays.
      bias_correction: "none" (Algorithm 1), "official" (the authors' code) or "debiased".
      mu_dtype: Dtype of the first moment; by default each parameter's.
      nu_dtype: Dtype of the second moment and its maximum; by default float32 at least.
      nu_rounding: To a `nu_dtype` of bfloat16: "stochastic" or "nearest".
      allow_unproven_p: Whether p may be above 1/2, up to 1.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_amsgrad`; also if a Python number `weight_decay` is negative.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.padam(0.1, p=1/8)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(5):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      13.12
      11.68
      9.89
      7.96
      6.05

    References:
      Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
      <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, Algorithm 1 and section 5.

    .. seealso:: :func:`padam_optax.padamw` (decoupled decay), :func:`padam_optax.scale_by_partial_amsgrad`
    """
    _checks.check_non_negative("weight_decay", weight_decay)
    return optax.chain(
        _moments.weight_decay_stage(weight_decay, mask),
        scale_by_partial_amsgrad(
            b1,
            b2,
            eps,
            p=p,
            bias_correction=bias_correction,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
            nu_rounding=nu_rounding,
            allow_unproven_p=allow_unproven_p,
        ),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
    )


def padamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    bias_correction: BiasCorrection = "none",
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding = "stochastic",
    allow_unproven_p: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Padam with decoupled weight decay, as AdamW is to Adam.

    .. math::

      x_{t+1} = x_t - \alpha_t (u_t + \lambda x_t)

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_amsgrad`. As in :func:`optax.adamw`, the
    decay is multiplied by the learning rate; at Padam's rates, around 0.1, it acts a hundred times as strongly as at
    AdamW's 1e-3.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      b1: Decay rate of the first moment, in [0, 1).
      b2: Decay rate of the second moment, in [0, 1).
      eps: Added to the root of the second moment, inside the power; at least 0.
      p: The partially adaptive parameter, in [0, 1/2]: a Python number, a scalar array or a schedule.
      weight_decay: :math:`\lambda`. A Python 0 leaves decay out, and then `update` needs no parameters; any other
        value, traced ones included, and schedules always keep it.
      mask: Tree of booleans, a prefix of the parameters, or a function of them that returns one: what decays.
      bias_correction: "none" (Algorithm 1), "official" (the authors' code) or "debiased".
      mu_dtype: Dtype of the first moment; by default each parameter's.
      nu_dtype: Dtype of the second moment and its maximum; by default float32 at least.
      nu_rounding: To a `nu_dtype` of bfloat16: "stochastic" or "nearest".
      allow_unproven_p: Whether p may be above 1/2, up to 1.

    Returns:
      The :class:`optax.GradientTransformationExtraArgs`; its updates are to be added to the parameters.

    Raises:
      ValueError: As :func:`padam_optax.scale_by_partial_amsgrad`; also if a Python number `weight_decay` is negative.

    Examples:
      >>> import jax, jax.numpy as jnp, optax, padam_optax
      >>> def f(x): return jnp.sum(x ** 2)
      >>> optimizer = padam_optax.padamw(0.1, p=1/8, weight_decay=0.01)
      >>> params = jnp.array([1., 2., 3.])
      >>> state = optimizer.init(params)
      >>> for _ in range(5):
      ...     updates, state = optimizer.update(jax.grad(f)(params), state, params)
      ...     params = optax.apply_updates(params, updates)
      ...     print(f'{f(params):.2f}')
      13.09
      11.63
      9.82
      7.88
      5.98

    References:
      Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
      <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, Algorithm 1.

      Loshchilov and Hutter, `Decoupled Weight Decay Regularization <https://arxiv.org/abs/1711.05101>`_, ICLR 2019.

    .. seealso:: :func:`padam_optax.padam` (coupled decay), :func:`optax.adamw`
    """
    _checks.check_non_negative("weight_decay", weight_decay)
    return optax.chain(
        scale_by_partial_amsgrad(
            b1,
            b2,
            eps,
            p=p,
            bias_correction=bias_correction,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
            nu_rounding=nu_rounding,
            allow_unproven_p=allow_unproven_p,
        ),
        _moments.weight_decay_stage(weight_decay, mask, keep_dtype=True),
        _moments.keeping_dtype(optax.scale_by_learning_rate(learning_rate)),
    )
