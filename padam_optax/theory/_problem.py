"""The values that the theorem's constants are made of, given or estimated from recorded gradients."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from padam_optax.theory._conditions import check_v_norm, checked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    r"""The values that the theorem's constants are made of; construction checks them.

    Attributes:
      p: The partially adaptive parameter, in [0, 1/2]; Corollary 4.5 needs p in [0, 1/4].
      b1: Decay rate of the first moment, in [0, 1) and below b2^(2p).
      b2: Decay rate of the second moment, in [0, 1).
      L: Smoothness of f (Assumption 4.2), above 0.
      G_inf: Bound of every stochastic gradient's largest coordinate (Assumption 4.1), above 0.
      delta_f: f(x_1) - inf f, at least 0.
      d: Dimension, a whole number, at least 1.
      v1_norm: :math:`E\|\hat{v}_1^{-p}\|_1`, the expected sum over the coordinates. It is at least
        :math:`d ((1-\beta_2) G_\infty^2)^{-p}`, which Assumption 4.1 forces. It is infinite if p > 0 and a gradient of
        the first step can be 0; M_2 and the bounds are then infinite.

    Raises:
      ValueError: If a value is out of its range; the message states the condition.

    Examples:
      >>> from padam_optax import theory
      >>> problem = theory.Problem(p=1/4, b1=0.5, b2=0.9375, L=3., G_inf=4., delta_f=3., d=3, v1_norm=6.)
      >>> theory.m1(problem), theory.m2(problem), round(theory.m3_prime(problem))
      (12.0, 576.0, 295)

    References:
      Theorem 4.3.

    .. seealso:: :meth:`padam_optax.theory.Estimate.problem`
    """

    p: float
    b1: float
    b2: float
    L: float
    G_inf: float
    delta_f: float
    d: int
    v1_norm: float

    def __post_init__(self) -> None:
        p, b1, b2 = self.p, self.b1, self.b2
        checked(p=p)
        if not (0 <= b1 < 1 and 0 <= b2 < 1):
            raise ValueError(f"Algorithm 1 needs b1 and b2 in [0, 1), got b1 = {b1}, b2 = {b2}.")
        if not b1 < b2 ** (2 * p):
            raise ValueError(f"Theorem 4.3 needs b1 < b2^(2p), got b1 = {b1}, b2 = {b2}, b2^(2p) = {b2 ** (2 * p)}.")
        checked(L=self.L, G_inf=self.G_inf, delta_f=self.delta_f, d=self.d, v1_norm=self.v1_norm)
        check_v_norm("v1_norm", self.v1_norm, p=p, d=self.d, largest=(1 - b2) * self.G_inf**2)


class Estimate(NamedTuple):
    """Estimates of the theorem's constants from recorded gradients.

    Attributes:
      T: Number of gradients.
      d: Their dimension, all leaves together.
      G_inf: The largest size of a coordinate seen, at most the theorem's G_inf.
      s: The smallest s in [0, 1/2] with which this T and this G_inf fulfil the growth condition.
      v1_norm: The sum over the coordinates of v_hat_1^-p in this run; infinite if p > 0 and a coordinate of the first
        gradient is 0. Its expectation, the mean over runs, is infinite at p = 1/2 if a coordinate's first gradient has
        a positive density at 0.
      p: The partially adaptive parameter for which v1_norm was computed.
      b2: The second moment's decay rate for which v1_norm was computed.
    """

    T: int
    d: int
    G_inf: float
    s: float
    v1_norm: float
    p: float
    b2: float

    def problem(self, *, b1: float, L: float, delta_f: float) -> Problem:
        """The problem with the estimated values and those that gradients do not give.

        Args:
          b1, L, delta_f: As in :class:`padam_optax.theory.Problem`.

        Returns:
          A :class:`padam_optax.theory.Problem` with the estimate's p, b2, d, G_inf and v1_norm.

        Raises:
          ValueError: If an argument is out of its range; the message states the condition.
        """
        return Problem(
            p=self.p,
            b1=b1,
            b2=self.b2,
            L=L,
            G_inf=self.G_inf,
            delta_f=delta_f,
            d=self.d,
            v1_norm=self.v1_norm,
        )


def estimate(gradients: Any, *, p: float, b2: float) -> Estimate:
    r"""Estimates s, :math:`G_\infty` and :math:`\|\hat{v}_1^{-p}\|_1` from the gradients of one run.

    .. math::

      s = \max_i \log(\|g_{1:T,i}\|_2 / G_\infty) / \log T, \qquad
      \|\hat{v}_1^{-p}\|_1 = (1-\beta_2)^{-p} \sum_i |g_{1,i}|^{-2p}

    The theorem uses the expectation of the last, which is the mean over runs. But suppose that a coordinate of the
    first gradient has a positive density at 0. From p = 1/4 on, :math:`|g|^{-2p}` then has an infinite variance, and
    the mean over runs settles slowly. At p = 1/2 its expectation is infinite: the mean over any number of runs is
    finite and says nothing.

    Args:
      gradients: Tree of arrays whose leading axis is the step, from the first on: shapes (T, ...), any real or complex
        dtype. Computed in float64.
      p, b2: As in :class:`padam_optax.theory.Problem`.

    Returns:
      An :class:`padam_optax.theory.Estimate`.

    Raises:
      ValueError: If p or b2 is out of its range, there is no gradient, the leaves' first axes differ, a gradient is not
        finite, or all gradients are 0.

    Examples:
      >>> import jax.numpy as jnp
      >>> from padam_optax import theory
      >>> found = theory.estimate(jnp.array([[2., -4.], [2., 0.], [2., 0.], [2., 0.]]), p=1/2, b2=0.75)
      >>> found
      Estimate(T=4, d=2, G_inf=4.0, s=0.0, v1_norm=1.5, p=0.5, b2=0.75)
      >>> theory.bound(found.problem(b1=0., L=1., delta_f=2.), T=found.T, alpha=0.5, s=found.s)
      200.0

    References:
      Theorem 4.3.
    """
    checked(p=p, b2=b2)
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
    return Estimate(T=steps, d=sizes.shape[1], G_inf=largest, s=min(max(s, 0.0), 0.5), v1_norm=v1_norm, p=p, b2=b2)
