"""One learning rate for every p: maps of rate x p with and without `reference_p`, and the choices behind it.

    python benchmarks/studies/reference_p.py train TASK [PART...] --data-dir DIR --out DIR [--data-label NAME]
    python benchmarks/studies/reference_p.py report RECORDS... [--picture FILE]

TASK is digits, cifar10, lstm or transformer: shortened recipes for a CPU core. PART names what to train, by default
everything in this order. Runs with a complete record are skipped.

- adam: Adam, at the rates of the maps with a reference.
- leaf: Padam with `reference_p=1/2` and one R for each array, every p x every rate.
- all: the same with one R for all coordinates.
- plain: Padam without a reference, every p x its own, wider range of rates.
- zero: p = 0 as in "leaf", for the table over tasks; it is not in the maps.
- other choices of R, at p = 1/8: one R for all arrays that follows the roots ("follow-all"); or one R for each array
  that follows them ("follow"), is held after 20 or 500 updates instead of 100 ("early", "late"), is a median instead of
  the geometric mean ("median"), or is used without bias correction or with the official one instead of the debiased
  moments ("none", "official"; at p = 1/4 too).
- none at the other p, added because "none" did well at 1/8 and 1/4.

Scores are the error on a held-out fifth of the training images and the validation perplexity; each has seed 0 and n =
1. This plan was written down before the first run, but for its last line.
"""

import argparse
import dataclasses
import fractions
import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import padam_optax
from padam_optax.experiments import find
from padam_optax.experiments.methods import METHODS, Method, MethodContext, coupled, rate_of, register
from padam_optax.experiments.spec import Experiment, ImageClassification
from padam_optax.records.record import Record
from padam_optax.records.store import read_all
from padam_optax.runner.datasets import load_data
from padam_optax.runner.sweep import Sweeper

TASKS = {
    "digits": ("digits-padam", 40),
    "cifar10": ("cifar10-mini-padam", 10),
    "lstm": ("ptb-mini-padam", 3),
    "transformer": ("ptb-transformer-mini-padam", 8),
}
TITLES = {
    "digits": "Digits, small CNN, held-out error (%)",
    "cifar10": "CIFAR-10 (lossless copy), 5,000 images, ResNet-10, held-out error (%)",
    "lstm": "Penn Treebank, 100,000 tokens, LSTM, validation perplexity",
    "transformer": "Penn Treebank, 100,000 tokens, transformer, validation perplexity",
}
P = (1 / 16, 1 / 8, 1 / 4, 2 / 5, 1 / 2)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
PLAIN_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
CHOICES = ("follow", "follow-all", "early", "late", "median", "none", "official")
NEVER = 10**9
# A score from which on a run learnt nothing; below it one decimal is shown.
_TRAINED = 1_000


class _MedianState(NamedTuple):
    root: Any
    inner: Any


def _scale_by_median(inner: optax.GradientTransformation, p: Any, b2: Any) -> optax.GradientTransformation:
    """`inner`'s updates, those of an array times `median^(2p - 1)` of its roots, held after 100 updates."""

    def init(params: Any) -> _MedianState:
        return _MedianState(jax.tree.map(lambda leaf: jnp.zeros([]), params), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra_args: Any) -> tuple[Any, Any]:
        del extra_args
        updates, after = inner.update(updates, state.inner, params)
        assert isinstance(after, padam_optax.ScaleByPartialAmsgradState)
        weight = 1 - b2**after.count

        def median(nu_max: jax.Array, held: jax.Array) -> jax.Array:
            moved = nu_max > 0
            found = jnp.nanmedian(jnp.where(moved, jnp.sqrt(nu_max / weight), jnp.nan))
            return jnp.where((after.count <= 100) | (held == 0), jnp.where(jnp.any(moved), found, 0), held)

        root = jax.lax.cond(
            after.count <= 100,
            lambda: jax.tree.map(median, after.nu_max, state.root),
            lambda: state.root,
        )
        factors = jax.tree.map(lambda each: jnp.where(each > 0, each, 1) ** (2 * p - 1), root)
        return jax.tree.map(jnp.multiply, updates, factors), _MedianState(root, after)

    return optax.GradientTransformation(init, update)


def _variant(values: Any, context: MethodContext, **options: Any) -> optax.GradientTransformation:
    moments = {name: values[name] for name in ("b1", "b2", "eps")}
    correction = context.bias_correction
    if options.pop("median", False):
        inner = padam_optax.scale_by_partial_amsgrad(**moments, p=values["p"], bias_correction=correction)
        scaled = _scale_by_median(inner, values["p"], values["b2"])
    else:
        scaled = padam_optax.scale_by_partial_amsgrad(
            **moments, p=values["p"], reference_p=0.5, bias_correction=correction, **options
        )
    return coupled(values, context, optax.chain(scaled, optax.scale_by_learning_rate(rate_of(values, context))))


