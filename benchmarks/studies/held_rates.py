r"""Compares a learning rate whose factor is measured and then held with rates whose factor keeps following the moments.

    python benchmarks/studies/held_rates.py [--out FILE]

With `reference_p` = r the update of Padam is multiplied by kappa = R^(2(p - r)). R is the geometric mean of the
bias-corrected root over the coordinates that have moved. This script simulates three rules in plain JAX:

- held: R follows the maximum, sqrt(v_hat_t), up to step tau = 50, and then stays the same.
- following the maximum: R follows sqrt(v_hat_t) at every step, which falls only as its correction falls.
- following the moment: R follows sqrt(v_t) at every step, which falls where gradients fall. In one dimension, with p =
  0 and r = 1/2, this is Adam (without the correction of its first moment).

Four problems whose L, G_inf and inf f are known: the three of slopes.py (d = 10, b1 = .9, b2 = .99), and "forgetting"
(d = 1, b1 = .5, b2 = .75): f = sqrt(1 + x^2) - 1. Its stochastic gradient is f' times 39 with probability 1/20, and
else times -1. It is unbiased, but between two large gradients the moment forgets the first one, and the following steps
go uphill.

The guide on the theory proves a proposition for the held rule; `padam_optax.theory.held_bound` is its right side. Given
the past until tau, the left side is the mean of |grad f|^2 over x_(tau+1), ..., x_(tau+n) and over runs that continue
this past. s is the smallest value with which all of these runs fulfil the growth condition. Five minutes on one CPU
core.
"""

import argparse
import functools
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from slopes import OBJECTIVES, D, Objective

from padam_optax import theory

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

TAU = 50
PASTS, RUNS = 4, 32
STEPS = (512, 2_048, 8_192)
# What p and reference_p are: the last is one whose factor rises with R.
POWERS = ((0.0, 1 / 2), (1 / 8, 1 / 2), (1 / 4, 1 / 2), (1 / 2, 1 / 8))
RULES = ("held", "following the maximum", "following the moment")
FLOOR = 1e-8


class Study(NamedTuple):
    """A problem, and what slopes.py leaves out of it.

    Attributes:
      objective: Its slope, stochastic gradient, start, L and G_inf.
      phi: Each coordinate's function, whose infimum is 0.
      d: Dimension.
      b1: Decay rate of the first moment.
      b2: Decay rate of the second moment.
      constant: Of the step size c / (d^(1/2) n^(1/4+s/2)).
    """

    objective: Objective
    phi: Callable[[jax.Array], jax.Array]
    d: int
    b1: float
    b2: float
    constant: float


def _dead_zone(x: jax.Array) -> jax.Array:
    u = jnp.maximum(jnp.abs(x) - 1, 0)
    return u**2 / (1 + u**2)


LARGE = 39.0


def _forgetting(slope: jax.Array, key: jax.Array, is_first: Any, T: int) -> jax.Array:
    del is_first, T
    return slope * jnp.where(jax.random.bernoulli(key, 2 / (LARGE + 1), slope.shape), LARGE, -1.0)


FORGETTING = Objective(
    s=1 / 2,
    start=1.0,
    slope=lambda x: x / jnp.sqrt(1 + x**2),
    stochastic=_forgetting,
    share=lambda T: 1.0,
    L=1.0,
    G_inf=LARGE,
    drop=math.sqrt(2.0) - 1,
    first=(math.sqrt(0.5), LARGE * math.sqrt(0.5)),
)
STUDIES = {
    "dense": Study(OBJECTIVES["dense"], lambda x: 1 - jnp.cos(x), D, 0.9, 0.99, 0.3),
    "dead zone": Study(OBJECTIVES["dead zone"], _dead_zone, D, 0.9, 0.99, 0.3),
    "masked": Study(OBJECTIVES["masked"], lambda x: 1 - jnp.cos(x), D, 0.9, 0.99, 0.3),
    "forgetting": Study(FORGETTING, lambda x: jnp.sqrt(1 + x**2) - 1, 1, 0.5, 0.75, 1.0),
}


class State(NamedTuple):
    """Algorithm 1's, and the factor of its rate.

    Attributes:
      x: Iterate, (d,).
      m: First moment, (d,).
      v: Second moment, (d,).
      v_hat: Its maximum, (d,).
      kappa: The factor of the last update.
      t: Updates so far.
    """

    x: jax.Array
    m: jax.Array
    v: jax.Array
    v_hat: jax.Array
    kappa: jax.Array
    t: jax.Array


def start(study: Study) -> State:
    zeros = jnp.zeros(study.d)
    return State(jnp.full(study.d, study.objective.start), zeros, zeros, zeros, jnp.ones([]), jnp.zeros([], jnp.int32))


def factor(square: jax.Array, t: jax.Array, b2: float, exponent: Any) -> jax.Array:
    """R^exponent, R the geometric mean of the roots of the coordinates that have moved, 1 before one has."""
    moved = square > 0
    logs = jnp.where(moved, jnp.log(jnp.where(moved, square / (1 - b2**t), 1)) / 2, 0)
    logarithm = jnp.sum(logs) / jnp.maximum(jnp.sum(moved), 1)
    return jnp.exp(exponent * jnp.maximum(logarithm, math.log(FLOOR)))


