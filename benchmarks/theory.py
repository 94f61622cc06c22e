"""The slope in T of E|grad f(x_out)|^2, measured and predicted: (4.3) of the paper, for dense and sparse gradients.

    python benchmarks/theory.py [--out benchmarks/results]

Padam (p = 1/8, b1 = .9, b2 = .99, no bias correction, eps 0) runs with the step size of Remark 4.6 on problems whose L,
G_inf and inf f are known in closed form, sums over d = 10 coordinates of one nonconvex function phi of [0, inf f = 0]:

- dense, s = 1/2: phi = 1 - cos, and a gradient with additive noise, x_1 = 2.
- dead zone, s = 1/6: phi(x) = u^2/(1+u^2) with u = max(|x| - 1, 0), gradients times 1 +- 1/2, x_1 = 2. A coordinate's
  gradients stop when it is inside. That takes about 1/alpha = T^(1/4+s/2) steps, so that the number of nonzeros grows
  as T^(2s) for the one s with 2s = 1/4 + s/2.
- masked, s = 1/4: the dense problem, of which a coordinate's gradient is there with probability T^(2s-1) only, in the
  first step always. f is then T^(2s-1) times the dense one, another for each T: with f fixed and gradients bounded and
  unbiased, they cannot stay sparse where that of f is not small (see padam_optax.theory).

E|grad f(x_out)|^2 is the mean over x_2, ..., x_T, over independent runs for each T. The slope is that of a line through
the logarithms, over all T and over the larger half of them; its interval the middle 95% of slopes of runs drawn again
with replacement. Writes theory.json and theory.png. About a minute on one CPU core.
"""

import argparse
import functools
import math
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from measuring import write

from padam_optax import padam, theory

P, B1, B2, D = 1 / 8, 0.9, 0.99, 10
STEPS = [2**power for power in range(6, 14)]


class Problem(NamedTuple):
    """What is drawn and what is known of a problem.

    Attributes:
      s: Growth of the gradients.
      start: Each coordinate of x_1.
      slope: phi' of each coordinate.
      stochastic: (phi', key, whether it is the first step, T) -> stochastic gradient of one step.
      share: T -> the mean of the stochastic gradient over phi'.
      L, G_inf, drop: Of one coordinate, at share 1: smoothness, bound of the gradients, phi(x_1).
      first: The sizes of a coordinate's first gradient, each as likely as the others.
    """

    s: float
    start: float
    slope: Callable
    stochastic: Callable
    share: Callable
    L: float
    G_inf: float
    drop: float
    first: tuple[float, ...]


def signs(key):
    return jax.random.rademacher(key, (D,), jnp.float32)


def dead_zone_slope(x):
    u = jnp.maximum(jnp.abs(x) - 1, 0)
    return jnp.sign(x) * 2 * u / (1 + u**2) ** 2


def masked(slope, key, is_first, T):
    noise, mask = jax.random.split(key)
    there = jax.random.bernoulli(mask, T**-0.5, (D,)) | is_first
    return jnp.where(there, slope + 0.5 * signs(noise), 0)


SIN_2 = math.sin(2.0)
PROBLEMS = {
    "dense": Problem(
        s=1 / 2,
        start=2.0,
        slope=jnp.sin,
        stochastic=lambda slope, key, is_first, T: slope + 0.5 * signs(key),
        share=lambda T: 1.0,
        L=1.0,
        G_inf=1.5,
        drop=1 - math.cos(2.0),
        first=(SIN_2 + 0.5, SIN_2 - 0.5),
    ),
    "dead zone": Problem(
        s=1 / 6,
        start=2.0,
        slope=dead_zone_slope,
        stochastic=lambda slope, key, is_first, T: slope * (1 + 0.5 * signs(key)),
        share=lambda T: 1.0,
        L=2.0,
        # 0.97 is the smallest; with this one the growth condition holds from T = 64 on.
        G_inf=1.5,
        drop=0.5,
        first=(0.75, 0.25),
    ),
    "masked": Problem(
        s=1 / 4,
        start=2.0,
        slope=jnp.sin,
        stochastic=masked,
        share=lambda T: T**-0.5,
        L=1.0,
        G_inf=1.5,
        drop=1 - math.cos(2.0),
        first=(SIN_2 + 0.5, SIN_2 - 0.5),
    ),
}


