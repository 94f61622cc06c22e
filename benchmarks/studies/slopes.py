"""The slope in T of ``E|grad f(x_out)|^2``, measured and predicted: (4.3) of the paper, for dense and sparse gradients.

Padam (p = 1/8, b1 = .9, b2 = .99, no bias correction, eps 0) runs with the step size of Remark 4.6 on objectives whose
L, G_inf and inf f are known in closed form, sums over d = 10 coordinates of one nonconvex phi whose infimum is 0:

- dense, s = 1/2: phi = 1 - cos, and a gradient with additive noise, x_1 = 2.
- dead zone, s = 1/6: phi(x) = u^2/(1+u^2) with u = max(abs(x) - 1, 0), gradients times 1 +- 1/2, x_1 = 2. A
  coordinate's gradients become 0 once it is inside. This takes about 1/alpha = T^(1/4+s/2) steps, so the number of
  nonzeros grows as T^(2s) for the one s with 2s = 1/4 + s/2.
- masked, s = 1/4: the dense objective, but a coordinate's gradient is present only with probability T^(2s-1), except in
  the first step, where it always is. f is then T^(2s-1) times the dense one, and differs for each T: for a fixed f,
  bounded unbiased gradients cannot stay sparse where the gradient of f is not small (see docs/theory.md).

``E|grad f(x_out)|^2`` is the mean over x_2, ..., x_T, over independent runs for each T. The slope is that of a line
through the logarithms, over all T and over the larger half of them. Its interval is the middle 95% of the slopes of
runs resampled with replacement.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from padam_optax import padam, theory
from padam_optax.report.figures import new_figure, save

P, B1, B2, D = 1 / 8, 0.9, 0.99, 10
STEPS = tuple(2**power for power in range(6, 14))


class Objective(NamedTuple):
    """A function with its stochastic gradients, and what is known of it.

    Attributes:
      s: Growth of the gradients.
      start: Each coordinate of x_1.
      slope: phi' of each coordinate.
      stochastic: (phi', key, whether it is the first step, T) -> stochastic gradient of one step.
      share: T -> the mean of the stochastic gradient over phi'.
      L: Smoothness of one coordinate's function, at share 1.
      G_inf: Bound of its stochastic gradients.
      drop: phi(x_1), at share 1.
      first: The sizes of a coordinate's first gradient, each as likely as the others.
    """

    s: float
    start: float
    slope: Callable[[jax.Array], jax.Array]
    stochastic: Callable[[jax.Array, jax.Array, jax.Array, int], jax.Array]
    share: Callable[[int], float]
    L: float
    G_inf: float
    drop: float
    first: tuple[float, ...]


def _signs(key: jax.Array) -> jax.Array:
    return jax.random.rademacher(key, (D,), jnp.float32)


def _dead_zone_slope(x: jax.Array) -> jax.Array:
    u = jnp.maximum(jnp.abs(x) - 1, 0)
    return jnp.sign(x) * 2 * u / (1 + u**2) ** 2


def _masked(slope: jax.Array, key: jax.Array, is_first: jax.Array, T: int) -> jax.Array:
    noise, mask = jax.random.split(key)
    there = jax.random.bernoulli(mask, T**-0.5, (D,)) | is_first
    return jnp.where(there, slope + 0.5 * _signs(noise), 0)


_SIN_2 = math.sin(2.0)
OBJECTIVES = {
    "dense": Objective(
        s=1 / 2,
        start=2.0,
        slope=jnp.sin,
        stochastic=lambda slope, key, is_first, T: slope + 0.5 * _signs(key),
        share=lambda T: 1.0,
        L=1.0,
        G_inf=1.5,
        drop=1 - math.cos(2.0),
        first=(_SIN_2 + 0.5, _SIN_2 - 0.5),
    ),
    "dead zone": Objective(
        s=1 / 6,
        start=2.0,
        slope=_dead_zone_slope,
        stochastic=lambda slope, key, is_first, T: slope * (1 + 0.5 * _signs(key)),
        share=lambda T: 1.0,
        L=2.0,
        # 0.97 is the smallest; with this one the growth condition holds from T = 64 on.
        G_inf=1.5,
        drop=0.5,
        first=(0.75, 0.25),
    ),
    "masked": Objective(
        s=1 / 4,
        start=2.0,
        slope=jnp.sin,
        stochastic=_masked,
        share=lambda T: T**-0.5,
        L=1.0,
        G_inf=1.5,
        drop=1 - math.cos(2.0),
        first=(_SIN_2 + 0.5, _SIN_2 - 0.5),
    ),
}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def measure(
    objective: Objective, T: int, runs: int, alpha: jax.Array | float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Three results of each run, (runs,).

    The mean of ``|grad f|^2``, the largest ``|g_{1:T,i}|_2 / G_inf``, and the mean number of nonzeros.
    """
    optimizer = padam(alpha, B1, B2, 0.0, p=P)
    share = objective.share(T)

    def run(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        params = jnp.full(D, objective.start)

        def step(carry: Any, row: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            params, state, squares, nonzeros = carry
            key, is_first = row
            gradient = objective.stochastic(objective.slope(params), key, is_first, T)
            updates, state = optimizer.update(gradient, state)
            params = params + updates
            square = jnp.sum((share * objective.slope(params)) ** 2)
            return (params, state, squares + gradient**2, nonzeros + (gradient != 0)), square

        keys = jax.random.split(key, T - 1)
        carry = (params, optimizer.init(params), jnp.zeros(D), jnp.zeros(D))
        (_, _, squares, nonzeros), means = jax.lax.scan(step, carry, (keys, jnp.arange(T - 1) == 0))
        return means.mean(), jnp.sqrt(squares.max()) / objective.G_inf, nonzeros.mean()

    return jax.vmap(run)(jax.random.split(jax.random.key(T), runs))


def constants(objective: Objective, T: int) -> theory.Problem:
    """What the theorem needs to know of an objective, whose L and f change with T where its share does."""
    share = objective.share(T)
    v1_norm = D * (1 - B2) ** -P * float(np.mean([abs(size) ** (-2 * P) for size in objective.first]))
    return theory.Problem(
        p=P,
        b1=B1,
        b2=B2,
        L=share * objective.L,
        G_inf=objective.G_inf,
        delta_f=share * D * objective.drop,
        d=D,
        v1_norm=v1_norm,
    )


def bound(objective: Objective, T: int, alpha: float, *, corrected: bool = False) -> float:
    """(4.2) with its constants."""
    return theory.corollary_bound(constants(objective, T), T=T, alpha=alpha, s=objective.s, corrected=corrected)


def sharper_bound(objective: Objective, T: int, alpha: float) -> float:
    """What the argument of the theorem proves beyond (4.2), with its constants."""
    return theory.sharper_bound(constants(objective, T), T=T, alpha=alpha, s=objective.s)


def _slope(steps: Sequence[int], values: Sequence[float]) -> float:
    """The slope of a line through the logarithms of the last values."""
    return float(np.polyfit(np.log(steps[-len(values) :]), np.log(values), 1)[0])


def _with_interval(steps: Sequence[int], samples: Sequence[np.ndarray], draws: int = 2_000) -> dict[str, Any]:
    random = np.random.default_rng(0)
    slopes = [_slope(steps, [float(random.choice(row, len(row)).mean()) for row in samples]) for _ in range(draws)]
    interval = [float(value) for value in np.quantile(slopes, [0.025, 0.975])]
    return {"slope": _slope(steps, [float(row.mean()) for row in samples]), "interval": interval}


def measure_slopes(
    objective: Objective,
    runs: int = 32,
    constant: float = 3.0,
    steps: Sequence[int] = STEPS,
    *,
    sharper: bool = False,
) -> dict[str, Any]:
    """Measures the gradients at each T, and fits the slope.

    Args:
      objective: One of `OBJECTIVES`.
      runs: Independent runs for each T, 2 or more.
      constant: What Remark 4.6's Theta leaves open.
      steps: Values of T, rising, 4 or more.
      sharper: Whether the step size is `theory.sharper_step_size`, and the predicted slope that of the sharper rate.

    Returns:
      A dictionary as JSON has it. It holds `s`; the slopes `predicted_slope`, `bound_slope` (of (4.2) with its
      constants), `measured` and `measured_late` (over the larger half of T), each with `slope` and `interval`;
      `measured_s` and `nonzeros_slope`, the growth of gradients and of nonzeros; and `rows`, for each T the measured
      mean and its standard error, the bound as printed, as corrected and the sharper one, and whether the growth
      condition holds.
    """
    rows: list[dict[str, Any]] = []
    samples: list[np.ndarray] = []
    for T in steps:
        if sharper:
            alpha = theory.sharper_step_size(T, D, objective.s, p=P, constant=constant)
        else:
            alpha = theory.step_size(T, D, objective.s, constant=constant)
        means, growth, counts = (np.asarray(x, np.float64) for x in measure(objective, T, runs, alpha))
        printed, corrected = (bound(objective, T, alpha, corrected=value) for value in (False, True))
        samples.append(means)
        rows.append(
            {
                "T": T,
                "alpha": alpha,
                "measured": float(means.mean()),
                "standard_error": float(means.std(ddof=1) / math.sqrt(runs)),
                "bound_printed": printed,
                "bound_corrected": corrected,
                "bound_sharper": sharper_bound(objective, T, alpha),
                "bound_over_measured": printed / float(means.mean()),
                "largest_growth": float(growth.mean()),
                "condition_holds": bool(growth.max() <= T**objective.s),
                "nonzeros": float(counts.mean()),
            }
        )
    exponent = theory.sharper_rate_exponent(objective.s, p=P) if sharper else theory.rate_exponent(objective.s)
    return {
        "s": objective.s,
        "predicted_slope": -exponent,
        "bound_slope": _slope(steps, [row["bound_printed"] for row in rows]),
        "measured": _with_interval(steps, samples),
        "measured_late": _with_interval(steps, samples[len(steps) // 2 :]),
        "measured_s": _slope(steps, [row["largest_growth"] for row in rows]),
        "nonzeros_slope": _slope(steps, [row["nonzeros"] for row in rows]),
        "rows": rows,
    }


def slope_text(measured: Mapping[str, Any]) -> str:
    """A slope with its interval, such as `-0.558 [-0.560, -0.557]`."""
    low, high = measured["interval"]
    return f"{measured['slope']:.3f} [{low:.3f}, {high:.3f}]"


def slope_figure(results: Mapping[str, Mapping[str, Any]], path: str | pathlib.Path) -> pathlib.Path:
    """Draws the measured gradients, two rates' lines and three bounds against T, a panel each; writes a PNG.

    The rates are (4.3) and the sharper one, the bounds (4.2), what the growth condition alone gives, and d G_inf^2,
    which bounds every gradient.

    Args:
      results: From an objective's name to its slopes, as `measure_slopes` returns them for Remark 4.6's step size.
      path: Where the picture is written.

    Returns:
      `path`.
    """
    figure = new_figure(4 * len(results), 5)
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        steps = np.array([row["T"] for row in result["rows"]])
        measured = np.array([row["measured"] for row in result["rows"]])
        label = f"measured: {slope_text(result['measured'])}\nthe right half: {slope_text(result['measured_late'])}"
        axes.loglog(steps, measured, "o-", label=label)
        predicted = measured[-1] * (steps / steps[-1]) ** result["predicted_slope"]
        axes.loglog(steps, predicted, "--", label=f"(4.3): {result['predicted_slope']:.2f}")
        sharper = -theory.sharper_rate_exponent(result["s"], p=P)
        axes.loglog(steps, measured[-1] * (steps / steps[-1]) ** sharper, "-.", label=f"sharper rate: {sharper:.2f}")
        bounds = [row["bound_printed"] for row in result["rows"]]
        axes.loglog(steps, bounds, ":", label=f"(4.2) with its constants: {result['bound_slope']:.2f}")
        G_inf = OBJECTIVES[name].G_inf
        growth = theory.growth_bound(T=steps, d=D, G_inf=G_inf, s=result["s"])
        axes.loglog(steps, growth, "-", color="0.5", label="growth condition alone")
        axes.loglog(steps, np.full(len(steps), D * G_inf**2), "-", color="0.8", label=r"trivial: $d\,G_\infty^2$")
        axes.set(title=f"{name}, s = {result['s']:.3g}", xlabel="T")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
        axes.legend(fontsize=7, title="slope", title_fontsize=7, **below)
    panels[0].set_ylabel(r"$E\|\nabla f(x_{out})\|^2$")
    return save(figure, path)
