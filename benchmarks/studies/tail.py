"""Does the tail of the classes decide which p trains fastest? The same network and data, class frequencies k^-a.

    python benchmarks/studies/tail.py [--out FILE] [--picture PNG] [--smoke]

Kunstner et al. (https://arxiv.org/abs/2402.19449) explain Adam's lead over SGD on language by rare words, and show it
on images with many classes of unequal size: MNIST's digits with a barcode. Here the 8x8 digits that scikit-learn ships
get one of 16 barcodes of 4 bits, which makes 160 classes. The k-th class has a share of the 2,048 training images
proportional to k^-a. At a = 0 all shares are equal; at a = 1.5 the first class has 41%, 69 classes have one image and
24 none. Each seed draws the order of the classes anew.

A perceptron with two hidden layers of 128 is trained for 600 steps of 128 images with Padam at p from 0 to 1/2, without
decay. With `reference_p=1/2` all p choose from the same six learning rates, which fall along a cosine. The rate of each
p and a is chosen by the mean train loss of two seeds; five other seeds are reported. The score is the train loss,
because Kunstner et al. explain how fast the loss falls, not how it generalises. It is also given for the frequent and
the rare classes, which hold the first and the second half of the images. About 20 minutes on one CPU core.
"""

import fractions
import functools
import math
import pathlib
import random
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import fitting
import jax
import jax.numpy as jnp
import numpy as np
import optax

import padam_optax
from padam_optax.data.digits import CLASSES, read_digits
from padam_optax.report.figures import new_figure, plain_ticks, save, spread_colors

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from comparing import PS, finite
from fitting import cosine
from measuring import study_arguments, write

TAILS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TUNING_SEEDS, SEEDS = (100, 101), (0, 1, 2, 3, 4)
IMAGES, BATCH, STEPS, HIDDEN = 2_048, 128, 600, 128
BITS = 4
CODES = 2**BITS

Params = list[dict[str, jax.Array]]


class Examples(NamedTuple):
    """Inputs to train on.

    Attributes:
      inputs: (N, features), float32.
      labels: (N,), int32.
      rare: (N,), whether the example's class is one of the rare ones.
    """

    inputs: jax.Array
    labels: jax.Array
    rare: jax.Array


def shares(classes: int, tail: float) -> np.ndarray:
    """Of the k-th of the classes: proportional to k^-tail, (classes,)."""
    weights = np.arange(1, classes + 1) ** -tail
    return weights / weights.sum()


def counts(classes: int, tail: float, total: int) -> np.ndarray:
    """Whole numbers nearest to the shares whose sum is `total`: the largest remainders are rounded up."""
    wanted = shares(classes, tail) * total
    found = np.floor(wanted).astype(int)
    missing = total - found.sum()
    found[np.argsort(found - wanted, kind="stable")[:missing]] += 1
    return found


