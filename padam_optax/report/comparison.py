"""Compares a suite's methods: robust statistics, results at the settings before any choice, differences from Padam."""

import statistics
from collections.abc import Mapping, Sequence

from padam_optax.experiments.tuning import UNTUNED
from padam_optax.records.record import Record
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, Metric, diverged
from padam_optax.report.results import Results, RunGroup
from padam_optax.report.series import PADAMS, Series, titles
from padam_optax.report.summary import (
    bootstrap_interval,
    by_seed,
    final,
    holm,
    interquartile_mean,
    interval_parts,
    number_text,
    paired_interval,
    paired_p,
)
from padam_optax.report.tables import Suite

# The level of significance, for p-values adjusted for the number of comparisons.
_LEVEL = 0.05


def comparison_grid(suite: Suite, results: Results) -> Grid | None:
    """A table with one line a method; None if no search chose the suite's settings, or with one method or seed.

    The columns are mean and standard deviation, median, interquartile mean with a bootstrap interval, the result at the
    settings before any choice, and the difference of each form of Padam from the line's method, paired by seed.
    """
    if suite.name not in UNTUNED:
        return None
    metric = METRICS[suite.quality]
    run = [series for series in suite.series if by_seed(suite.group.finished_of(series.experiment), suite.quality)]
    if len(run) < 2 or max(len(suite.group.finished_of(series.experiment)) for series in run) < 2:
        return None
    ours = [series for series in run if series.method in PADAMS]
    untuned = _untuned(suite, results)
    differences = {
        (padam.experiment, other.experiment): _paired(suite.group, padam, other, suite.quality)
        for padam in ours
        for other in run
        if other is not padam
    }
    # The comparison of two forms of Padam has two places in the table, but counts once.
    tested = {frozenset(pair): p for pair, found in differences.items() if (p := paired_p(found)) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    lines: list[Line] = []
    for series in run:
        runs = suite.group.finished_of(series.experiment)
        values = sorted(by_seed(runs, suite.quality).values())
        cells = [
            _mean(runs, suite.quality),
            (number_text(statistics.median(values), metric.digits),),
            interval_parts(interquartile_mean(values), bootstrap_interval(values, interquartile_mean), metric.digits),
            _mean(untuned.get(series.method, ()), suite.quality),
        ]
        for padam in ours:
            pair = padam.experiment, series.experiment
            cells.append(_difference(differences.get(pair, ()), metric, adjusted.get(frozenset(pair))))
        lines.append(Line((series.title,), tuple(map(Cell, cells))))
    better = "higher" if metric.higher_is_better else "lower"
    return Grid(
        f"{suite.title}, {metric.title.lower()}, {better} is better. IQM: mean of the middle half of the seeds, with"
        f" its 95% bootstrap interval. Untuned: the mean at the default settings{_counts(untuned)}. Ahead by: how much"
        " better the column's Padam is than the method of the row, paired by seed, with the 95% interval (Student's t)"
        f" of this comparison alone; * differs from 0 at the level {_LEVEL:g} after Holm's correction for all"
        f" {len(tested)} comparisons."
        f"{suite.group.left_out(titles(suite.series))}",
        ("",),
        ("Mean", "Median", "IQM", "Untuned", *(f"{each.title} ahead by" for each in ours)),
        tuple(lines),
    )


def _counts(untuned: Mapping[str, Sequence[Record]]) -> str:
    """The number of seeds of the untuned runs, such as `, n = 3`."""
    counts = sorted({len(runs) for runs in untuned.values() if runs})
    return f", n = {' or '.join(map(str, counts))}" if counts else ""


def _untuned(suite: Suite, results: Results) -> dict[str, Sequence[Record]]:
    """The finished runs before any choice, by method, under the suite's conditions."""
    specs = results.suites.get(UNTUNED[suite.name], ())
    for group in results.groups(spec.name for spec in specs):
        if group.conditions == suite.group.conditions:
            return {spec.optimizer: group.finished_of(spec.name) for spec in specs}
    return {}


def _mean(records: Sequence[Record], metric: str) -> tuple[str, ...]:
    value = final(records, metric)
    if value is None:
        return ("diverged" if any(map(diverged, records)) else "not run",)
    missing = len(records) - value.n
    text = value.parts(METRICS[metric].digits)
    return (*text, f"({missing} of {len(records)}", "diverged)") if missing else text


def _paired(group: RunGroup, ours: Series, other: Series, metric: str) -> list[float]:
    """By how much `ours` is better, for each seed that both have."""
    a, b = (by_seed(group.finished_of(series.experiment), metric) for series in (ours, other))
    return [METRICS[metric].advantage(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]


def _difference(found: Sequence[float], metric: Metric, adjusted: float | None) -> tuple[str, ...]:
    if not found:
        return ("-",)
    text = interval_parts(statistics.mean(found), paired_interval(found), metric.digits, "+")
    return (*text, "*") if adjusted is not None and adjusted < _LEVEL else text