def step_size(problem: Problem, T: int, constant: float) -> float:
    return theory.step_size(T, D, problem.s, constant=constant)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def measure(problem: Problem, T: int, runs: int, alpha: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of each run: the mean of |grad f|^2, the largest |g_{1:T,i}|_2 / G_inf, the mean number of nonzeros."""
    optimizer = padam(alpha, B1, B2, 0.0, p=P)
    share = problem.share(T)

    def run(key):
        params = jnp.full(D, problem.start)

        def step(carry, row):
            params, state, squares, nonzeros = carry
            key, is_first = row
            gradient = problem.stochastic(problem.slope(params), key, is_first, T)
            updates, state = optimizer.update(gradient, state)
            params = params + updates
            square = jnp.sum((share * problem.slope(params)) ** 2)
            return (params, state, squares + gradient**2, nonzeros + (gradient != 0)), square

        keys = jax.random.split(key, T - 1)
        carry = (params, optimizer.init(params), jnp.zeros(D), jnp.zeros(D))
        (_, _, squares, nonzeros), means = jax.lax.scan(step, carry, (keys, jnp.arange(T - 1) == 0))
        return means.mean(), jnp.sqrt(squares.max()) / problem.G_inf, nonzeros.mean()

    return jax.vmap(run)(jax.random.split(jax.random.key(T), runs))


def bound(problem: Problem, T: int, alpha: float, *, corrected: bool) -> float:
    share = problem.share(T)
    v1_norm = D * (1 - B2) ** -P * float(np.mean([abs(size) ** (-2 * P) for size in problem.first]))
    return theory.corollary_bound(
        T=T,
        alpha=alpha,
        p=P,
        b1=B1,
        b2=B2,
        L=share * problem.L,
        G_inf=problem.G_inf,
        delta_f=share * D * problem.drop,
        d=D,
        v1_norm=v1_norm,
        s=problem.s,
        corrected=corrected,
    )


def slope(values) -> float:
    """Of a line through the logarithms of the last values of `STEPS`."""
    return float(np.polyfit(np.log(STEPS[-len(values) :]), np.log(values), 1)[0])


def slope_with_interval(samples: list[np.ndarray], draws: int = 2_000) -> dict:
    random = np.random.default_rng(0)
    slopes = [slope([random.choice(row, len(row)).mean() for row in samples]) for _ in range(draws)]
    interval = [float(value) for value in np.quantile(slopes, [0.025, 0.975])]
    return {"slope": slope([row.mean() for row in samples]), "interval": interval}


def experiment(problem: Problem, runs: int, constant: float) -> dict:
    rows, samples, norms, nonzeros = [], [], [], []
    for T in STEPS:
        alpha = step_size(problem, T, constant)
        means, growth, counts = (np.asarray(x, np.float64) for x in measure(problem, T, runs, alpha))
        printed, corrected = (bound(problem, T, alpha, corrected=value) for value in (False, True))
        samples.append(means)
        norms.append(float(growth.mean()))
        nonzeros.append(float(counts.mean()))
        rows.append(
            {
                "T": T,
                "alpha": alpha,
                "measured": float(means.mean()),
                "standard_error": float(means.std(ddof=1) / math.sqrt(runs)),
                "bound_printed": printed,
                "bound_corrected": corrected,
                "bound_over_measured": printed / float(means.mean()),
                "largest_growth": norms[-1],
                "condition_holds": bool(growth.max() <= T**problem.s),
                "nonzeros": nonzeros[-1],
            }
        )
    return {
        "s": problem.s,
        "predicted_slope": -theory.rate_exponent(problem.s),
        "bound_slope": slope([row["bound_printed"] for row in rows]),
        "measured": slope_with_interval(samples),
        "measured_late": slope_with_interval(samples[len(STEPS) // 2 :]),
        "measured_s": slope(norms),
        "nonzeros_slope": slope(nonzeros),
        "rows": rows,
    }


def shown(measured: dict) -> str:
    low, high = measured["interval"]
    return f"{measured['slope']:.3f} [{low:.3f}, {high:.3f}]"


def figure(results: dict, path: pathlib.Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3.6), sharey=True, layout="constrained")
    for axis, (name, result) in zip(axes, results.items(), strict=True):
        steps = np.array([row["T"] for row in result["rows"]])
        measured = np.array([row["measured"] for row in result["rows"]])
        label = f"measured: {shown(result['measured'])}\nthe right half: {shown(result['measured_late'])}"
        axis.loglog(steps, measured, "o-", label=label)
        predicted = measured[-1] * (steps / steps[-1]) ** result["predicted_slope"]
        axis.loglog(steps, predicted, "--", label=f"(4.3): {result['predicted_slope']:.2f}")
        bounds = [row["bound_printed"] for row in result["rows"]]
        axis.loglog(steps, bounds, ":", label=f"(4.2) with its constants: {result['bound_slope']:.2f}")
        axis.set_title(f"{name}, s = {result['s']:.3g}")
        axis.set_xlabel("T")
        axis.legend(fontsize=7, title="slope", title_fontsize=7)
    axes[0].set_ylabel(r"$E\|\nabla f(x_{out})\|^2$")
    fig.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=32, help="independent runs for each T")
    parser.add_argument("--constant", type=float, default=3.0, help="what Remark 4.6's Theta leaves open")
    parser.add_argument("--out", type=pathlib.Path, help="folder for theory.json and theory.png")
    arguments = parser.parse_args()

    results = {}
    for name, problem in PROBLEMS.items():
        result = results[name] = experiment(problem, arguments.runs, arguments.constant)
        ratios = [row["bound_over_measured"] for row in result["rows"]]
        print(
            f"{name:10} s {problem.s:.3f} (measured {result['measured_s']:.3f})  slope {shown(result['measured'])}"
            f"  late {shown(result['measured_late'])}  (4.3) {result['predicted_slope']:.3f}"
            f"  (4.2) {result['bound_slope']:.3f}"
            f"  bound over measured {min(ratios):.0f} to {max(ratios):.0f}"
            f"  condition {all(row['condition_holds'] for row in result['rows'])}",
            flush=True,
        )
    if arguments.out is not None:
        settings = {"p": P, "b1": B1, "b2": B2, "d": D, "runs": arguments.runs, "constant": arguments.constant}
        write(arguments.out / "theory.json", settings=settings, problems=results)
        figure(results, arguments.out / "theory.png")


if __name__ == "__main__":
    main()