@functools.cache
def examples(tail: float, seed: int) -> Examples:
    """Digits with barcodes; which class is the k-th, and which of its digits are taken, is drawn with the seed."""
    draw = np.random.default_rng(seed)
    digits = read_digits().train
    classes = draw.permutation(CLASSES * CODES)
    number = counts(len(classes), tail, IMAGES)
    ranks = np.repeat(np.arange(len(classes)), number)
    # The first half of the images, in the order of the classes' frequencies, is of the frequent ones.
    rare = np.cumsum(number)[ranks] > IMAGES // 2
    labels = classes[ranks]
    chosen = np.array([draw.choice(np.flatnonzero(digits.labels == label // CODES)) for label in labels])
    codes = (labels % CODES)[:, None] >> np.arange(BITS) & 1
    pixels = digits.images[chosen].reshape(len(labels), -1) / 8 - 1
    inputs = np.concatenate([pixels, 2.0 * np.repeat(codes, 4, axis=1) - 1], axis=1)
    return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(labels, jnp.int32), jnp.asarray(rare))


def init(key: jax.Array, sizes: Sequence[int]) -> Params:
    """Layers of a perceptron: kernels N(0, 2 / fan-in), biases 0."""
    return [
        {"kernel": jax.random.normal(each, (one, other)) * (2 / one) ** 0.5, "bias": jnp.zeros(other)}
        for each, one, other in zip(jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True)
    ]


def logits(params: Params, inputs: jax.Array) -> jax.Array:
    """(N, classes) from (N, features)."""
    for layer in params[:-1]:
        inputs = jax.nn.relu(inputs @ layer["kernel"] + layer["bias"])
    return inputs @ params[-1]["kernel"] + params[-1]["bias"]


def losses(params: Params, data: Examples) -> jax.Array:
    """Cross-entropy of each example, (N,)."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, data.inputs), data.labels)


def fit(
    make: Callable[..., optax.GradientTransformation],
    setting: Mapping[str, jax.Array],
    seed: jax.Array,
    data: Examples,
    classes: int,
    steps: int,
) -> tuple[Params, Any]:
    """The perceptron and the optimizer's state after so many steps.

    Args:
      make: Maps a schedule and the setting to the optimizer.
      setting: Traced scalars, `learning_rate` among them; the rate falls along a cosine.
      seed: Of the initial weights and the batches.
      data: To train on.
      classes: How many there are.
      steps: Updates.
    """
    init_key, step_key = jax.random.split(jax.random.key(seed))
    params = init(init_key, (data.inputs.shape[1], HIDDEN, HIDDEN, classes))
    tx = make(cosine(setting["learning_rate"], steps), setting)
    return fitting.fit(
        params, tx, lambda params, data: losses(params, data).mean(), data, step_key, steps=steps, batch=BATCH
    )


def padam(schedule: Any, setting: Mapping[str, jax.Array]) -> optax.GradientTransformation:
    """Padam at rates in Adam's units."""
    return padam_optax.padam(schedule, p=setting["p"], reference_p=0.5)


@functools.partial(jax.jit, static_argnames="steps")
def train(setting: dict[str, jax.Array], seed: jax.Array, data: Examples, steps: int = STEPS) -> dict[str, jax.Array]:
    """One training: the mean train loss at its end."""
    params, _ = fit(padam, setting, seed, data, CLASSES * CODES, steps)
    return by_part(losses(params, data), data.rare)


def by_part(found: jax.Array, rare: jax.Array) -> dict[str, jax.Array]:
    """The mean of the losses of all examples, of the frequent and of the rare classes'."""
    return {
        "all": found.mean(),
        "frequent": jnp.sum(jnp.where(rare, 0, found)) / jnp.maximum(jnp.sum(~rare), 1),
        "rare": jnp.sum(jnp.where(rare, found, 0)) / jnp.maximum(jnp.sum(rare), 1),
    }


def mean(scores: Sequence[float | None]) -> float:
    """The mean of some losses; infinite if one is None, that of a run that diverged."""
    return math.inf if None in scores else statistics.fmean(score for score in scores if score is not None)


def best(rows: Mapping[float, Sequence[float | None]]) -> dict[str, Any]:
    """The p of the lowest mean, and the range of 95% of those in resamples of the seeds.

    Args:
      rows: Losses by p, one a seed, the same seeds for all; None where a run diverged.
    """
    draw = random.Random(0)
    number = len(next(iter(rows.values())))

    def lowest(places: Sequence[int]) -> float:
        return min(rows, key=lambda p: mean([rows[p][place] for place in places]))

    drawn = sorted(lowest(draw.choices(range(number), k=number)) for _ in range(2_000))
    return {"p": lowest(range(number)), "interval": (drawn[50], drawn[-51])}


# Maps a tail, p, a learning rate and a seed to the losses of `by_part`.
Run = Callable[[float, float, float, int], Mapping[str, jax.Array]]


def of_digits(steps: int) -> Run:
    """Trains on the digits with barcodes."""

    def run(tail: float, p: float, rate: float, seed: int) -> Mapping[str, jax.Array]:
        setting = {"learning_rate": jnp.float32(rate), "p": jnp.float32(p)}
        return train(setting, jnp.int32(seed), examples(tail, seed), steps)

    return run


def study(train: Run, tails: Sequence[float], rates: Sequence[float]) -> list[dict[str, Any]]:
    """Chooses a rate for each p and tail and trains it with the reported seeds."""
    found = []
    for tail in tails:

        def run(p: float, rate: float, seed: int, tail: float = tail) -> dict[str, float | None]:
            return {name: finite(np.asarray(value)) for name, value in train(tail, p, rate, seed).items()}

        row: dict[str, Any] = {"tail": tail, "tuning": {}, "chosen": {}, "losses": {}}
        for p in PS:
            tried = {rate: [run(p, rate, seed)["all"] for seed in TUNING_SEEDS] for rate in rates}
            chosen = min(tried, key=lambda rate: mean(tried[rate]))
            runs = [run(p, chosen, seed) for seed in SEEDS]
            name = str(fractions.Fraction(p).limit_denominator(16))
            row["tuning"][name] = {f"{rate:g}": scores for rate, scores in tried.items()}
            row["chosen"][name] = chosen
            row["losses"][name] = {part: [each[part] for each in runs] for part in runs[0]}
        row["best"] = {
            part: best({float(fractions.Fraction(p)): row["losses"][p][part] for p in row["losses"]})
            for part in ("all", "frequent", "rare")
        }
        print(f"a = {tail:g}:", {p: f"{mean(of['all']):.4g}" for p, of in row["losses"].items()}, flush=True)
        print("  best p:", row["best"], flush=True)
        found.append(row)
    return found


def draw(found: Sequence[Mapping[str, Any]], examples: str, classes: str, title: str, path: pathlib.Path) -> None:
    """Left: the train loss over p, a line a tail, relative to the best p. Right: the best p over the tail."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    for row, color in zip(found, spread_colors(len(found)), strict=True):
        ps = [float(fractions.Fraction(p)) for p in row["losses"]]
        means = np.array([mean(of["all"]) for of in row["losses"].values()])
        left.plot(ps, means / means.min(), "o-", color=color, label=f"a = {row['tail']:g}")
    left.set(xlabel="p", ylabel="Train loss, over that of the best p", yscale="log")
    low, high = left.get_ylim()
    if high < 10 * low:
        plain_ticks(left)
    left.legend(frameon=False, fontsize="small")
    for part, shift, color in (("all", 0.0, "black"), ("frequent", -0.02, "#0072B2"), ("rare", 0.02, "#D55E00")):
        tails = np.array([row["tail"] for row in found]) + shift
        values = np.array([row["best"][part]["p"] for row in found])
        ends = np.array([row["best"][part]["interval"] for row in found]).T
        errors = np.abs(ends - values)
        label = {"all": f"all {examples}", "frequent": f"frequent {classes}", "rare": f"rare {classes}"}[part]
        right.errorbar(tails, values, errors, fmt="o-", color=color, capsize=3, label=label)
    right.set(xlabel="Tail of the classes a (frequency k^-a)", ylabel="p of the lowest train loss", ylim=(-0.03, 0.53))
    right.legend(frameon=False, fontsize="small")
    figure.suptitle(f"{title}, n = {len(SEEDS)} (95% of resamples)", fontsize="medium")
    save(figure, path)


def main() -> None:
    arguments = study_arguments(__doc__.splitlines()[0]).parse_args()
    tails, rates, steps = ((0.0, 1.0), (1e-3, 1e-2), 5) if arguments.smoke else (TAILS, RATES, STEPS)
    found = study(of_digits(steps), tails, rates)
    if arguments.out is not None:
        record(arguments.out, found, rates, steps)
    if arguments.picture is not None:
        draw(found, "images", "classes", "Digits with barcodes, 160 classes", arguments.picture)


def record(path: pathlib.Path, found: Sequence[Mapping[str, Any]], rates: Sequence[float], steps: int) -> None:
    """Writes what `study` found."""
    settings = {"p": PS, "rates": rates, "tuning_seeds": TUNING_SEEDS, "seeds": SEEDS, "steps": steps}
    write(path, settings=settings, tails=found)


if __name__ == "__main__":
    main()
