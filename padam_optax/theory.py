r"""Theorem 4.3 and Corollary 4.5 of the paper as functions, and what they need to know of a problem.

The names are the paper's: `p`, `b1`, `b2` the optimizer's; `L` the smoothness of f (Assumption 4.2); `G_inf` a bound of
every stochastic gradient's largest coordinate (Assumption 4.1); `delta_f` f(x_1) - inf f; `d` the dimension; `T` the
number of iterates, of which x_out is one of x_2, ..., x_T; `alpha` the constant step size; `s` the growth of the
gradients, :math:`\|g_{1:T,i}\|_2 \le G_\infty T^s`; `q` a free parameter of the proof; `v1_norm`
:math:`E\|\hat{v}_1^{-p}\|_1`. All functions compute with Python floats; `T`, `alpha` and `s` may be arrays, not traced;
`estimate` reads recorded gradients. Bias correction and eps are not in the theory:
`bias_correction="none"`, `eps=0`.

    from padam_optax import theory

The line after (A.13) lacks the factor :math:`(1-\beta_2)^{-p}`, and so does the last term of :math:`M_2`,
:math:`4 G_\infty^2`; with `corrected=True` the functions put it in. The theorem as printed is nevertheless true: both
bounds are valid, and the corrected one is the looser (the guide on the theory shows it).

References:
  Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
  <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, section 4 and appendix A.
"""

import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "Estimate",
    "bound",
    "corollary_bound",
    "estimate",
    "growth_bound",
    "m1",
    "m2",
    "m3",
    "m3_prime",
    "optimal_constant",
    "rate",
    "rate_exponent",
    "smallest_q",
    "step_size",
]


def smallest_q(p: float) -> float:
    """max{0, 4p - 1}, the smallest q that Theorem 4.3 admits: 0 up to p = 1/4, 1 at p = 1/2.

    Args:
      p: The partially adaptive parameter.

    Returns:
      The smallest q.

    Raises:
      ValueError: If p is outside [0, 1/2].

    Examples:
      >>> from padam_optax import theory
      >>> theory.smallest_q(1/8), theory.smallest_q(3/8), theory.smallest_q(1/2)
      (0.0, 0.5, 1.0)

    References:
      Theorem 4.3.
    """
    _check_p(p)
    return max(0.0, 4 * p - 1)


def m1(*, p: float, G_inf: float, delta_f: float) -> float:
    r"""The constant :math:`M_1 = 2 G_\infty^{2p} \Delta f` of Theorem 4.3.

    Args:
      p: The partially adaptive parameter, in [0, 1/2].
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      delta_f: f(x_1) - inf f, at least 0.

    Returns:
      M_1.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.m1(p=1/2, G_inf=3., delta_f=2.)
      12.0

    References:
      Theorem 4.3.
    """
    _check_p(p)
    _check_problem(G_inf=G_inf, delta_f=delta_f)
    return 2 * G_inf ** (2 * p) * delta_f


def m2(*, p: float, b1: float, b2: float, G_inf: float, d: int, v1_norm: float, corrected: bool = False) -> float:
    r"""The constant :math:`M_2` of Theorem 4.3.

    .. math::

      M_2 = \frac{4 G_\infty^{2+2p} \, E\|\hat{v}_1^{-p}\|_1}{d (1-\beta_1)} + 4 G_\infty^2

    and, corrected, with :math:`(1-\beta_2)^{-p}` times the last term.

    Args:
      p: The partially adaptive parameter, in [0, 1/2].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      d: Dimension, at least 1.
      v1_norm: E of the sum over the coordinates of v_hat_1^-p, above 0; infinite where a gradient of the first step
        can be 0 and p > 0, and then M_2 is infinite.
      corrected: Whether the line after (A.13) is corrected.

    Returns:
      M_2.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> settings = dict(p=1/4, b1=0.5, b2=0.9375, G_inf=4., d=2, v1_norm=3.)
      >>> theory.m2(**settings), theory.m2(**settings, corrected=True)
      (448.0, 512.0)

    References:
      Theorem 4.3; (A.13).
    """
    _check_decays(p, b1, b2)
    _check_problem(G_inf=G_inf, d=d, v1_norm=v1_norm)
    factor = (1 - b2) ** -p if corrected else 1.0
    return 4 * G_inf ** (2 + 2 * p) * v1_norm / (d * (1 - b1)) + 4 * G_inf**2 * factor


