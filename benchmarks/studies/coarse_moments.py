"""How coarse may the second moments be? A relative error d of nu becomes p d in Padam's update.

    python benchmarks/studies/coarse_moments.py [--out FILE] [--picture PNG] [--smoke]

So p = 1/8 should tolerate four times the error that p = 1/2 does, which would be a reason for a small p. This study
keeps nu, and therefore its maximum, in 2 to 8 bits of mantissa, rounded to nearest or stochastically after each step.
The update is computed from the rounded values; everything else is float32. p is 1/8, 1/4 and 1/2, b2 is .999, and there
is no bias correction.

Two tasks of `tail.py`'s perceptron and schedule, 600 steps: scikit-learn's digits (test error of the 797 images, in
percent) and the digits with barcodes at a = 1 (train loss). Each p has the best of six learning rates by the mean of
two seeds in float32. Five other seeds are reported with each rounding, paired with their float32 runs. The study also
reports the change of the update by the rounding: the mean of |(rounded nu_max / float32 nu_max)^p - 1| at the end, for
the same gradients. About 10 minutes on one CPU core.
"""

import fractions
import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tail
from measuring import study_arguments, write

from padam_optax.data.digits import CLASSES, read_digits
from padam_optax.report.figures import new_figure, save
from padam_optax.report.summary import paired_interval

BITS = (2, 3, 4, 5, 6, 8)
# float32 has so many.
EXACT = 23
ROUNDINGS = ("nearest", "stochastic")
RATES = {
    1 / 8: (0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
    1 / 4: (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
    1 / 2: (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
}
B1, B2, EPS = 0.9, 0.999, 1e-8
TASKS = {"digits": "Digits, test error (%)", "tail": "Digits with barcodes, train loss"}


class CoarseState(NamedTuple):
    """Moments of every parameter: `nu` and `nu_max` rounded, `exact` and `exact_max` the same in float32."""

    key: jax.Array
    mu: optax.Params
    nu: optax.Params
    nu_max: optax.Params
    exact: optax.Params
    exact_max: optax.Params


def rounded(value: jax.Array, bits: jax.Array, noise: jax.Array) -> jax.Array:
    """float32 to so many bits after the leading one: `noise` of 1/2 rounds to nearest, uniform in [0, 1) at random."""
    mantissa, exponent = jnp.frexp(value)
    scale = 2.0 ** (bits + 1)
    return jnp.ldexp(jnp.floor(mantissa * scale + noise) / scale, exponent)


def coarse(schedule: Any, setting: Mapping[str, jax.Array]) -> optax.GradientTransformation:
    """Padam without bias correction whose nu is rounded to `bits`, stochastically if `stochastic` is 1."""

    def init(params: optax.Params) -> CoarseState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return CoarseState(jax.random.key(0), zeros, zeros, zeros, zeros, zeros)

    def update(gradients: optax.Updates, state: CoarseState, params: Any = None) -> tuple[optax.Updates, CoarseState]:
        key, draw = jax.random.split(state.key)
        leaves, structure = jax.tree.flatten(gradients)
        keys = structure.unflatten(jax.random.split(draw, len(leaves)))

        def average(old: jax.Array, gradient: jax.Array) -> jax.Array:
            return B2 * old + (1 - B2) * gradient**2

        def kept(old: jax.Array, gradient: jax.Array, key: jax.Array) -> jax.Array:
            new = average(old, gradient)
            noise = jnp.where(setting["stochastic"] > 0, jax.random.uniform(key, new.shape), 0.5)
            return jnp.where(setting["bits"] < EXACT, rounded(new, setting["bits"], noise), new)

        mu = jax.tree.map(lambda m, g: B1 * m + (1 - B1) * g, state.mu, gradients)
        nu = jax.tree.map(kept, state.nu, gradients, keys)
        exact = jax.tree.map(average, state.exact, gradients)
        nu_max, exact_max = (
            jax.tree.map(jnp.maximum, old, new) for old, new in ((state.nu_max, nu), (state.exact_max, exact))
        )
        updates = jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + EPS) ** (2 * setting["p"]), mu, nu_max)
        return updates, CoarseState(key, mu, nu, nu_max, exact, exact_max)

    return optax.chain(optax.GradientTransformation(init, update), optax.scale_by_learning_rate(schedule))


def update_error(state: CoarseState, p: jax.Array) -> jax.Array:
    """The mean of |(kept / exact)^p - 1| over the coordinates that have moved."""
    kept, exact = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(each)]) for each in state[3::2])
    moved = exact > 0
    ratio = jnp.where(moved, kept, 1.0) / jnp.where(moved, exact, 1.0)
    return jnp.sum(jnp.abs(ratio**p - 1)) / jnp.sum(moved)


@functools.partial(jax.jit, static_argnames=("classes", "steps"))
def train(
    setting: dict[str, jax.Array], seed: jax.Array, data: tail.Examples, test: tail.Examples, classes: int, steps: int
) -> dict[str, jax.Array]:
    """One training: train loss, test error in percent, and what the rounding does to the update."""
    params, state = tail.fit(coarse, setting, seed, data, classes, steps)
    wrong = tail.logits(params, test.inputs).argmax(-1) != test.labels
    return {
        "train_loss": tail.losses(params, data).mean(),
        "test_error": 100 * wrong.mean(),
        "update_error": update_error(state[0], setting["p"]),
    }


