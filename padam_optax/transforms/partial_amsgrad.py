"""Padam, the partially adaptive momentum estimation method of Chen et al. (IJCAI 2020)."""

import functools
import numbers
import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax

from padam_optax.transforms import _averages, _checks, _dtypes, _powers, _rounding, _stages
from padam_optax.transforms._elementwise import Now, elementwise
from padam_optax.transforms._reference import ReferenceScope, checked_reference

BiasCorrection: TypeAlias = Literal["none", "official", "debiased"]
Rounding: TypeAlias = Literal["stochastic", "nearest"]

# An alias compares p with this object by identity to know that no p was given.
_DEFAULT_P = 0.125


class ScaleByPartialAmsgradState(NamedTuple):
    """State of `scale_by_partial_amsgrad`.

    Attributes:
      count: Updates seen so far, int32 scalar.
      mu: First moment, shaped like the parameters, in their dtype or `mu_dtype`.
      nu: Second moment, real, shaped like the parameters, in float32 at least or in `nu_dtype`.
      nu_max: Elementwise maximum of every `nu` so far (the paper's v-hat), as `nu`.
      reference_root: R of `reference_p`, float32 at least: (leaves of the parameters,), or a scalar with the scope
        "all"; 0 until a coordinate has moved. None without `reference_p`.
    """

    count: jax.Array
    mu: optax.Updates
    nu: optax.Updates
    nu_max: optax.Updates
    reference_root: Any = None


