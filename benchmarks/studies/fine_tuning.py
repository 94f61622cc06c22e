"""Does a small p keep more of what was learnt? A perceptron on half of the digits' classes, then on the other half.

    python benchmarks/studies/fine_tuning.py [--out FILE] [--picture PNG] [--smoke]

A perceptron of two hidden layers of 128 learns five of the ten classes of scikit-learn's digits (which five is drawn
with the seed) with Adam at 1e-3 for 300 steps of 64. Then all of it is trained on the other five for 200 steps: by
Adam, AdamW (decay .01) and Padam at p from 0 to 1/2 with `reference_p=1/2`, at the same six learning rates, and by SGD
with momentum .9 at six of its own. The rates fall along a cosine.

Two scores on held-out images: the accuracy on the new classes, against all ten, and what is kept: the accuracy on the
old classes where it is known that the image is of one of them, so that the best of their five outputs counts. Each
method is shown at the rate of its best accuracy on the new classes (mean of two seeds, 397 images; of equal ones that
of the lower loss), and at the rate that suits all p together. Five other seeds, the 400 other images. Two minutes
on one CPU core.
"""

import fractions
import functools
import pathlib
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from comparing import PS
from fitting import cosine, fit
from tail import init, logits

import padam_optax
from padam_optax.data.digits import CLASSES, read_digits
from padam_optax.report.figures import new_figure, save, spread_colors
from padam_optax.report.summary import interval_parts, paired_interval

# measuring.py lies beside what measures speed.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import study_arguments, write

P = {str(fractions.Fraction(p).limit_denominator(16)): p for p in PS}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
SGD_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
# Other methods than Padam at each p, by name: what makes them, and the rates that they try.
OTHERS: dict[str, tuple[Callable[[optax.Schedule], optax.GradientTransformation], Sequence[float]]] = {
    "Adam": (optax.adam, RATES),
    "AdamW": (functools.partial(optax.adamw, weight_decay=0.01), RATES),
    "SGD-Momentum": (functools.partial(optax.sgd, momentum=0.9), SGD_RATES),
}
NAMES = (*OTHERS, *P)
TUNING_SEEDS, SEEDS = (100, 101), (0, 1, 2, 3, 4)
TUNING_IMAGES = 397
HIDDEN, BATCH, FIRST_STEPS, STEPS = 128, 64, 300, 200

Params = list[dict[str, jax.Array]]
Images = tuple[jax.Array, jax.Array]


@functools.cache
def halves(seed: int, part: str) -> tuple[Images, Images]:
    """The images and labels of the old and of the new classes; `part` is train, tuning or test."""
    digits = read_digits()
    data = digits.train if part == "train" else digits.test
    chosen = {"train": slice(None), "tuning": slice(None, TUNING_IMAGES), "test": slice(TUNING_IMAGES, None)}[part]
    pixels, labels = data.images[chosen].reshape(-1, 64) / 8 - 1, data.labels[chosen]
    old = np.isin(labels, old_classes(seed))
    return tuple((jnp.asarray(pixels[of], jnp.float32), jnp.asarray(labels[of], jnp.int32)) for of in (old, ~old))


