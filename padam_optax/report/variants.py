"""Tables of variants of an experiment, which change one thing in it, by paired differences."""

import statistics
from collections.abc import Sequence

from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import Record
from padam_optax.report.conditions import differences
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, diverged, quality
from padam_optax.report.results import Results, RunGroup
from padam_optax.report.summary import by_seed, final, interval_parts, paired_interval


def variant_grids(results: Results) -> list[Grid]:
    """A table for each experiment with a recorded variant, and for each kind of data, length and settings of the runs.

    Each variant has a line: its change, its number of runs, test metric and train loss at the last epoch, and the test
    metric's mean difference from the experiment's own runs with the same seeds, with a 95% interval (Student's t).
    """
    grids: list[Grid] = []
    for name, variants in results.variants.items():
        base = results.experiments[name]
        for group in results.groups((name, *(spec.name for spec in variants))):
            if any(group.has_run(spec.name) for spec in variants):
                grids.append(_grid(base, variants, group))
    return grids


def _grid(base: Experiment, variants: Sequence[Experiment], group: RunGroup) -> Grid:
    metric = quality(group.records)
    own = by_seed(group.finished[base.name], metric)
    lines: list[Line] = []
    for spec in (base, *variants):
        if not group.has_run(spec.name):
            continue
        finished = group.finished[spec.name]
        values = by_seed(finished, metric)
        paired = [] if spec is base else [values[seed] - own[seed] for seed in sorted(values.keys() & own.keys())]
        cells = (
            (str(len(values)),),
            *((_text(finished, each),) for each in (metric, "train_loss")),
            _difference(paired, METRICS[metric].digits),
        )
        lines.append(Line((spec.name, changes(base, spec)), tuple(map(Cell, cells))))
    names = {name: name for name in group.finished}
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    return Grid(
        f"Variants of {base.name} on {group.conditions.text}, {group.length}, {group.remarks(names)} Mean ±"
        f" standard deviation at the last epoch ({better} is better); difference: mean of the runs with the same seed,"
        " with its 95% interval.",
        ("", "Changed"),
        ("n", METRICS[metric].title, METRICS["train_loss"].title, "Difference"),
        tuple(lines),
    )


def changes(base: Experiment, spec: Experiment) -> str:
    """The settings in which a variant differs from the experiment, such as `learning_rate=0.0225, p=0.5`."""
    # p implies `allow_unproven_p`; the names of the hyper-parameters imply the form of the optimizer.
    same_form = spec.hyperparameters.keys() == base.hyperparameters.keys()
    implied = ("allow_unproven_p",) if same_form else ("allow_unproven_p", "optimizer", "group")
    length = () if spec.epochs == base.epochs else (f"{spec.epochs} epochs",)
    return ", ".join((*length, *differences(spec, base.with_epochs(spec.epochs), implied)))


def _text(records: Sequence[Record], metric: str) -> str:
    value = final(records, metric)
    if value is None:
        return "diverged" if any(map(diverged, records)) else "-"
    return value.format(METRICS[metric].digits)


def _difference(differences: Sequence[float], digits: int) -> tuple[str, ...]:
    interval = paired_interval(differences)
    return ("-",) if interval is None else interval_parts(statistics.mean(differences), interval, digits, "+")