def m3(*, p: float, q: float, b1: float, b2: float, L: float, G_inf: float) -> float:
    r"""The constant :math:`M_3` of Theorem 4.3.

    .. math::

      M_3 = \frac{4 L G_\infty^{1+q-2p}}{(1-\beta_2)^{2p}} + \frac{8 L G_\infty^{1+q-2p} (1-\beta_1)}
      {(1-\beta_2)^{2p} (1-\beta_1/\beta_2^{2p})} \left(\frac{\beta_1}{1-\beta_1}\right)^2

    Args:
      p: The partially adaptive parameter, in [0, 1/2].
      q: In [max{0, 4p - 1}, 1].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f, above 0.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.

    Returns:
      M_3.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> round(theory.m3(p=1/4, q=1., b1=0.5, b2=0.36, L=1., G_inf=4.), 9)  # b2^(2p) is 0.6
      280.0

    References:
      Theorem 4.3.
    """
    _check_decays(p, b1, b2)
    _check_q(p, q)
    _check_problem(L=L, G_inf=G_inf)
    common = 4 * L * G_inf ** (1 + q - 2 * p) / (1 - b2) ** (2 * p)
    gamma = b1 / b2 ** (2 * p)
    return common + 2 * common * (1 - b1) / (1 - gamma) * (b1 / (1 - b1)) ** 2


def m3_prime(*, p: float, b1: float, b2: float, L: float, G_inf: float) -> float:
    r"""The constant :math:`M_3'` of Corollary 4.5: :math:`M_3` at q = 0, for p in [0, 1/4].

    Args:
      p: The partially adaptive parameter, in [0, 1/4].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f, above 0.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.

    Returns:
      M_3'.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.m3_prime(p=0, b1=0.5, b2=0.9, L=1., G_inf=2.)
      24.0

    References:
      Corollary 4.5.
    """
    if not 0 <= p <= 0.25:
        raise ValueError(f"Corollary 4.5 needs p in [0, 1/4], got p = {p}.")
    return m3(p=p, q=0.0, b1=b1, b2=b2, L=L, G_inf=G_inf)


def bound(
    *,
    T: Any,
    alpha: Any,
    p: float,
    b1: float,
    b2: float,
    L: float,
    G_inf: float,
    delta_f: float,
    d: int,
    v1_norm: float,
    s: Any = 0.5,
    q: float | None = None,
    corrected: bool = False,
) -> Any:
    r"""The bound (4.1) of :math:`E\|\nabla f(x_{\text{out}})\|_2^2`.

    .. math::

      \frac{M_1}{T\alpha} + \frac{M_2 d}{T} + \frac{M_3 \alpha d \, G_\infty^{1-q}}{T^{(1-q)(1/2-s)}}

    Args:
      T: Number of iterates, at least 2: x_out is one of x_2, ..., x_T, which T - 1 updates make.
      alpha: Constant step size, above 0.
      p: The partially adaptive parameter, in [0, 1/2].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f, above 0.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      delta_f: f(x_1) - inf f, at least 0.
      d: Dimension, at least 1.
      v1_norm: E of the sum over the coordinates of v_hat_1^-p.
      s: Growth of the gradients, in [0, 1/2]; with 1/2 the condition holds for all.
      q: In [max{0, 4p - 1}, 1]; by default the smallest, which has the best rate. T, alpha and s may be arrays; p, b1,
        b2, q not.
      corrected: Whether M_2 is.

    Returns:
      The bound, a float, or an array where an argument is one.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = dict(L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> round(theory.bound(T=100, alpha=0.1, p=0, b1=0., b2=0.9, **problem), 9)
      0.88

    References:
      Theorem 4.3.

    .. seealso:: :func:`padam_optax.theory.corollary_bound`
    """
    q = smallest_q(p) if q is None else q
    _check_run(T=T, alpha=alpha, s=s)
    first = m1(p=p, G_inf=G_inf, delta_f=delta_f) / (T * alpha)
    second = m2(p=p, b1=b1, b2=b2, G_inf=G_inf, d=d, v1_norm=v1_norm, corrected=corrected) * d / T
    third = m3(p=p, q=q, b1=b1, b2=b2, L=L, G_inf=G_inf) * alpha * d * G_inf ** (1 - q)
    return first + second + third / T ** ((1 - q) * (0.5 - s))