def old_classes(seed: int) -> np.ndarray:
    """Which five are learnt first."""
    return np.sort(np.random.default_rng(seed).permutation(CLASSES)[: CLASSES // 2])


def loss(params: Params, inputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy against all ten classes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, inputs), labels).mean()


def train(params: Params, tx: optax.GradientTransformation, data: Images, key: jax.Array, steps: int) -> Params:
    """The parameters after so many steps."""
    return fit(params, tx, lambda params, images: loss(params, *images), data, key, steps=steps, batch=BATCH)[0]


@functools.partial(jax.jit, static_argnames="steps")
def pretrain(seed: jax.Array, data: Images, steps: int) -> Params:
    """The network after the old classes."""
    first, second = jax.random.split(jax.random.key(seed))
    return train(init(first, (64, HIDDEN, HIDDEN, CLASSES)), optax.adam(1e-3), data, second, steps)


@functools.partial(jax.jit, static_argnames=("other", "steps"))
def fine_tune(
    params: Params,
    p: jax.Array | None,
    rate: jax.Array,
    seed: jax.Array,
    data: Images,
    steps: int,
    other: str | None = None,
) -> Params:
    """The network after the new classes, by Padam at p or by another method."""
    schedule = cosine(rate, steps)
    tx = OTHERS[other][0](schedule) if other else padam_optax.padam(schedule, p=p, reference_p=0.5)
    return train(params, tx, data, jax.random.fold_in(jax.random.key(seed), 1), steps)


def scores(params: Params, seed: int, part: str) -> dict[str, float]:
    """Accuracies in percent, and the loss of the new classes."""
    (old_inputs, old_labels), new = halves(seed, part)
    among = jnp.asarray(old_classes(seed))
    kept = among[jnp.argmax(logits(params, old_inputs)[:, among], axis=1)] == old_labels
    right = jnp.argmax(logits(params, new[0]), axis=1) == new[1]
    return {
        "new": 100 * float(right.mean()),
        "kept": 100 * float(kept.mean()),
        "loss": float(loss(params, *new)),
    }


def study(steps: int, first_steps: int) -> dict[str, Any]:
    """What is recorded: all trials, and for each method the scores of the five seeds at two rates."""
    start = {seed: pretrain(jnp.int32(seed), halves(seed, "train")[0], first_steps) for seed in (*TUNING_SEEDS, *SEEDS)}

    def run(name: str, rate: float, seed: int, part: str) -> dict[str, float]:
        p, other = (jnp.float32(P[name]), None) if name in P else (None, name)
        arguments = (p, jnp.float32(rate), jnp.int32(seed), halves(seed, "train")[1], steps, other)
        return scores(fine_tune(start[seed], *arguments), seed, part)

    rates = dict.fromkeys(P, RATES) | {name: of for name, (_, of) in OTHERS.items()}
    tuning = {
        name: {f"{rate:g}": [run(name, rate, seed, "tuning") for seed in TUNING_SEEDS] for rate in rates[name]}
        for name in NAMES
    }
    chosen = {name: choose(trials) for name, trials in tuning.items()}
    common = common_rate(tuning)
    found = {
        name: {
            which: [run(name, float(rate), seed, "test") for seed in SEEDS]
            for which, rate in (("own", chosen[name]), ("common", common))
            if which == "own" or rates[name] == RATES
        }
        for name in NAMES
    }
    before = [scores(start[seed], seed, "test")["kept"] for seed in SEEDS]
    return {"tuning": tuning, "chosen": chosen, "common": common, "scores": found, "kept_before": before}


def choose(trials: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """The rate of the best mean accuracy on the new classes; of equal ones that of the lower loss."""

    def rank(rate: str) -> tuple[float, float]:
        return -mean(trials[rate], "new"), mean(trials[rate], "loss")

    return min(trials, key=rank)


def common_rate(tuning: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]) -> str:
    """The rate whose worst accuracy on the new classes over Padam's p is the best."""
    rates = tuning["1/2"]
    return max(rates, key=lambda rate: min(mean(tuning[name][rate], "new") for name in P))


def mean(runs: Sequence[Mapping[str, float]], name: str) -> float:
    """Of one score."""
    return statistics.fmean(run[name] for run in runs)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The table in Markdown."""
    rows = [
        "| | own rate | new classes | kept | kept, minus Adam's | at the common rate: new classes | kept |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, by_rate in found["scores"].items():
        own, common = by_rate["own"], by_rate.get("common")
        differences = [
            run["kept"] - adam["kept"] for run, adam in zip(own, found["scores"]["Adam"]["own"], strict=True)
        ]
        cells = (
            f"p = {name}" if name in P else name,
            found["chosen"][name],
            *(f"{mean(own, score):.1f}" for score in ("new", "kept")),
            "-"
            if name == "Adam"
            else " ".join(interval_parts(statistics.fmean(differences), paired_interval(differences), 1, "+")),
            *("-" if common is None else f"{mean(common, score):.1f}" for score in ("new", "kept")),
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def draw(found: Mapping[str, Any], path: pathlib.Path) -> None:
    """What is kept against what is learnt: a line over the rates for each p, from the trials."""
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for name, color in zip(NAMES, ["#8C8C8C", "#E69F00", "#CC79A7", *spread_colors(len(P))], strict=True):
        trials = found["tuning"][name].values()
        points = [(mean(runs, "new"), mean(runs, "kept")) for runs in trials]
        label = f"p = {name}" if name in P else name
        axes.plot(*zip(*points, strict=True), "o-", color=color, label=label, markersize=4)
    axes.set(xlabel="Accuracy on the new classes (%)", ylabel="Accuracy kept on the old ones (%)")
    axes.set_title("Digits: five classes, then the other five; a point a rate, n = 2", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    save(figure, path)


def main() -> None:
    arguments = study_arguments(__doc__.splitlines()[0]).parse_args()
    steps, first_steps = (5, 5) if arguments.smoke else (STEPS, FIRST_STEPS)
    found = study(steps, first_steps)
    print(*lines(found), f"Kept before: {statistics.fmean(found['kept_before']):.1f}", sep="\n")
    print(f"Common rate: {found['common']}")
    if arguments.out is not None:
        settings = {
            "rates": RATES,
            "sgd_rates": SGD_RATES,
            "tuning_seeds": TUNING_SEEDS,
            "seeds": SEEDS,
            "steps": (first_steps, steps),
        }
        write(arguments.out, settings=settings, **found)
    if arguments.picture is not None:
        draw(found, arguments.picture)


if __name__ == "__main__":
    main()