def digits(part: Any) -> tail.Examples:
    inputs = jnp.asarray(part.images.reshape(len(part.labels), -1) / 8 - 1, jnp.float32)
    return tail.Examples(inputs, jnp.asarray(part.labels, jnp.int32), jnp.zeros(len(part.labels), bool))


def study(bits: Sequence[int], rates: Mapping[float, Sequence[float]], steps: int) -> dict[str, Any]:
    """For each task and p: the chosen rate, and each seed's score and error of the update by rounding and bits."""
    found: dict[str, Any] = {}
    split = read_digits()
    for task in TASKS:
        metric = "test_error" if task == "digits" else "train_loss"
        classes = CLASSES if task == "digits" else CLASSES * tail.CODES

        def run(
            p: float, rate: float, seed: int, bits: int, rounding: str, task: str = task, classes: int = classes
        ) -> dict[str, float]:
            data = digits(split.train) if task == "digits" else tail.examples(1.0, seed)
            test = digits(split.test) if task == "digits" else data
            values = {"learning_rate": rate, "p": p, "bits": bits, "stochastic": float(rounding == "stochastic")}
            setting = {name: jnp.float32(value) for name, value in values.items()}
            return {k: float(v) for k, v in train(setting, jnp.int32(seed), data, test, classes, steps).items()}

        found[task] = {}
        for p, of_p in rates.items():
            tried = {
                rate: [run(p, rate, seed, EXACT, "nearest")[metric] for seed in tail.TUNING_SEEDS] for rate in of_p
            }
            chosen = min(tried, key=lambda rate: np.nan_to_num(statistics.fmean(tried[rate]), nan=np.inf))
            runs = {("nearest", EXACT): [run(p, chosen, seed, EXACT, "nearest") for seed in tail.SEEDS]}
            for rounding in ROUNDINGS:
                for number in bits:
                    runs[rounding, number] = [run(p, chosen, seed, number, rounding) for seed in tail.SEEDS]
            exact = [each[metric] for each in runs["nearest", EXACT]]
            rows = []
            for (rounding, number), each in runs.items():
                differences = [one[metric] - other for one, other in zip(each, exact, strict=True)]
                rows.append(
                    {
                        "rounding": "none" if number == EXACT else rounding,
                        "bits": number,
                        "scores": [one[metric] for one in each],
                        "update_errors": [one["update_error"] for one in each],
                        "difference": statistics.fmean(differences),
                        "interval": paired_interval(differences),
                    }
                )
            name = str(fractions.Fraction(p).limit_denominator(16))
            found[task][name] = {
                "tuning": {f"{rate:g}": scores for rate, scores in tried.items()},
                "chosen": chosen,
                "standard_deviation": statistics.stdev(exact),
                "runs": rows,
            }
            for row in rows:
                errors = statistics.fmean(row["update_errors"])
                text = f"{row['difference']:+.3g}, update {errors:.2%}"
                print(task, f"p = {name}", row["rounding"], row["bits"], text, flush=True)
    return found


def draw(found: Mapping[str, Any], path: pathlib.Path) -> None:
    """A row a task: the score over the bits, and what the rounding does to the update."""
    figure = new_figure(10, 7)
    for axes, (task, by_p) in zip(figure.subplots(2, 2), found.items(), strict=True):
        for (p, of_p), color in zip(by_p.items(), ("#D55E00", "#009E73", "#0072B2"), strict=True):
            for rounding, style in zip(ROUNDINGS, ("-", "--"), strict=True):
                rows = [row for row in of_p["runs"] if row["rounding"] == rounding]
                bits = [row["bits"] for row in rows]
                for axis, name in zip(axes, ("scores", "update_errors"), strict=True):
                    means = [statistics.fmean(row[name]) for row in rows]
                    axis.plot(bits, means, f"o{style}", color=color, label=f"p = {p}, {rounding}", markersize=4)
            exact = statistics.fmean(of_p["runs"][0]["scores"])
            axes[0].axhline(exact, color=color, linestyle=":", linewidth=1)
        axes[0].set(xlabel="Bits of mantissa", ylabel=TASKS[task])
        axes[1].set(xlabel="Bits of mantissa", ylabel="Relative change of the update", yscale="log")
    axes[1].legend(frameon=False, fontsize="small")
    figure.suptitle("Second moments rounded, n = 5; dotted: float32", fontsize="medium")
    save(figure, path)


def main() -> None:
    arguments = study_arguments(__doc__.splitlines()[0]).parse_args()
    small = {"bits": (2, 8), "rates": {p: rates[2:4] for p, rates in RATES.items()}, "steps": 5}
    full = {"bits": BITS, "rates": RATES, "steps": tail.STEPS}
    found = study(**(small if arguments.smoke else full))
    if arguments.out is not None:
        settings = {"b1": B1, "b2": B2, "eps": EPS, "rates": {f"{p:g}": rates for p, rates in RATES.items()}}
        seeds = {"tuning_seeds": tail.TUNING_SEEDS, "seeds": tail.SEEDS, "steps": tail.STEPS}
        write(arguments.out, settings={**settings, **seeds}, tasks=found)
    if arguments.picture is not None:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
