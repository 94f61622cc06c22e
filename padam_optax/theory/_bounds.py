"""The constants and bounds of Theorem 4.3 and Corollary 4.5, and the step size and rate of Remark 4.6."""

import math
from typing import Any

from padam_optax.theory._conditions import checked
from padam_optax.theory._problem import Problem

# The constants


def m1(problem: Problem) -> float:
    r"""The constant :math:`M_1 = 2 G_\infty^{2p} \Delta f` of Theorem 4.3.

    Args:
      problem: Only its p, G_inf and delta_f matter.

    Returns:
      A float, at least 0.

    Examples:
      >>> from padam_optax import theory
      >>> theory.m1(theory.Problem(p=1/2, b1=0., b2=0.9, L=1., G_inf=3., delta_f=2., d=1, v1_norm=2.))
      12.0

    References:
      Theorem 4.3.
    """
    return 2 * problem.G_inf ** (2 * problem.p) * problem.delta_f


def m2(problem: Problem, *, corrected: bool = False) -> float:
    r"""The constant :math:`M_2` of Theorem 4.3.

    .. math::

      M_2 = \frac{4 G_\infty^{2+2p} \, E\|\hat{v}_1^{-p}\|_1}{d (1-\beta_1)} + 4 G_\infty^2

    With `corrected` the last term is multiplied by :math:`(1-\beta_2)^{-p}`.

    Args:
      problem: Its L and delta_f do not matter.
      corrected: Whether to correct the line after (A.13).

    Returns:
      A float above 0, infinite if v1_norm is.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=1/4, b1=0.5, b2=0.9375, L=1., G_inf=4., delta_f=1., d=2, v1_norm=3.)
      >>> theory.m2(problem), theory.m2(problem, corrected=True)
      (448.0, 512.0)

    References:
      Theorem 4.3; (A.13).
    """
    p, G_inf = problem.p, problem.G_inf
    factor = (1 - problem.b2) ** -p if corrected else 1.0
    return 4 * G_inf ** (2 + 2 * p) * problem.v1_norm / (problem.d * (1 - problem.b1)) + 4 * G_inf**2 * factor


def m3(problem: Problem, q: float) -> float:
    r"""The constant :math:`M_3` of Theorem 4.3.

    .. math::

      M_3 = \frac{4 L G_\infty^{1+q-2p}}{(1-\beta_2)^{2p}} + \frac{8 L G_\infty^{1+q-2p} (1-\beta_1)}
      {(1-\beta_2)^{2p} (1-\beta_1/\beta_2^{2p})} \left(\frac{\beta_1}{1-\beta_1}\right)^2

    Args:
      problem: Only its p, b1, b2, L and G_inf matter.
      q: The proof's free parameter, in [max{0, 4p - 1}, 1].

    Returns:
      A float above 0.

    Raises:
      ValueError: If q is out of its range.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=1/4, b1=0.5, b2=0.36, L=1., G_inf=4., delta_f=1., d=1, v1_norm=1.)
      >>> round(theory.m3(problem, q=1.), 9)  # b2^(2p) is 0.6
      280.0

    References:
      Theorem 4.3.
    """
    if not smallest_q(problem.p) <= q <= 1:
        raise ValueError(f"Theorem 4.3 needs q in [max(0, 4p - 1), 1] = [{smallest_q(problem.p)}, 1], got q = {q}.")
    return m3_formula(problem, q)


def m3_formula(problem: Problem, q: float) -> float:
    """M_3 as the theorem writes it, for any q."""
    p, b1, b2 = problem.p, problem.b1, problem.b2
    common = 4 * problem.L * problem.G_inf ** (1 + q - 2 * p) / (1 - b2) ** (2 * p)
    gamma = b1 / b2 ** (2 * p)
    return common + 2 * common * (1 - b1) / (1 - gamma) * (b1 / (1 - b1)) ** 2


def m3_prime(problem: Problem) -> float:
    r"""The constant :math:`M_3'` of Corollary 4.5: :math:`M_3` at q = 0.

    Args:
      problem: A problem with p in [0, 1/4]; only its p, b1, b2, L and G_inf matter.

    Returns:
      A float above 0.

    Raises:
      ValueError: If p is above 1/4.

    Examples:
      >>> from padam_optax import theory
      >>> theory.m3_prime(theory.Problem(p=0, b1=0.5, b2=0.9, L=1., G_inf=2., delta_f=1., d=1, v1_norm=1.))
      24.0

    References:
      Corollary 4.5.
    """
    if not 0 <= problem.p <= 0.25:
        raise ValueError(f"Corollary 4.5 needs p in [0, 1/4], got p = {problem.p}.")
    return m3(problem, 0.0)


