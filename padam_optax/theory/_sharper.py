r"""What the argument of Theorem 4.3 proves beyond its statement: a smaller M_2, and more values of q.

The guide on the theory derives both. After (A.13), M_2 needs no term :math:`4 G_\infty^2`, and only the share
:math:`1-\beta_1/2` of the first term. The growth condition holds for each coordinate. If (B.6) uses it so, it needs no
:math:`q \ge 0`, and (4.1) holds for every q in [4p - 1, 1].
"""

from typing import Any

from padam_optax.theory._bounds import balance, first_two_terms, m3_formula
from padam_optax.theory._conditions import checked
from padam_optax.theory._problem import Problem


def sharper_m2(problem: Problem) -> float:
    r"""The constant :math:`M_2` that the proof needs, smaller than the printed one.

    .. math::

      \frac{2 G_\infty^{2+2p} \, E\|\hat{v}_1^{-p}\|_1 \, (2-\beta_1)}{d (1-\beta_1)}

    Args:
      problem: Its L and delta_f do not matter.

    Returns:
      A float above 0, infinite if v1_norm is.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=1/4, b1=0.5, b2=0.9375, L=1., G_inf=4., delta_f=1., d=2, v1_norm=3.)
      >>> theory.sharper_m2(problem), theory.m2(problem)
      (288.0, 448.0)

    References:
      Theorem 4.3; (A.13) and what follows it.
    """
    p, b1 = problem.p, problem.b1
    return 2 * problem.G_inf ** (2 + 2 * p) * problem.v1_norm * (2 - b1) / (problem.d * (1 - b1))


def sharper_smallest_q(p: float) -> float:
    """4p - 1, the smallest q that the argument admits: -1 at p = 0, 1 at p = 1/2.

    Args:
      p: The partially adaptive parameter, in [0, 1/2].

    Returns:
      A float in [-1, 1].

    Raises:
      ValueError: If p is outside [0, 1/2].

    Examples:
      >>> from padam_optax import theory
      >>> theory.sharper_smallest_q(1/8), theory.sharper_smallest_q(3/8)
      (-0.5, 0.5)

    References:
      Theorem 4.3; Lemma A.5, (B.2) and (B.6).
    """
    (p,) = checked(p=p)
    return 4 * p - 1


def sharper_bound(problem: Problem, *, T: Any, alpha: Any, s: Any = 0.5, q: float | None = None) -> Any:
    r"""The bound (4.1) of :math:`E\|\nabla f(x_{\text{out}})\|_2^2` with the smaller M_2 and any q in [4p - 1, 1].

    Args:
      problem: The constants of which M_1, M_2 and M_3 are made.
      T, alpha, s: As for :func:`padam_optax.theory.bound`.
      q: In [4p - 1, 1]; by default the smallest, which gives the best rate.

    Returns:
      A float, or an array where T, alpha or s is one.

    Raises:
      ValueError: If T, alpha, s or q is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> run = {'T': 100, 'alpha': 0.1, 's': 0.25}
      >>> round(theory.sharper_bound(problem, **run), 9), round(theory.bound(problem, **run), 9)
      (0.48, 0.606491106)

    References:
      Theorem 4.3.

    .. seealso:: :func:`padam_optax.theory.bound`
    """
    steps, alpha, s = checked(T=T, alpha=alpha, s=s)
    smallest = sharper_smallest_q(problem.p)
    q = smallest if q is None else q
    if not smallest <= q <= 1:
        raise ValueError(f"The sharper bound needs q in [4p - 1, 1] = [{smallest}, 1], got q = {q}.")
    third = m3_formula(problem, q) * alpha * problem.d * problem.G_inf ** (1 - q) / steps ** ((1 - q) * (0.5 - s))
    return first_two_terms(problem, sharper_m2(problem), steps, alpha) + third


def sharper_step_size(T: Any, d: int, s: Any = 0.5, *, p: float, constant: float = 1.0) -> Any:
    r"""The step size with the sharper rate, :math:`c \, / \, (d^{1/2} T^{1/2-(1-2p)(1/2-s)})`.

    It equals the one of Remark 4.6 at p = 1/4 and at s = 1/2, and is larger for smaller p.

    Args:
      T, d, s: As for :func:`padam_optax.theory.step_size`.
      p: The partially adaptive parameter, in [0, 1/2].
      constant: c, above 0; :func:`padam_optax.theory.sharper_optimal_constant` minimises the sharper bound.

    Returns:
      A float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> print(f'{theory.sharper_step_size(10_000, 4, 0., p=1/8):.4f} {theory.step_size(10_000, 4, 0.):.4f}')
      0.1581 0.0500

    References:
      Remark 4.6.

    .. seealso:: :func:`padam_optax.theory.step_size`
    """
    steps, s, d, p, constant = checked(T=T, s=s, d=d, p=p, constant=constant)
    return constant / (d**0.5 * steps ** (0.5 - (1 - 2 * p) * (0.5 - s)))


def sharper_optimal_constant(problem: Problem) -> float:
    r"""The constant c of `sharper_step_size` that minimises the sharper bound, :math:`\sqrt{M_1/(M_3 G_\infty^{1-q})}`.

    M_3 is taken at q = 4p - 1.

    Args:
      problem: A problem with delta_f > 0; its d and v1_norm do not matter.

    Returns:
      A float, the same for all T and s.

    Raises:
      ValueError: If delta_f is 0.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> theory.sharper_optimal_constant(problem)
      1.0

    References:
      Theorem 4.3, Remark 4.6.

    .. seealso:: :func:`padam_optax.theory.sharper_step_size`
    """
    q = sharper_smallest_q(problem.p)
    return balance(problem, m3_formula(problem, q) * problem.G_inf ** (1 - q))


def sharper_rate(T: Any, d: int, s: Any = 0.5, *, p: float) -> Any:
    r"""The sharper rate without its constants, :math:`d^{1/2} / T^{1/2+(1-2p)(1/2-s)} + d/T`.

    Args:
      T, d, s: As for :func:`padam_optax.theory.step_size`.
      p: The partially adaptive parameter, in [0, 1/2].

    Returns:
      A float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> print(f'{theory.sharper_rate(10_000, 4, 0., p=1/8):.6f} {theory.rate(10_000, 4, 0.):.6f}')
      0.001032 0.002400

    References:
      Remark 4.6, (4.3).

    .. seealso:: :func:`padam_optax.theory.rate`
    """
    steps, s, d = checked(T=T, s=s, d=d)
    return d**0.5 / steps ** sharper_rate_exponent(s, p=p) + d / steps


def sharper_rate_exponent(s: Any, *, p: float) -> Any:
    """1/2 + (1 - 2p)(1/2 - s), the sharper rate's slope in T, negated; (4.3) has the slope of p = 1/4 for every p.

    Args:
      s: Growth of the gradients, in [0, 1/2].
      p: The partially adaptive parameter, in [0, 1/2].

    Returns:
      A float, or an array where s is one.

    Raises:
      ValueError: If s or p is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.sharper_rate_exponent(0., p=1/8), theory.sharper_rate_exponent(0., p=1/4), theory.rate_exponent(0.)
      (0.875, 0.75, 0.75)

    References:
      Remark 4.6.

    .. seealso:: :func:`padam_optax.theory.rate_exponent`
    """
    s, p = checked(s=s, p=p)
    return 0.5 + (1 - 2 * p) * (0.5 - s)