def corollary_bound(
    *,
    T: Any,
    alpha: Any,
    p: float,
    b1: float,
    b2: float,
    L: float,
    G_inf: float,
    delta_f: float,
    d: int,
    v1_norm: float,
    s: Any = 0.5,
    corrected: bool = False,
) -> Any:
    r"""The bound (4.2) of :math:`E\|\nabla f(x_{\text{out}})\|_2^2`, for p in [0, 1/4].

    .. math::

      \frac{M_1}{T\alpha} + \frac{M_2 d}{T} + \frac{M_3' \alpha d \, G_\infty}{T^{1/2-s}}

    Args:
      T: Number of iterates, at least 2.
      alpha: Constant step size, above 0.
      p: The partially adaptive parameter, in [0, 1/4].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f, above 0.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      delta_f: f(x_1) - inf f, at least 0.
      d: Dimension, at least 1.
      v1_norm: E of the sum over the coordinates of v_hat_1^-p.
      s: Growth of the gradients, in [0, 1/2].
      corrected: Whether M_2 is.

    Returns:
      The bound, a float, or an array where T, alpha or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = dict(L=1., G_inf=1., delta_f=2., d=1, v1_norm=1.)
      >>> round(theory.corollary_bound(T=100, alpha=0.1, p=0, b1=0., b2=0.9, **problem), 9)
      0.88

    References:
      Corollary 4.5.

    .. seealso:: :func:`padam_optax.theory.bound`, :func:`padam_optax.theory.step_size`
    """
    _check_run(T=T, alpha=alpha, s=s)
    first = m1(p=p, G_inf=G_inf, delta_f=delta_f) / (T * alpha)
    second = m2(p=p, b1=b1, b2=b2, G_inf=G_inf, d=d, v1_norm=v1_norm, corrected=corrected) * d / T
    third = m3_prime(p=p, b1=b1, b2=b2, L=L, G_inf=G_inf) * alpha * d * G_inf
    return first + second + third / T ** (0.5 - s)


def step_size(T: Any, d: int, s: Any = 0.5, *, constant: float = 1.0) -> Any:
    r"""The step size of Remark 4.6, :math:`\alpha = c \, / \, (d^{1/2} T^{1/4+s/2})`.

    Args:
      T: Number of iterates, at least 2.
      d: Dimension, at least 1.
      s: Growth of the gradients, in [0, 1/2].
      constant: c, above 0: what the remark's Theta leaves open; :func:`padam_optax.theory.optimal_constant`
        minimises (4.2).

    Returns:
      alpha, a float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.step_size(10_000, 4)
      0.005

    References:
      Remark 4.6.
    """
    _check_run(T=T, s=s)
    _check_problem(d=d, constant=constant)
    return constant / (d**0.5 * T ** (0.25 + s / 2))


def optimal_constant(*, p: float, b1: float, b2: float, L: float, G_inf: float, delta_f: float) -> float:
    r"""The constant c of :func:`padam_optax.theory.step_size` that minimises (4.2), :math:`\sqrt{M_1/(M_3' G_\infty)}`.

    Args:
      p: The partially adaptive parameter, in [0, 1/4].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f, above 0.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      delta_f: f(x_1) - inf f, at least 0.

    Returns:
      c, the same for all T, d and s.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.optimal_constant(p=0, b1=0., b2=0.9, L=1., G_inf=1., delta_f=2.)
      1.0

    References:
      Corollary 4.5, Remark 4.6.
    """
    first = m1(p=p, G_inf=G_inf, delta_f=delta_f)
    return math.sqrt(first / (m3_prime(p=p, b1=b1, b2=b2, L=L, G_inf=G_inf) * G_inf))