def smallest_q(p: float) -> float:
    """max{0, 4p - 1}, the smallest q that Theorem 4.3 admits: 0 up to p = 1/4, 1 at p = 1/2.

    Args:
      p: The partially adaptive parameter, in [0, 1/2].

    Returns:
      A float in [0, 1].

    Raises:
      ValueError: If p is outside [0, 1/2].

    Examples:
      >>> from padam_optax import theory
      >>> theory.smallest_q(1/8), theory.smallest_q(3/8), theory.smallest_q(1/2)
      (0.0, 0.5, 1.0)

    References:
      Theorem 4.3.
    """
    checked(p=p)
    return max(0.0, 4 * p - 1)


# The bounds. Their first two terms are the same; the third comes from the growth of the gradients.


def bound(
    problem: Problem, *, T: Any, alpha: Any, s: Any = 0.5, q: float | None = None, corrected: bool = False
) -> Any:
    r"""The bound (4.1) of :math:`E\|\nabla f(x_{\text{out}})\|_2^2`.

    .. math::

      \frac{M_1}{T\alpha} + \frac{M_2 d}{T} + \frac{M_3 \alpha d \, G_\infty^{1-q}}{T^{(1-q)(1/2-s)}}

    Args:
      problem: The constants of which M_1, M_2 and M_3 are made.
      T: Number of iterates, a whole number of at least 2: x_out is one of x_2, ..., x_T, which T - 1 updates make.
      alpha: Constant step size, above 0.
      s: Growth of the gradients, in [0, 1/2]; with 1/2 all gradients satisfy the condition.
      q: In [max{0, 4p - 1}, 1]; by default the smallest, which gives the best rate.
      corrected: Whether to use the corrected M_2.

    Returns:
      A float, or an array where T, alpha or s is one.

    Raises:
      ValueError: If T, alpha, s or q is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> round(theory.bound(problem, T=100, alpha=0.1), 9)
      0.88

    References:
      Theorem 4.3.

    .. seealso:: :func:`padam_optax.theory.corollary_bound`
    """
    steps, alpha, s = checked(T=T, alpha=alpha, s=s)
    q = smallest_q(problem.p) if q is None else q
    third = m3(problem, q) * alpha * problem.d * problem.G_inf ** (1 - q) / steps ** ((1 - q) * (0.5 - s))
    return first_two_terms(problem, m2(problem, corrected=corrected), steps, alpha) + third


def corollary_bound(problem: Problem, *, T: Any, alpha: Any, s: Any = 0.5, corrected: bool = False) -> Any:
    r"""The bound (4.2) of :math:`E\|\nabla f(x_{\text{out}})\|_2^2`, for p in [0, 1/4].

    .. math::

      \frac{M_1}{T\alpha} + \frac{M_2 d}{T} + \frac{M_3' \alpha d \, G_\infty}{T^{1/2-s}}

    Args:
      problem: A problem with p in [0, 1/4].
      T, alpha, s, corrected: As for :func:`padam_optax.theory.bound`.

    Returns:
      A float, or an array where T, alpha or s is one.

    Raises:
      ValueError: If p, T, alpha or s is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> round(theory.corollary_bound(problem, T=100, alpha=0.1), 9)
      0.88

    References:
      Corollary 4.5.

    .. seealso:: :func:`padam_optax.theory.bound`, :func:`padam_optax.theory.step_size`
    """
    steps, alpha, s = checked(T=T, alpha=alpha, s=s)
    third = m3_prime(problem) * alpha * problem.d * problem.G_inf / steps ** (0.5 - s)
    return first_two_terms(problem, m2(problem, corrected=corrected), steps, alpha) + third


def first_two_terms(problem: Problem, of_first_step: float, steps: Any, alpha: Any) -> Any:
    """M_1 / (T alpha) + M_2 d / T."""
    return m1(problem) / (steps * alpha) + of_first_step * problem.d / steps


