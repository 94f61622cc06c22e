"""Experiments that change one thing in another, `<experiment>-<what>`: beside it, as paired differences."""

import statistics
from collections.abc import Sequence

from padam_optax.experiments.spec import Experiment
from padam_optax.records.store import Record
from padam_optax.report.claims import paired_interval
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, last, quality
from padam_optax.report.results import Paper, Runs, collect
from padam_optax.report.tables import final


def variant_grids(paper: Paper, records: Sequence[Record]) -> list[Grid]:
    """A table for each experiment that has a recorded variant, and each kind of data, length and settings of them.

    A line a variant: runs, what it changes, the metric of the test and the train loss at the last epoch, and the mean
    difference of the former from the experiment's own runs with the same seeds, with its 95% interval (Student's t).
    """
    paper = paper.with_recorded(records)
    grids: list[Grid] = []
    for name, variants in paper.variants.items():
        base = paper.experiments[name]
        for runs in collect({name: base} | {spec.name: spec for spec in variants}, records):
            if any(runs.finished[spec.name] or runs.unfinished[spec.name] for spec in variants):
                grids.append(_grid(base, variants, runs))
    return grids


def _grid(base: Experiment, variants: Sequence[Experiment], runs: Runs) -> Grid:
    metric = quality(record for group in runs.finished.values() for record in group)
    own = _by_seed(runs.finished[base.name], metric)
    lines: list[Line] = []
    for spec in (base, *variants):
        finished = runs.finished[spec.name]
        if not finished and not runs.unfinished[spec.name]:
            continue
        by_seed = _by_seed(finished, metric)
        differences = (
            [] if spec is base else [by_seed[seed] - own[seed] for seed in sorted(by_seed.keys() & own.keys())]
        )
        cells = (
            str(len(by_seed)),
            *(_text(finished, each) for each in (metric, "train_loss")),
            _difference(differences, METRICS[metric].digits),
        )
        lines.append(Line((spec.name, changes(base, spec)), tuple(Cell((cell,)) for cell in cells)))
    names = {spec.name: spec.name for spec in (base, *variants)}
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    return Grid(
        f"Variants of {base.name} on {runs.variant.text}, {runs.epochs} epochs, {runs.remarks(names)} Mean ± standard"
        f" deviation at the last epoch ({better} is better); difference: mean of the runs with the same seed, with its"
        " 95% interval.",
        ("", "Changed"),
        ("n", METRICS[metric].title, METRICS["train_loss"].title, "Difference"),
        tuple(lines),
    )


def changes(base: Experiment, spec: Experiment) -> str:
    """What a variant has other than the experiment, such as `p=1, root=0.001`."""
    was, now = base.hyperparameters, spec.hyperparameters
    parts = [f"{name}={value:g}" for name, value in now.items() if was.get(name) != value]
    parts += [f"no {name}" for name in was if name not in now]
    if spec.bias_correction != base.bias_correction:
        parts.append(f"bias_correction={spec.bias_correction}")
    return ", ".join(parts)


def _by_seed(records: Sequence[Record], metric: str) -> dict[int, float]:
    """The metric as shown, of the runs that did not diverge."""
    values = {record.config["seed"]: last(record, metric) for record in records}
    return {seed: METRICS[metric].shown(value) for seed, value in values.items() if value is not None}


def _text(records: Sequence[Record], metric: str) -> str:
    value = final(records, metric)
    return "-" if value is None else value.format(METRICS[metric].digits)


def _difference(differences: Sequence[float], digits: int) -> str:
    interval = paired_interval(differences)
    if interval is None:
        return "-"
    low, high = interval
    return f"{statistics.mean(differences):+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