def step(study: Study, rule: str, state: State, g: jax.Array, alpha: Any, p: Any, reference_p: Any) -> State:
    """One update; under the rule "held" the factor is that of the maximum up to step TAU."""
    b1, b2, t = study.b1, study.b2, state.t + 1
    m = b1 * state.m + (1 - b1) * g
    v = b2 * state.v + (1 - b2) * g**2
    v_hat = jnp.maximum(state.v_hat, v)
    followed = v if rule == "following the moment" else v_hat
    kappa = factor(followed, t, b2, 2 * (p - reference_p))
    if rule == "held":
        kappa = jnp.where(t <= TAU, kappa, state.kappa)
    divided = jnp.where(v_hat > 0, m * jnp.where(v_hat > 0, v_hat, 1) ** -p, 0)
    return State(state.x - alpha * kappa * divided, m, v, v_hat, kappa, t)


def run(
    study: Study, rule: str, n: int, steps: int, key: jax.Array, state: State, alpha: Any, p: Any, reference_p: Any
) -> tuple[State, jax.Array, jax.Array]:
    """The state after more steps, the mean of |grad f|^2 over their iterates, and the largest |g_i|_2 / G_inf.

    n says which problem it is where that depends on it.
    """
    objective = study.objective

    def body(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, squares = carry
        slope = objective.slope(state.x)
        g = objective.stochastic(slope, key, state.t == 0, n)
        state = step(study, rule, state, g, alpha, p, reference_p)
        return (state, squares + g**2), jnp.sum((objective.share(n) * slope) ** 2)

    (state, squares), means = jax.lax.scan(body, (state, jnp.zeros(study.d)), jax.random.split(key, steps))
    return state, means.mean(), jnp.sqrt(squares.max()) / objective.G_inf


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def measure(
    study: Study, rule: str, n: int, alpha: Any, p: Any, reference_p: Any
) -> tuple[State, jax.Array, jax.Array]:
    """PASTS states after TAU steps; the mean of |grad f|^2 and the growth in each of RUNS times n steps after each."""
    rest = (alpha, p, reference_p)

    def begin(key: jax.Array) -> State:
        return run(study, rule, n, TAU, key, start(study), *rest)[0]

    def go_on(past: State, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return run(study, rule, n, n, key, past, *rest)[1:]

    def go_on_often(past: State, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.vmap(go_on, (None, 0))(past, jax.random.split(key, RUNS))

    pasts = jax.vmap(begin)(jax.random.split(jax.random.key(n), PASTS))

    means, growth = jax.vmap(go_on_often)(pasts, jax.random.split(jax.random.key(n + 1), PASTS))
    return pasts, means, growth


def right_side(study: Study, past: State, n: int, alpha: float, p: float, s: float) -> float:
    """The proposition's, given what happened until TAU."""
    objective, share = study.objective, study.objective.share(n)
    known = theory.Problem(
        p=p,
        b1=study.b1,
        b2=study.b2,
        L=share * objective.L,
        G_inf=objective.G_inf,
        delta_f=share * study.d * objective.drop,
        d=study.d,
        v1_norm=study.d * ((1 - study.b2) * objective.G_inf**2) ** -p,
    )
    return theory.held_bound(
        known,
        n=n,
        alpha=alpha,
        kappa=float(past.kappa),
        gap=share * float(jnp.sum(study.phi(past.x))),
        v_norm=float(jnp.sum(past.v_hat**-p)),
        s=s,
    )


def compare(study: Study, n: int, p: float, reference_p: float, rules: Sequence[str] = RULES) -> list[dict[str, Any]]:
    """One row a rule, with the means over all pasts, and the largest quotient of a past's two sides."""
    alpha = theory.step_size(n, study.d, study.objective.s, constant=study.constant)
    rows: list[dict[str, Any]] = []
    for rule in rules:
        pasts, means, growth = measure(study, rule, n, alpha, p, reference_p)
        means, growth = np.asarray(means, np.float64), np.asarray(growth, np.float64)
        row = {"n": n, "p": p, "reference_p": reference_p, "rule": rule, "alpha": alpha}
        row |= {"left": float(means.mean()), "standard_error": float(means.std(ddof=1) / math.sqrt(means.size))}
        if rule == "held":
            rights = []
            for i in range(PASTS):
                s = min(max(math.log(growth[i].max()) / math.log(n), 0.0), 0.5)
                rights.append(right_side(study, jax.tree.map(lambda leaf, i=i: leaf[i], pasts), n, alpha, p, s))
            row |= {"right": float(np.mean(rights)), "largest_quotient": float((means.mean(axis=1) / rights).max())}
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()
    results = {}
    for name, study in STUDIES.items():
        results[name] = [row for p, r in POWERS for n in STEPS for row in compare(study, n, p, r)]
        for row in results[name]:
            quotient = f"  left over right at most {row['largest_quotient']:.2g}" if "largest_quotient" in row else ""
            print(
                f"{name:10} p {row['p']:.3f} reference {row['reference_p']:.3f} n {row['n']:5} {row['rule']:22}"
                f" {row['left']:.4g} +- {row['standard_error']:.1g}{quotient}",
                flush=True,
            )
    if arguments.out is not None:
        settings = {"tau": TAU, "pasts": PASTS, "runs": RUNS, "floor": FLOOR}
        settings |= {f"constant, {name}": study.constant for name, study in STUDIES.items()}
        write(arguments.out, settings=settings, problems=results)


if __name__ == "__main__":
    main()