def rate(T: Any, d: int, s: Any = 0.5) -> Any:
    r"""The rate (4.3) without its constants, :math:`d^{1/2} / T^{3/4-s/2} + d/T`.

    Args:
      T: Number of iterates, at least 2.
      d: Dimension, at least 1.
      s: Growth of the gradients, in [0, 1/2].

    Returns:
      The rate, a float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.rate(10_000, 4)
      0.0204

    References:
      Remark 4.6, (4.3).
    """
    _check_run(T=T, s=s)
    _check_problem(d=d)
    return d**0.5 / T ** rate_exponent(s) + d / T


def rate_exponent(s: Any) -> Any:
    """3/4 - s/2, the predicted slope of (4.3) in T, negated: 1/2 for dense gradients (s = 1/2), 3/4 for s = 0.

    Args:
      s: Growth of the gradients, in [0, 1/2].

    Returns:
      The exponent, a float, or an array where s is one.

    Raises:
      ValueError: If s is outside [0, 1/2].

    Examples:
      >>> from padam_optax import theory
      >>> theory.rate_exponent(0.5), theory.rate_exponent(0.)
      (0.5, 0.75)

    References:
      Remark 4.6.
    """
    _check_run(s=s)
    return 0.75 - s / 2


def growth_bound(*, T: Any, d: int, G_inf: float, s: Any) -> Any:
    r"""What the growth condition alone says of an unbiased gradient, :math:`d\,G_\infty^2 T^{2s} / (T-1)`.

    It bounds :math:`\frac{1}{T-1} \sum_{t=2}^T E\|\nabla f(x_t)\|_2^2`, which is
    :math:`E\|\nabla f(x_{\text{out}})\|_2^2` at a constant step size, whatever the method, as
    :math:`E\,\nabla_i f(x_t)^2 \le E\,g_{t,i}^2` (not in the paper).

    Args:
      T: Number of iterates, at least 2.
      d: Dimension, at least 1.
      G_inf: Bound of the stochastic gradients' coordinates, above 0.
      s: Growth of the gradients, in [0, 1/2].

    Returns:
      The bound, a float, or an array where T or s is one.

    Raises:
      ValueError: If an argument is out of its range; the message has the condition.

    Examples:
      >>> from padam_optax import theory
      >>> theory.growth_bound(T=101, d=1, G_inf=2., s=0.)
      0.04

    References:
      Theorem 4.3, its condition on the gradients.
    """
    _check_run(T=T, s=s)
    _check_problem(d=d, G_inf=G_inf)
    return d * G_inf**2 * T ** (2 * s) / (T - 1)


class Estimate(NamedTuple):
    """What recorded gradients say of the constants of the theorem.

    Attributes:
      T: Number of gradients.
      d: Their dimension, all leaves together.
      G_inf: The largest coordinate seen in size: at most the theorem's G_inf.
      s: The smallest s in [0, 1/2] with which this T and this G_inf fulfil the growth condition.
      v1_norm: The sum over the coordinates of v_hat_1^-p, of this run; infinite where p > 0 and a coordinate of the
        first gradient is 0. Its expectation is the mean over runs.
    """

    T: int
    d: int
    G_inf: float
    s: float
    v1_norm: float


