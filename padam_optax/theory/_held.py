"""Theorem 4.3 for the steps after a factor of the learning rate was measured and then held."""

from typing import Any

from padam_optax.theory._bounds import m3_formula
from padam_optax.theory._conditions import check_v_norm, checked
from padam_optax.theory._problem import Problem
from padam_optax.theory._sharper import sharper_smallest_q


def held_bound(
    problem: Problem,
    *,
    n: Any,
    alpha: Any,
    kappa: Any,
    gap: float,
    v_norm: float,
    s: Any = 0.5,
    q: float | None = None,
) -> Any:
    r"""Bounds the mean of :math:`E\|\nabla f(x_t)\|_2^2` over the n steps after a rate's factor is held.

    Algorithm 1 runs with any step sizes before update :math:`\tau`, and with :math:`\alpha \kappa` from that update on.
    :math:`\kappa` may depend on the whole past: `reference_p` computes it from the roots seen so far. Assume that the
    gradients after :math:`\tau` grow as :math:`\|g_{\tau+1:\tau+n,i}\|_2 \le G_\infty n^s`. Then, given the past, the
    mean over :math:`x_{\tau+1}, \dots, x_{\tau+n}` is at most

    .. math::

      \frac{G_\infty^{2p} (f(x_{\tau+1}) - f^*)}{n \alpha \kappa}
      + \frac{1+\beta_1}{1-\beta_1} \frac{G_\infty^{2+2p} \|\hat{v}_\tau^{-p}\|_1}{n}
      + \frac{M_3}{2} \frac{\alpha \kappa d \, G_\infty^{1-q}}{n^{(1-q)(1/2-s)}}
      + M_4 \frac{\alpha \kappa d}{n}, \qquad
      M_4 = \frac{9 L G_\infty^{2-2p} \beta_1^2}{2 (1-\beta_1) (1-\beta_2)^{2p} (1-\beta_1/\beta_2^{2p})^2}.

    With a factor for each leaf, the first term uses the smallest factor as :math:`\kappa`, the second is multiplied by
    the largest over the smallest, and the others use the largest squared over the smallest.

    Args:
      problem: Only its p, b1, b2, L, G_inf and d matter.
      n: Number of steps after :math:`\tau`, at least 1.
      alpha: Constant step size, above 0.
      kappa: The held factor, above 0, or an array of one for each leaf.
      gap: :math:`f(x_{\tau+1}) - \inf f`, at least 0.
      v_norm: :math:`\|\hat{v}_\tau^{-p}\|_1`, at least :math:`d \, G_\infty^{-2p}`; infinite if p > 0 and a coordinate
        has not moved by then; the bound is then infinite.
      s: Growth of the gradients after :math:`\tau`, in [0, 1/2]; with 1/2 all gradients satisfy the condition.
      q: In [4p - 1, 1]; by default the smallest, which gives the best rate.

    Returns:
      A float, or an array where n, alpha or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> round(theory.held_bound(problem, n=100, alpha=0.0625, kappa=2., gap=1., v_norm=1.), 9)
      0.34

    References:
      Theorem 4.3 and its proof. This proposition is not in the paper; the guide on the theory proves it.

    .. seealso:: :func:`padam_optax.theory.sharper_bound`
    """
    n, alpha, kappa, gap, s = checked(n=n, alpha=alpha, kappa=kappa, gap=gap, s=s)
    p, b1, b2, G_inf, d = problem.p, problem.b1, problem.b2, problem.G_inf, problem.d
    check_v_norm("v_norm", v_norm, p=p, d=d, largest=G_inf**2)
    smallest_q = sharper_smallest_q(p)
    q = smallest_q if q is None else q
    if not smallest_q <= q <= 1:
        raise ValueError(f"The bound needs q in [4p - 1, 1] = [{smallest_q}, 1], got q = {q}.")
    low, high = (kappa, kappa) if isinstance(kappa, float) else (float(kappa.min()), float(kappa.max()))
    gamma = b1 / b2 ** (2 * p)
    m4 = 4.5 * problem.L * G_inf ** (2 - 2 * p) * b1**2 / ((1 - b1) * (1 - b2) ** (2 * p) * (1 - gamma) ** 2)
    first = G_inf ** (2 * p) * gap / (n * alpha * low)
    second = (1 + b1) / (1 - b1) * G_inf ** (2 + 2 * p) * v_norm / n * (high / low)
    third = m3_formula(problem, q) / 2 * G_inf ** (1 - q) / n ** ((1 - q) * (0.5 - s))
    return first + second + (third + m4 / n) * alpha * d * high * (high / low)
