r"""Theorem 4.3 and Corollary 4.5 of the paper as functions of a problem's constants.

The names are the paper's. A :class:`padam_optax.theory.Problem` holds the optimizer's settings and the constants of f,
and checks the theorem's conditions. The functions take it together with `T`, the number of iterates, `alpha`, the
constant step size, and `s`, the growth of the gradients, :math:`\|g_{1:T,i}\|_2 \le G_\infty T^s`. They compute with
Python floats. `T`, `alpha` and `s` may be arrays, but not traced ones; the result is then a NumPy array in float64.
`estimate` reads recorded gradients. The theory has no bias correction and no eps: `bias_correction="none"`, `eps=0`.

    from padam_optax import theory

The functions whose names begin with `sharper_` compute what the paper's argument proves beyond its statement.
`held_bound` is the theorem for the steps after a factor of the learning rate was measured and then held.

The line after (A.13) lacks the factor :math:`(1-\beta_2)^{-p}`, and so does the last term of :math:`M_2`,
:math:`4 G_\infty^2`; with `corrected=True` the functions include it. The theorem as printed is still true: both bounds
are valid, and the corrected one is looser (the guide on the theory shows this).

References:
  Chen et al., `Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks
  <https://arxiv.org/abs/1806.06763>`_, IJCAI 2020, section 4 and appendix A.
"""

from padam_optax.theory._bounds import (
    bound,
    corollary_bound,
    growth_bound,
    m1,
    m2,
    m3,
    m3_prime,
    optimal_constant,
    rate,
    rate_exponent,
    smallest_q,
    step_size,
)
from padam_optax.theory._held import held_bound
from padam_optax.theory._problem import Estimate, Problem, estimate
from padam_optax.theory._sharper import (
    sharper_bound,
    sharper_m2,
    sharper_optimal_constant,
    sharper_rate,
    sharper_rate_exponent,
    sharper_smallest_q,
    sharper_step_size,
)

__all__ = [
    "Estimate",
    "Problem",
    "bound",
    "corollary_bound",
    "estimate",
    "growth_bound",
    "held_bound",
    "m1",
    "m2",
    "m3",
    "m3_prime",
    "optimal_constant",
    "rate",
    "rate_exponent",
    "sharper_bound",
    "sharper_m2",
    "sharper_optimal_constant",
    "sharper_rate",
    "sharper_rate_exponent",
    "sharper_smallest_q",
    "sharper_step_size",
    "smallest_q",
    "step_size",
]