def estimate(gradients: Any, *, p: float, b2: float) -> Estimate:
    r"""Estimates s, :math:`G_\infty` and :math:`\|\hat{v}_1^{-p}\|_1` from the gradients of one run.

    .. math::

      s = \max_i \log(\|g_{1:T,i}\|_2 / G_\infty) / \log T, \qquad
      \|\hat{v}_1^{-p}\|_1 = (1-\beta_2)^{-p} \sum_i |g_{1,i}|^{-2p}

    Args:
      gradients: Tree of arrays whose leading axis is the step, from the first on: shapes (T, ...), any real or complex
        dtype. Computed in float64.
      p: The partially adaptive parameter, in [0, 1/2].
      b2: Decay rate of the second moment, in [0, 1).

    Returns:
      An :class:`padam_optax.theory.Estimate`.

    Raises:
      ValueError: If p or b2 is out of its range, there is no gradient, the leaves' first axes differ, a gradient is not
        finite, or all are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from padam_optax import theory
      >>> theory.estimate(jnp.array([[2., -4.], [2., 0.], [2., 0.], [2., 0.]]), p=1/2, b2=0.75)
      Estimate(T=4, d=2, G_inf=4.0, s=0.0, v1_norm=1.5)

    References:
      Theorem 4.3.
    """
    _check_p(p)
    if not 0 <= b2 < 1:
        raise ValueError(f"Theorem 4.3 needs b2 in [0, 1), got b2 = {b2}.")
    with jax.enable_x64(True):
        leaves = [jnp.abs(jnp.asarray(leaf)).astype(jnp.float64) for leaf in jax.tree.leaves(gradients)]
        lengths = {leaf.shape[0] if leaf.ndim else 0 for leaf in leaves}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"gradients must be arrays with one leading axis of steps, got lengths {sorted(lengths)}.")
        (steps,) = lengths
        sizes = jnp.concatenate([leaf.reshape(steps, -1) for leaf in leaves], axis=1)
        largest = float(sizes.max(initial=0))
        if not 0 < largest < math.inf:
            raise ValueError(f"gradients must be finite and not all 0, got {largest} as their largest coordinate.")
        longest = float(jnp.linalg.norm(sizes / largest, axis=0).max())
        v1_norm = float(jnp.sum((1 - b2) ** -p * sizes[0] ** (-2 * p)))
    s = math.log(longest) / math.log(steps) if steps > 1 else 0.0
    return Estimate(T=steps, d=sizes.shape[1], G_inf=largest, s=min(max(s, 0.0), 0.5), v1_norm=v1_norm)


def _check_p(p: float) -> None:
    if not 0 <= p <= 0.5:
        raise ValueError(f"Theorem 4.3 needs p in [0, 1/2], got p = {p}.")


def _check_decays(p: float, b1: float, b2: float) -> None:
    _check_p(p)
    if not (0 <= b1 < 1 and 0 <= b2 < 1):
        raise ValueError(f"Algorithm 1 needs b1 and b2 in [0, 1), got b1 = {b1}, b2 = {b2}.")
    if not b1 < b2 ** (2 * p):
        raise ValueError(f"Theorem 4.3 needs b1 < b2^(2p), got b1 = {b1}, b2 = {b2}, b2^(2p) = {b2 ** (2 * p)}.")


def _check_q(p: float, q: float) -> None:
    if not smallest_q(p) <= q <= 1:
        raise ValueError(f"Theorem 4.3 needs q in [max(0, 4p - 1), 1] = [{smallest_q(p)}, 1], got q = {q}.")


# What each argument must fulfil, as the message says it.
_PROBLEM = {
    "L": ("L > 0 (Assumption 4.2)", lambda value: 0 < value < math.inf),
    "G_inf": ("G_inf > 0 (Assumption 4.1)", lambda value: 0 < value < math.inf),
    "delta_f": ("delta_f >= 0", lambda value: 0 <= value < math.inf),
    "d": ("d >= 1", lambda value: 1 <= value < math.inf),
    "v1_norm": ("v1_norm > 0", lambda value: value > 0),
    "constant": ("constant > 0", lambda value: 0 < value < math.inf),
}
_RUN = {
    "T": ("T >= 2", lambda value: 2 <= value < math.inf),
    "alpha": ("alpha > 0", lambda value: 0 < value < math.inf),
    "s": ("0 <= s <= 1/2", lambda value: 0 <= value <= 0.5),
}


def _check_problem(**values: float) -> None:
    for name, value in values.items():
        condition, holds = _PROBLEM[name]
        if not holds(value):
            raise ValueError(f"Theorem 4.3 needs {condition}, got {name} = {value}.")


def _check_run(**values: Any) -> None:
    for name, value in values.items():
        condition, holds = _RUN[name]
        items = [value] if isinstance(value, numbers.Real) else jnp.ravel(jnp.asarray(value)).tolist()
        if not all(holds(item) for item in items):
            raise ValueError(f"Theorem 4.3 needs {condition}, got {name} = {value}.")