def scale_by_partial_amsgrad(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = 0.125,
    reference_p: jax.typing.ArrayLike | None = None,
    bias_correction: BiasCorrection | None = None,
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding | None = None,
    allow_unproven_p: bool = False,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
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
        the update 0 (at p = 0, where nothing is divided, its momentum).
      p: The partially adaptive parameter, in [0, 1/2]: a Python number (1/2, 1/4, 1/8, 1/16, ... cost square roots
        only), a scalar array, traced or not, or a schedule of the update count, which starts at 0.
      reference_p: q, the p in whose units the learning rate is given, in [0, 1/2]: a number or a scalar array, traced
        or not. The update is multiplied by :math:`R^{2(p-q)}`, R the geometric mean of the roots
        :math:`\sqrt{\hat{v}/(1-\beta_2^t)} + \varepsilon` of the coordinates that have moved. With 1/2 the learning
        rate is Adam's for every p; with 0 it is that of momentum SGD with the factor :math:`1-\beta_1`. None leaves
        the update as in Algorithm 1.
      bias_correction: What multiplies the update at step t = 1, 2, ... "none": 1, as in Algorithm 1. "official":
        :math:`\sqrt{1-\beta_2^t} / (1-\beta_1^t)`, as in the authors' code whatever p is; a warm-up. "debiased":
        :math:`(1-\beta_2^t)^p / (1-\beta_1^t)`, which undoes the bias of both moments. None, the default, is "none"
        without a `reference_p` and "debiased", which is Adam's own, with one.
      mu_dtype: Dtype of the first moment; by default each parameter's. Complex parameters keep their own.
      nu_dtype: Dtype of `nu` and `nu_max`: bfloat16, float32 or float64; by default the real dtype of the parameter,
        and float32 for 16-bit parameters.
      nu_rounding: How moments are rounded to a `nu_dtype` of bfloat16; allowed only with it. "stochastic", the default,
        rounds `nu` up or down at random, exactly in expectation, and `nu_max` up, so that it never falls. The rounding
        depends only on the values and the step, so that runs repeat. With "nearest" a bfloat16 average at b2 = 0.999
        stops short of its value.
      allow_unproven_p: Whether p may be up to 1, where the paper proves nothing: 1 divides by :math:`\hat{v}_t` itself,
        without the root (Lin et al., 2024). A p that is not a Python number then costs a second power.
      calibration_steps: Number of updates, above 0, over which R follows the roots, or longer where nothing has moved.
        Then the state holds R, and the method is Algorithm 1 with a constant factor. With a number above the length of
        the training R follows to its end.
      reference_scope: "leaf": an R for each array of the parameters; "all": one for all coordinates together.

    Returns:
      A :class:`optax.GradientTransformationExtraArgs`. The updates have the shapes of the gradients and the dtypes of
      the parameters; where `update` is called without parameters, those of the first moment (of the gradients, if
      `mu_dtype` is given). Moments and denominator are computed in float32 at least; the update is computed from the
      moments as stored. A gradient whose square would overflow counts as the largest one whose square does not.
      Everything but R works element by element, so that the state takes any sharding. A gradient of None passes
      through.

      An injected hyper-parameter takes the dtype of the first parameter: in bfloat16 a b2 of 0.999 becomes 1, and
      updates are 40 times too large, or 0. Give `optax.inject_hyperparams` a `hyperparam_dtype` of float32 there. Give
      it `static_args=("mask",)` if a mask is a function: it would take that for a schedule. Derivatives through an
      update treat the root's derivative at 0 as 0, and rounding as the identity.

      The maximum never forgets: one gradient of 1e4 among gradients of 1 divides all later steps of its coordinate by
      :math:`10^{5p}` (b2 = 0.999). With eps = 0 a gradient below 1e-20 in float32 moves nothing. A run repeats bit by
      bit in one compiled program, not across programs.

    Raises:
      ValueError: If a Python number b1 or b2 is outside [0, 1), eps is negative or not finite, p or `reference_p` is
        outside [0, 1/2] ([0, 1] with `allow_unproven_p`), `bias_correction`, `nu_rounding` or `reference_scope` is not
        one of its names, `nu_rounding` is given without a `nu_dtype` of bfloat16, or `mu_dtype` or `nu_dtype` cannot
        hold its moment; by `update`, if a gradient has another shape than its parameter. Traced values and schedules
        are not checked.
      TypeError: By `init` and `update`, if a leaf is neither float16, bfloat16, float32, float64 nor complex; the
        message names the leaf.

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

      The update with index 39099 is the last of epoch 100; the rate changes with the next one:

      >>> import numpy as np
      >>> ends = [100 * steps_per_epoch - 1, 150 * steps_per_epoch - 1]
      >>> np.testing.assert_allclose([schedule(end) for end in ends], [0.1, 0.01], rtol=1e-6)
      >>> np.testing.assert_allclose([schedule(end + 1) for end in ends], [0.01, 0.001], rtol=1e-6)

      Adam's learning rate at p = 1/8:

      >>> import optax, padam_optax
      >>> optimizer = optax.chain(
      ...     optax.clip_by_global_norm(1.0),
      ...     padam_optax.scale_by_partial_amsgrad(p=1/8, reference_p=1/2),
      ...     optax.scale_by_learning_rate(optax.cosine_decay_schedule(1e-3, 10_000)))

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
    _checks.check_p(p, highest=1 if allow_unproven_p else 0.5, hint=" allow_unproven_p=True allows p up to 1.")
    if bias_correction is None:
        bias_correction = "none" if reference_p is None else "debiased"
    _checks.check_one_of("bias_correction", bias_correction, get_args(BiasCorrection))
    _checks.check_moment_dtypes(mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    nu_rounding = _checked_rounding(nu_rounding, nu_dtype)
    reference = checked_reference(
        reference_p, calibration_steps, reference_scope, highest=1 if allow_unproven_p else 0.5
    )

    def second_moments(now: Now, wide: jax.Array, nu: jax.Array, nu_max: jax.Array) -> tuple[jax.Array, jax.Array]:
        if nu_rounding == "stochastic" and nu.dtype == jnp.bfloat16:
            exact = _averages.decay_average(nu, _averages.squared_magnitude(wide), b2)
            return _rounding.average_and_maximum(exact, nu_max, now.count)
        new_nu = _averages.decay_squares(nu, wide, b2)
        return new_nu, jnp.maximum(nu_max, new_nu)

    def roots(
        now: Now, gradient: jax.Array, mu: jax.Array, nu: jax.Array, nu_max: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        wide = _dtypes.widened(gradient, mu, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        _, new_nu_max = second_moments(now, wide, nu, nu_max)
        return _powers.root(_averages.debias(new_nu_max.astype(dtype), b2, now.t(dtype)), eps), new_nu_max > 0

    def step(
        now: Now, gradient: jax.Array, param: jax.Array | None, mu: jax.Array, nu: jax.Array, nu_max: jax.Array
    ) -> tuple[jax.Array, ...]:
        wide = _dtypes.widened(gradient, mu, nu)
        dtype = _dtypes.real_dtype(wide.dtype)
        # The update uses the moments as stored: XLA would compute wider ones again, from copies of the old.
        new_mu = _averages.decay_average(mu, wide, b1).astype(mu.dtype)
        new_nu, new_nu_max = second_moments(now, wide, nu, nu_max)
        root = _powers.root(new_nu_max.astype(dtype), eps)
        update = _powers.divide_by_power(
            new_mu.astype(wide.dtype),
            root,
            now.p,
            positive=_checks.is_normal(eps, dtype),
            up_to_one=allow_unproven_p,
        )
        if bias_correction != "none":
            t = now.t(dtype)
            power = 0.5 if bias_correction == "official" else jnp.asarray(now.p, dtype)
            correction = _averages.weight_so_far(b2, t) ** power / _averages.weight_so_far(b1, t)
            update = correction.astype(update.dtype) * update
        follows_mu = mu_dtype is None or jnp.iscomplexobj(mu)
        update = _dtypes.cast_update(now.scaled(update), param, mu if follows_mu else gradient)
        return update, new_mu, new_nu, new_nu_max

    moments = {
        "mu": functools.partial(_averages.init_mu, mu_dtype=mu_dtype),
        "nu": functools.partial(_averages.init_nu, nu_dtype=nu_dtype),
        "nu_max": functools.partial(_averages.init_nu, nu_dtype=nu_dtype),
    }
    return elementwise(ScaleByPartialAmsgradState, moments, step, p, reference=reference, roots=roots)


def _warn_of_b1_for_p(b1: Any, p: Any) -> None:
    """Warns, once for each calling line, if b1 is below 1/2, as a p would be, and no p is given."""
    if isinstance(b1, numbers.Real) and 0 < float(b1) < 0.5 and p is _DEFAULT_P:
        warnings.warn(
            f"b1 is {b1} and p has its default, 1/8. If {b1} was meant for p, write p={b1}: the second argument by"
            " position is b1.",
            stacklevel=3,
        )


def _checked_rounding(nu_rounding: Rounding | None, nu_dtype: jax.typing.DTypeLike | None) -> Rounding:
    """The rounding of `nu`; raises ValueError if one is given for a dtype other than bfloat16."""
    if nu_rounding is None:
        return "stochastic"
    _checks.check_one_of("nu_rounding", nu_rounding, get_args(Rounding))
    if nu_dtype is None or jnp.dtype(nu_dtype) != jnp.bfloat16:
        raise ValueError(
            f"nu_rounding needs nu_dtype bfloat16; got nu_rounding={nu_rounding!r} and nu_dtype={nu_dtype!r}."
        )
    return nu_rounding


def padam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = _DEFAULT_P,
    reference_p: jax.typing.ArrayLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    bias_correction: BiasCorrection | None = None,
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding | None = None,
    allow_unproven_p: bool = False,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Padam with coupled (L2) weight decay, as in the paper's experiments.

    .. math::

      g_t \leftarrow g_t + \lambda x_t, \qquad x_{t+1} = x_t - \alpha_t u_t

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_amsgrad` and the decay :math:`\lambda x_t`
    is added before the moments.

    The second argument by position is b1: `padam(0.1, 1/8)` sets b1 to 1/8 and leaves p at its default. Pass p by name.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0. The paper uses
        0.1 with p = 1/8, as large as for SGD with momentum.
      b1, b2, eps, p, reference_p: As in :func:`padam_optax.scale_by_partial_amsgrad`.
      weight_decay: :math:`\lambda`. A Python 0 leaves decay out, and then `update` needs no parameters; any other
        value, traced ones included, and schedules always keep it.
      mask: Which parameters decay: a prefix tree of booleans, or a function of the parameters that returns one.
      bias_correction, mu_dtype, nu_dtype, nu_rounding, allow_unproven_p, calibration_steps, reference_scope: As in
        :func:`padam_optax.scale_by_partial_amsgrad`.

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
    _warn_of_b1_for_p(b1, p)
    return optax.chain(
        _stages.weight_decay_stage(weight_decay, mask),
        scale_by_partial_amsgrad(
            b1,
            b2,
            eps,
            p=p,
            reference_p=reference_p,
            bias_correction=bias_correction,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
            nu_rounding=nu_rounding,
            allow_unproven_p=allow_unproven_p,
            calibration_steps=calibration_steps,
            reference_scope=reference_scope,
        ),
        _stages.learning_rate_stage(learning_rate),
    )


def padamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    *,
    p: optax.ScalarOrSchedule = _DEFAULT_P,
    reference_p: jax.typing.ArrayLike | None = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any | Callable[[optax.Params], Any] | None = None,
    bias_correction: BiasCorrection | None = None,
    mu_dtype: jax.typing.DTypeLike | None = None,
    nu_dtype: jax.typing.DTypeLike | None = None,
    nu_rounding: Rounding | None = None,
    allow_unproven_p: bool = False,
    calibration_steps: jax.typing.ArrayLike = 100,
    reference_scope: ReferenceScope = "leaf",
) -> optax.GradientTransformationExtraArgs:
    r"""Padam with decoupled weight decay, as AdamW is to Adam.

    .. math::

      x_{t+1} = x_t - \alpha_t (u_t + \lambda x_t)

    where :math:`u_t` is the update of :func:`padam_optax.scale_by_partial_amsgrad`. As in :func:`optax.adamw`, the
    decay is multiplied by the learning rate; at Padam's own rates, around 0.1, it acts a hundred times as strongly as
    at AdamW's 1e-3. With a `reference_p` of 1/2, the learning rate and the decay are AdamW's own:
    `padamw(1e-3, p=1/8, reference_p=1/2)` replaces `optax.adamw(1e-3)`.

    Args:
      learning_rate: :math:`\alpha_t`, a number or a schedule of the update count, which starts at 0.
      b1, b2, eps, p, reference_p: As in :func:`padam_optax.scale_by_partial_amsgrad`.
      weight_decay: :math:`\lambda`. A Python 0 leaves decay out, and then `update` needs no parameters; any other
        value, traced ones included, and schedules always keep it.
      mask: Which parameters decay: a prefix tree of booleans, or a function of the parameters that returns one.
      bias_correction, mu_dtype, nu_dtype, nu_rounding, allow_unproven_p, calibration_steps, reference_scope: As in
        :func:`padam_optax.scale_by_partial_amsgrad`.

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
    _warn_of_b1_for_p(b1, p)
    return optax.chain(
        scale_by_partial_amsgrad(
            b1,
            b2,
            eps,
            p=p,
            reference_p=reference_p,
            bias_correction=bias_correction,
            mu_dtype=mu_dtype,
            nu_dtype=nu_dtype,
            nu_rounding=nu_rounding,
            allow_unproven_p=allow_unproven_p,
            calibration_steps=calibration_steps,
            reference_scope=reference_scope,
        ),
        _stages.weight_decay_stage(weight_decay, mask, keep_dtype=True),
        _stages.learning_rate_stage(learning_rate),
    )