def growth_bound(*, T: Any, d: int, G_inf: float, s: Any) -> Any:
    r"""The bound that follows from the growth condition alone, :math:`d\,G_\infty^2 T^{2s} / (T-1)`.

    It bounds :math:`\frac{1}{T-1} \sum_{t=2}^T E\|\nabla f(x_t)\|_2^2` for any method with unbiased gradients, because
    :math:`E\,\nabla_i f(x_t)^2 \le E\,g_{t,i}^2` (not in the paper). At a constant step size this mean is
    :math:`E\|\nabla f(x_{\text{out}})\|_2^2`.

    Args:
      d, G_inf: As in :class:`padam_optax.theory.Problem`.
      T, s: As for :func:`padam_optax.theory.bound`.

    Returns:
      A float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.growth_bound(T=101, d=1, G_inf=2., s=0.)
      0.04

    References:
      Theorem 4.3, its condition on the gradients.
    """
    steps, s, d, G_inf = checked(T=T, s=s, d=d, G_inf=G_inf)
    return d * G_inf**2 * steps ** (2 * s) / (steps - 1)


# The step size and the rate of Remark 4.6


def step_size(T: Any, d: int, s: Any = 0.5, *, constant: float = 1.0) -> Any:
    r"""The step size of Remark 4.6, :math:`\alpha = c \, / \, (d^{1/2} T^{1/4+s/2})`.

    Args:
      T: Number of iterates, a whole number of at least 2.
      d: Dimension, a whole number of at least 1.
      s: Growth of the gradients, in [0, 1/2].
      constant: c, above 0, which the remark's Theta leaves open; :func:`padam_optax.theory.optimal_constant` returns
        the one that minimises (4.2).

    Returns:
      A float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.step_size(10_000, 4)
      0.005

    References:
      Remark 4.6.
    """
    steps, s, d, constant = checked(T=T, s=s, d=d, constant=constant)
    return constant / (d**0.5 * steps ** (0.25 + s / 2))


def optimal_constant(problem: Problem) -> float:
    r"""The constant c of :func:`padam_optax.theory.step_size` that minimises (4.2), :math:`\sqrt{M_1/(M_3' G_\infty)}`.

    Args:
      problem: A problem with p in [0, 1/4] and delta_f > 0; its d and v1_norm do not matter.

    Returns:
      A float, the same for all T and s.

    Raises:
      ValueError: If p is above 1/4, or delta_f is 0: (4.2) then decreases as the step size decreases to 0, and no step
        size above 0 is best.

    Examples:
      >>> from padam_optax import theory
      >>> theory.optimal_constant(theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.))
      1.0

    References:
      Corollary 4.5, Remark 4.6.
    """
    return balance(problem, m3_prime(problem) * problem.G_inf)


def balance(problem: Problem, factor: float) -> float:
    """The c above 0 that minimises M_1 / c + factor c."""
    if problem.delta_f == 0:
        raise ValueError("An optimal constant needs delta_f > 0, got delta_f = 0: no step size above 0 is best.")
    return math.sqrt(m1(problem)) / math.sqrt(factor)


def rate(T: Any, d: int, s: Any = 0.5) -> Any:
    r"""The rate (4.3) without its constants, :math:`d^{1/2} / T^{3/4-s/2} + d/T`.

    Args:
      T, d, s: As for :func:`padam_optax.theory.step_size`.

    Returns:
      A float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.rate(10_000, 4)
      0.0204

    References:
      Remark 4.6, (4.3).
    """
    steps, s, d = checked(T=T, s=s, d=d)
    return d**0.5 / steps ** rate_exponent(s) + d / steps


def rate_exponent(s: Any) -> Any:
    """3/4 - s/2, the predicted slope of (4.3) in T, negated: 1/2 for dense gradients (s = 1/2), 3/4 for s = 0.

    Args:
      s: Growth of the gradients, in [0, 1/2].

    Returns:
      A float, or an array where s is one.

    Raises:
      ValueError: If s is outside [0, 1/2].

    Examples:
      >>> from padam_optax import theory
      >>> theory.rate_exponent(0.5), theory.rate_exponent(0.)
      (0.5, 0.75)

    References:
      Remark 4.6.
    """
    (s,) = checked(s=s)
    return 0.75 - s / 2
