"""The expected best score of each method after k trials, from its recorded trials."""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Sequence

from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.record import Record
from padam_optax.report.escaping import plain_label
from padam_optax.report.figures import WIDTHS, new_figure, plain_ticks, save, whole_ticks
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, last
from padam_optax.report.naming import data_title, method_color, method_style, method_title, picture_title
from padam_optax.report.results import Results
from padam_optax.report.series import PADAMS
from padam_optax.report.sweeps import Sweep, SweepPoint, setting_text

# The numbers of trials k that the tables show.
_COUNTS = (1, 2, 4, 8, 12)


@dataclasses.dataclass(frozen=True)
class Search:
    """The trials of a suite's methods on the same data, for the same number of epochs.

    Attributes:
      suite: The suite that the settings are chosen for.
      label: Label of the data.
      sweeps: The trials by method.
    """

    suite: str
    label: str
    sweeps: dict[str, Sweep]

    @property
    def metric(self) -> str:
        """The metric that compares the trials; lower is better."""
        return next(iter(self.sweeps.values())).metric

    @property
    def title(self) -> str:
        """Suite, data and length, such as `cifar10-mini on cifar10, trials of 10 epochs`."""
        (epochs,) = {_first(sweep).experiment.epochs for sweep in self.sweeps.values()}
        return f"{self.suite} on {data_title(self.label)}, trials of {epochs} epochs"

    @property
    def heading(self) -> str:
        """The title in words, for a picture."""
        spec = _first(next(iter(self.sweeps.values()))).experiment
        return f"{picture_title(self.label, [spec.model])}, trials of {spec.epochs} epochs"

    @property
    def best(self) -> dict[str, SweepPoint | None]:
        """The trial that each method chooses."""
        return {method: best_trial(sweep) for method, sweep in self.sweeps.items()}

    def expected(self) -> dict[str, list[float]]:
        """The expected best score after 1, 2, ... trials, by method; errors in percent, perplexities unscaled."""
        scores = {method: _scores(sweep) for method, sweep in self.sweeps.items()}
        if METRICS[self.metric].higher_is_better:
            return {method: expected_best([100 * score for score in of]) for method, of in scores.items()}
        # Losses are averaged: the perplexity of one failed run would outweigh all others.
        return {
            method: [math.exp(loss) for loss in expected_best([math.log(score) for score in of])]
            for method, of in scores.items()
        }


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected lowest of k scores drawn independently, for k = 1 to the number of scores.

    The draws are from the scores themselves: the i-th lowest of n is the best of k draws with the probability
    ((n-i+1)/n)^k - ((n-i)/n)^k.

    References:
      Dodge et al. 2019, Show Your Work: Improved Reporting of Experimental Results, section 3.2.

    Examples:
      >>> expected_best([3.0, 1.0])
      [2.0, 1.5]
    """
    ranked, n = sorted(scores), len(scores)
    return [
        sum(score * (((n - place) / n) ** k - ((n - place - 1) / n) ** k) for place, score in enumerate(ranked))
        for k in range(1, n + 1)
    ]


def best_trial(sweep: Sweep) -> SweepPoint | None:
    """The setting with the best mean; among equal means, the one with the lower loss; None if none can be chosen.

    A setting cannot be chosen if one of its runs is unfinished, diverged or collapsed, however good its mean is.
    """
    able = [point for point in sweep.points if not any(failed(run, sweep.metric) for run in point.runs)]
    loss = "valid_loss" if sweep.metric == "valid_perplexity" else "test_loss"

    def rank(point: SweepPoint) -> tuple[float, float]:
        losses = [value for run in point.runs if (value := last(run, loss)) is not None]
        return point.mean(sweep.metric), statistics.fmean(losses) if losses else math.inf

    return min(able, key=rank, default=None)


def failed(run: Record, metric: str) -> bool:
    """Whether a run is unfinished, diverged, or collapsed, that is, ended worse than after its first epoch."""
    value = last(run, metric)
    return not run.whole or value is None or value > run.metrics[0][metric]


def searches(results: Results) -> list[Search]:
    """The searches among records: trials of two or more methods of a suite, on the same data and equally long.

    Trials of an experiment that is itself a variant of another are no part of its suite's search.
    """
    found: dict[tuple[str, str, int], dict[str, list[Record]]] = {}
    for record in results.records:
        spec = record.experiment
        base = results.experiments.get(spec.variant_of or "")
        if spec.trial and (base is None or base.variant_of is None):
            methods = found.setdefault((spec.suite, record.data.label, spec.epochs), {})
            methods.setdefault(spec.optimizer, []).append(record)
    order = {method: place for place, method in enumerate(METHODS)}
    return [
        Search(
            suite,
            label,
            {
                method: Sweep.of(methods[method], methods[method][0].experiment.score_metric)
                for method in sorted(methods, key=lambda name: order.get(name, len(order)))
            },
        )
        for (suite, label, _), methods in sorted(found.items())
        if len(methods) > 1
    ]


def budget_grid(search: Search) -> Grid:
    """A table with one line a method: its chosen setting, the score of that, and the expected best after k trials."""
    most = max(len(sweep.points) for sweep in search.sweeps.values())
    counts = [count for count in _COUNTS if count <= most]
    metric = METRICS[search.metric]
    percent = 100.0 if metric.higher_is_better else 1.0
    lines: list[Line] = []
    expected, best = search.expected(), search.best
    lowest = min((values[-1] for values in expected.values()), default=math.inf)
    for method, sweep in search.sweeps.items():
        point, values = best[method], expected[method]
        chosen = (
            "none" if point is None else ", ".join(setting_text(name, value) for name, value in point.chosen.items())
        )
        score = "-" if point is None else f"{percent * point.mean(search.metric):.{metric.digits}f}"
        texts = [f"{values[k - 1]:.{metric.digits}f}" if k <= len(values) else "-" for k in counts]
        cells = [Cell((text,), k == most and values[-1] == lowest) for k, text in zip(counts, texts, strict=True)]
        failures = sum(any(failed(run, search.metric) for run in each.runs) for each in sweep.points)
        lines.append(Line((method_title(method),), (Cell((chosen,)), Cell((score,)), Cell((f"{failures}",)), *cells)))
    seeds = sorted({len(point.runs) for sweep in search.sweeps.values() for point in sweep.points})
    sizes = sorted({len(sweep.points) for sweep in search.sweeps.values()})
    what = "Validation perplexity" if search.metric == "valid_perplexity" else "Held-out error (%)"
    how = "losses averaged" if search.metric == "valid_perplexity" else "errors averaged"
    return Grid(
        f"{search.title}: {_range(sizes)} trials of {_range(seeds)} seeds a method. {what}: the chosen setting's, and"
        f" the expected best after k trials ({how}; a run that diverged counts as a guess, or as the worst recorded)."
        " Failed: settings with a run that diverged or ended worse than after its first epoch; they cannot be chosen.",
        ("Method",),
        ("Chosen", "Its score", "Failed", *(f"k = {count}" for count in counts)),
        tuple(lines),
    )


def draw_budget(search: Search, path: str | pathlib.Path) -> pathlib.Path:
    """Draws the expected best score against the number of trials, one line a method; writes a PNG."""
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for method, values in search.expected().items():
        color, style = method_color(method), method_style(method)
        width = WIDTHS[method in PADAMS]
        label = plain_label(method_title(method))
        axes.plot(range(1, len(values) + 1), values, style, color=color, linewidth=width, label=label)
    what = "validation perplexity" if search.metric == "valid_perplexity" else "held-out error (%)"
    axes.set(xlabel="Trials", ylabel=f"Expected best {what}", yscale="log")
    plain_ticks(axes)
    whole_ticks(axes)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    axes.set_title(plain_label(search.heading), fontsize="medium", wrap=True)
    return save(figure, path)


def _first(sweep: Sweep) -> Record:
    return sweep.points[0].runs[0]


def _range(numbers: Sequence[int]) -> str:
    return " to ".join(map(str, dict.fromkeys((numbers[0], numbers[-1]))))


def _scores(sweep: Sweep) -> list[float]:
    """The mean score of each trial; a run without a score counts as a guess, or as the worst recorded score."""
    task = _first(sweep).experiment.task
    lines = (line for point in sweep.points for run in point.runs for line in run.metrics)
    known = [line[sweep.metric] for line in lines if sweep.metric in line]
    worst = max(filter(math.isfinite, known), default=1.0)
    limit = float(task.vocabulary or worst) if isinstance(task, LanguageModelling) else worst

    def score(run: Record) -> float:
        value = last(run, sweep.metric)
        return limit if value is None else min(value, limit)

    return [statistics.fmean(map(score, point.runs)) for point in sweep.points]