OPTIONS: dict[str, dict[str, Any]] = {
    "leaf": {"reference_scope": "leaf"},
    "zero": {"reference_scope": "leaf"},
    "all": {"reference_scope": "all"},
    "follow": {"reference_scope": "leaf", "calibration_steps": NEVER},
    "follow-all": {"reference_scope": "all", "calibration_steps": NEVER},
    "early": {"reference_scope": "leaf", "calibration_steps": 20},
    "late": {"reference_scope": "leaf", "calibration_steps": 500},
    "median": {"median": True},
    "none": {"reference_scope": "leaf"},
    "official": {"reference_scope": "leaf"},
}


def register_variants() -> None:
    """Adds the forms of R to the registry, which training needs and reading records does not."""
    for name, options in OPTIONS.items():
        register(
            Method(
                f"padam-{name}",
                f"Padam, reference, {name}",
                METHODS["padam"].color,
                {**METHODS["padam"].settings, "learning_rate": 1e-3},
                functools.partial(_variant, **options),
                keeps_moments=True,
            )
        )


def experiment(task: str, part: str) -> Experiment:
    """What is trained for a part of a task, by default at the recipe's own rate."""
    base, epochs = TASKS[task]
    spec = find(base).with_epochs(epochs)
    shared = {name: spec.hyperparameters[name] for name in ("b1", "eps", "weight_decay")} | {"b2": 0.999}
    optimizer = {"adam": "adam", "plain": "padam"}.get(part, f"padam-{part}")
    own = {"learning_rate": 1e-3} if part == "adam" else {"learning_rate": 1e-3, "p": 1 / 8}
    spec = dataclasses.replace(
        spec,
        name=f"reference-{task}-{part}",
        suite=f"reference-{task}",
        optimizer=optimizer,
        hyperparameters={**shared, **own},
        bias_correction={"plain": "none", "none": "none", "official": "official"}.get(part, "debiased"),
        seeds=(0,),
    )
    return spec.with_task(held_out=0.2) if isinstance(spec.task, ImageClassification) else spec


def configurations(part: str) -> list[dict[str, float]]:
    """The settings that are tried for a part."""
    if part == "adam":
        return [{"learning_rate": rate} for rate in RATES]
    rates = PLAIN_RATES if part == "plain" else RATES
    ps = {"zero": (0.0,), "none": P, "official": (1 / 8, 1 / 4)}.get(part, (1 / 8,) if part in CHOICES else P)
    return [{"learning_rate": rate, "p": p} for p in ps for rate in rates]


def train(arguments: argparse.Namespace) -> None:
    """Trains the parts that were asked for."""
    register_variants()
    for part in arguments.parts or ("adam", "leaf", "plain", "zero", "all", *CHOICES):
        spec = experiment(arguments.task, part)
        data = load_data(spec, arguments.data_dir, arguments.data_label)

        def on_epoch(run: Experiment, seed: int, line: dict[str, Any], metric: str = spec.score_metric) -> None:
            if line["epoch"] == run.epochs or "diverged_step" in line:
                print(run.name, line.get(metric, "diverged"), flush=True)

        chosen = [
            each
            for each in configurations(part)
            if (arguments.rates is None or each["learning_rate"] in arguments.rates)
            and (arguments.p is None or each.get("p", arguments.p[0]) in arguments.p)
        ]
        Sweeper(spec, data, arguments.out, on_epoch=on_epoch, batch_configs=1).train(chosen, (0,))


Score = dict[tuple[float, float], float]


def scores(records: list[Record]) -> dict[str, dict[str, Score]]:
    """By task and part: the last score of each (p, rate), infinite where a run diverged; p is 0 for Adam."""
    found: dict[str, dict[str, Score]] = {}
    for record in records:
        spec, metric = record.experiment, record.experiment.score_metric
        _, task, part = (spec.variant_of or spec.name).split("-", 2)
        scale = 100 if metric == "test_error" else 1
        value = scale * record.metrics[-1][metric] if record.whole else math.inf
        place = (spec.hyperparameters.get("p", 0.0), spec.hyperparameters["learning_rate"])
        found.setdefault(task, {}).setdefault(part, {})[place] = value
    return {task: found[task] for task in TASKS if task in found}


def common_rate(score: Score) -> tuple[float, dict[float, float]]:
    """The rate whose worst loss against each p's own best is smallest, and that loss by p, as a share."""
    ps, rates = (sorted({place[axis] for place in score}) for axis in (0, 1))
    best = {p: min(score.get((p, rate), math.inf) for rate in rates) for p in ps}
    losses = {rate: {p: score.get((p, rate), math.inf) / best[p] - 1 for p in ps} for rate in rates}
    rate = min(rates, key=lambda rate: max(losses[rate].values()))
    return rate, losses[rate]


