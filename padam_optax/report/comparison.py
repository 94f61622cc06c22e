"""A suite's methods one by one: robust statistics, the settings before any choice, and differences from Padam."""

import statistics
from collections.abc import Sequence

from padam_optax.experiments.tuning import UNTUNED
from padam_optax.records.record import Record
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, Metric, diverged, last
from padam_optax.report.naming import method_color
from padam_optax.report.results import Results, RunGroup
from padam_optax.report.series import PADAM, Series
from padam_optax.report.summary import (
    bootstrap_interval,
    final,
    holm,
    interquartile_mean,
    number_text,
    paired_interval,
    paired_p,
)
from padam_optax.report.tables import Suite

# Of a p-value that is adjusted for the number of comparisons.
_LEVEL = 0.05


def comparison_grid(suite: Suite, results: Results) -> Grid | None:
    """A line a method; None for a suite whose settings no search chose, or with one method or seed.

    Mean and standard deviation, median, interquartile mean with a bootstrap interval, the same suite at the settings
    before any choice, and the difference of each of Padam's columns from each other method, paired by seed.
    """
    if suite.name not in UNTUNED:
        return None
    metric = METRICS[suite.quality]
    run = [series for series in suite.series if _values(suite.group.finished_of(series.experiment), suite.quality)]
    if len(run) < 2 or max(len(suite.group.finished_of(series.experiment)) for series in run) < 2:
        return None
    ours = [series for series in run if series.color == method_color(PADAM)]
    untuned = _untuned(suite, results)
    differences = {
        (ours_.method, other.method): _paired(suite.group, ours_, other, suite.quality)
        for ours_ in ours
        for other in run
        if other is not ours_
    }
    tested = {pair: p for pair, found in differences.items() if (p := paired_p(found)) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    lines: list[Line] = []
    for series in run:
        values = sorted(_values(suite.group.finished_of(series.experiment), suite.quality).values())
        cells = [
            _mean(suite.group.finished_of(series.experiment), suite.quality),
            (number_text(statistics.median(values), metric.digits),),
            _with_interval(interquartile_mean(values), bootstrap_interval(values, interquartile_mean), metric.digits),
            _mean(untuned.get(series.method, ()), suite.quality),
            *(
                _difference(
                    differences.get((each.method, series.method), ()),
                    metric,
                    adjusted.get((each.method, series.method)),
                )
                for each in ours
            ),
        ]
        lines.append(Line((series.title,), tuple(map(Cell, cells))))
    better = "higher" if metric.higher_is_better else "lower"
    return Grid(
        f"{suite.title}, {metric.title.lower()}, {better} is better. IQM: mean of the middle half of the seeds, with"
        " its 95% bootstrap interval. Untuned: the same at the settings before any choice. Ahead by: how much better"
        " the column's Padam is than the line's method, paired by seed, with its 95% interval (Student's t), one"
        f" comparison at a time; * is told from 0 at {_LEVEL:g} by Holm's correction for all {len(tested)} of them."
        f"{suite.group.left_out({series.experiment: series.title for series in suite.series if series.experiment})}",
        ("",),
        ("Mean", "Median", "IQM", "Untuned", *(f"{each.title} ahead by" for each in ours)),
        tuple(lines),
    )


def _untuned(suite: Suite, results: Results) -> dict[str, Sequence[Record]]:
    """The finished runs before any choice, by method, under the suite's conditions."""
    specs = results.suites.get(UNTUNED[suite.name], ())
    for group in results.groups(spec.name for spec in specs):
        if group.conditions == suite.group.conditions:
            return {spec.optimizer: group.finished_of(spec.name) for spec in specs}
    return {}


def _values(records: Sequence[Record], metric: str) -> dict[int, float]:
    """The metric as shown, of the runs that did not diverge, by seed."""
    found = {record.seed: last(record, metric) for record in records}
    return {seed: METRICS[metric].shown(value) for seed, value in found.items() if value is not None}


def _mean(records: Sequence[Record], metric: str) -> tuple[str, ...]:
    value = final(records, metric)
    if value is None:
        return ("diverged" if any(map(diverged, records)) else "not run",)
    missing = len(records) - value.n
    text = value.parts(METRICS[metric].digits)
    return (*text, f"({missing} of {len(records)}", "diverged)") if missing else text


def _paired(group: RunGroup, ours: Series, other: Series, metric: str) -> list[float]:
    """By how much `ours` is better, of the seeds that both have."""
    a, b = (_values(group.finished_of(series.experiment), metric) for series in (ours, other))
    return [METRICS[metric].advantage(a[seed], b[seed]) for seed in sorted(a.keys() & b.keys())]


def _with_interval(value: float, interval: tuple[float, float] | None, digits: int, sign: str = "") -> tuple[str, ...]:
    text = number_text(value, digits, sign)
    if interval is None:
        return (text,)
    low, high = (number_text(end, digits, sign) for end in interval)
    return text, f"({low} to", f"{high})"


def _difference(found: Sequence[float], metric: Metric, adjusted: float | None) -> tuple[str, ...]:
    if not found:
        return ("-",)
    text = _with_interval(statistics.mean(found), paired_interval(found), metric.digits, "+")
    return (*text, "*") if adjusted is not None and adjusted < _LEVEL else text