def table(score: Score, name: str | None = None) -> list[str]:
    """A Markdown table of rates over p, or over what has the name."""
    ps, rates = (sorted({place[axis] for place in score}) for axis in (0, 1))
    lines = ["| p | " + " | ".join(f"{rate:g}" for rate in rates) + " |", "|---" * (1 + len(rates)) + "|"]
    for p in ps:
        cells = [f"{score[p, rate]:.1f}" if (p, rate) in score else "" for rate in rates]
        first = name or str(fractions.Fraction(p).limit_denominator(16))
        lines.append(f"| {first} | " + " | ".join(cell.replace("inf", "diverged") for cell in cells) + " |")
    return lines


def draw(found: dict[str, dict[str, Score]], path: pathlib.Path) -> None:
    """For each task two maps side by side, in one scale of colours: without and with a reference."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.colors import LogNorm

    tasks = [task for task in found if {"plain", "leaf"} <= found[task].keys()]
    figure = plt.figure(figsize=(11, 2.6 * len(tasks)), layout="constrained")
    rows = np.atleast_1d(figure.subfigures(len(tasks), 1))
    for row, task in zip(rows, tasks, strict=True):
        row.suptitle(TITLES[task], fontsize="medium")
        # The colours are those of the map on the right as far as it trained; what is worse has its darkest one.
        trained = [value for value in found[task]["leaf"].values() if value < _TRAINED]
        norm = LogNorm(min(trained), max(trained), clip=True)
        panels = zip(row.subplots(1, 2, width_ratios=(3, 2)), ("plain", "leaf"), strict=True)
        for axis, part in panels:
            score = found[task][part]
            ps, rates = (sorted({place[k] for place in score}) for k in (0, 1))
            values = np.array([[score.get((p, rate), np.nan) for rate in rates] for p in ps])
            # A hue for infinity too, which LogNorm would leave out.
            axis.imshow(np.minimum(values, 1e9), aspect="auto", origin="lower", cmap="viridis_r", norm=norm)
            for (i, k), value in np.ndenumerate(values):
                if np.isnan(value):
                    continue
                text = "diverged" if math.isinf(value) else f"{value:.1f}" if value < _TRAINED else f"{value:.0e}"
                color = "white" if norm(min(value, 1e9)) > 0.5 else "black"
                axis.text(k, i, text, ha="center", va="center", color=color, fontsize="small")
            axis.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
            axis.set_yticks(range(len(ps)), [str(fractions.Fraction(p).limit_denominator(16)) for p in ps])
            axis.set(xlabel="Learning rate", ylabel="p")
            axis.set_title("Without a reference" if part == "plain" else "reference_p = 1/2", fontsize="small")
    figure.savefig(path, dpi=100)


def report(arguments: argparse.Namespace) -> None:
    """Prints the tables and what they show, and draws the maps."""
    found = scores([record for path in arguments.records for record in read_all(path)])
    for task, parts in found.items():
        print(f"## {TITLES[task]}\n")
        for part in sorted(parts, key=[*OPTIONS, "adam", "plain"].index):
            lines = table(parts[part], "Adam" if part == "adam" else None)
            print(f"{part}:\n", *lines, "", sep="\n")
            if part in ("leaf", "all", "plain"):
                rate, losses = common_rate(parts[part])
                text = ", ".join(
                    f"{fractions.Fraction(p).limit_denominator(16)}: {100 * x:.1f}%" for p, x in losses.items()
                )
                print(f"Best common rate {rate:g}; above the best score of each p by {text}.\n")
    if arguments.picture is not None:
        draw(found, arguments.picture)


def main() -> None:
    parser = argparse.ArgumentParser(description="Maps of rate x p with and without a reference.")
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("task", choices=TASKS)
    training.add_argument("parts", nargs="*")
    training.add_argument("--rates", type=float, nargs="+", help="only these, of every part")
    training.add_argument("--p", type=float, nargs="+", help="only these")
    training.add_argument("--data-dir", type=pathlib.Path)
    training.add_argument("--data-label", default="")
    training.add_argument("--out", type=pathlib.Path, required=True)
    training.set_defaults(run=train)
    reporting = commands.add_parser("report")
    reporting.add_argument("records", type=pathlib.Path, nargs="+")
    reporting.add_argument("--picture", type=pathlib.Path)
    reporting.set_defaults(run=report)
    arguments = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = arguments.run
    run(arguments)


if __name__ == "__main__":
    main()
