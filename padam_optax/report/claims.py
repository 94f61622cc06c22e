"""Tests the paper's claims about Padam on its own tables and on recorded runs.

On the tables, with one number a cell, a claim holds or does not. On records, the 95% interval of the mean difference
between runs that share a seed decides: the claim is shown, not shown, or the runs cannot tell. Fewer than three such
pairs give no verdict; the result of a single pair is reported as "one seed".
"""

import dataclasses
import enum
import itertools
import math
import statistics
from collections.abc import Iterable, Iterator

from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import Record
from padam_optax.report.conditions import Conditions, in_bfloat16, line_names
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, diverged, last, quality
from padam_optax.report.naming import method_title, p_text
from padam_optax.report.results import Paper, Results, RunGroup
from padam_optax.report.series import PADAM, chosen_p
from padam_optax.report.summary import number_text, paired_interval

# The smallest number of pairs of runs for a verdict.
MINIMUM = 3
_ADAPTIVE = ("adam", "amsgrad", "adamw", "yogi", "adabound")


class Verdict(enum.Enum):
    """The verdict of recorded runs on a claim."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    CANNOT_TELL = "cannot tell"
    ONE_SEED = "one seed"
    ONE_SEED_AGAINST = "one seed against"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement of the paper that numbers can decide.

    Attributes:
      statement: The claim in this package's words.
      source: Where the paper makes the claim.
      metrics: The metrics of the rows that it is about, or `train_loss`.
      rivals: The methods that Padam is compared with; if empty, Padam with each other p.
      threshold: Padam's advantage must exceed it, in the metric's unit.
      reached: Whether an advantage of exactly the threshold is enough.
      start: Whether the metric is averaged over the first tenth of the epochs instead of taken at the last epoch.
    """

    statement: str
    source: str
    metrics: tuple[str, ...]
    rivals: tuple[str, ...]
    threshold: float = 0.0
    reached: bool = False
    start: bool = False

    def holds(self, advantage: float) -> bool:
        """Whether an advantage fulfils the claim."""
        return advantage >= self.threshold if self.reached else advantage > self.threshold

    @property
    def condition(self) -> str:
        """The threshold in words, such as `≥ -0.25`."""
        return f"{'≥' if self.reached else '>'} {self.threshold:g}"


_ACCURACIES = ("test_error", "test_error_top5")
CLAIMS = {
    "accuracy": Claim(
        "Padam's test accuracy is within .25 points of SGD with momentum's, or above it.",
        "Section 5.1 and appendix D",
        _ACCURACIES,
        ("sgdm",),
        threshold=-0.25,
        reached=True,
    ),
    "perplexity": Claim(
        "Padam's test perplexity is at most SGD with momentum's.",
        "Section 5.1",
        ("test_perplexity",),
        ("sgdm",),
        reached=True,
    ),
    "adaptive": Claim(
        "Padam is better in test than each of Adam, AMSGrad, AdamW, Yogi and AdaBound.",
        "Sections 1 and 5.1",
        (*_ACCURACIES, "test_perplexity"),
        _ADAPTIVE,
    ),
    "start": Claim(
        "Padam starts faster than SGD with momentum: its mean train loss over the first tenth of the epochs is lower.",
        "Section 5.1, Figures 2 and 4",
        ("train_loss",),
        ("sgdm",),
        start=True,
    ),
    "middle": Claim(
        "The p of the tables, one in the middle of those tried, gives a better test accuracy than each other p.",
        "Section 3, Figure 1",
        ("test_error",),
        (),
    ),
}


@dataclasses.dataclass(frozen=True)
class Printed:
    """A claim on one row of the paper's tables.

    Attributes:
      claim: A key of `CLAIMS`.
      row: Table and row, such as `Table 1, VGGNet`.
      metric: A key of `METRICS`.
      rival: The method against which Padam's advantage is smallest.
      advantage: Padam's advantage over that method, in the metric's unit.
      holds: Whether the row fulfils the claim, that is, its smallest advantage does.
    """

    claim: str
    row: str
    metric: str
    rival: str
    advantage: float
    holds: bool


def on_tables(paper: Paper) -> list[Printed]:
    """Each claim on each printed row of the paper's tables that it is about."""
    found: list[Printed] = []
    for (key, claim), (number, table) in itertools.product(CLAIMS.items(), paper.tables.items()):
        for row in table.rows:
            if row.metric in claim.metrics and claim.rivals and not claim.start:
                metric = METRICS[row.metric]
                advantages = {name: metric.advantage(row.value(PADAM), row.value(name)) for name in claim.rivals}
                least = min(advantages, key=advantages.__getitem__)
                where, advantage = f"Table {number}, {row.title}", advantages[least]
                found.append(Printed(key, where, row.metric, method_title(least), advantage, claim.holds(advantage)))
    return found


@dataclasses.dataclass(frozen=True)
class Evidence:
    """A claim on the recorded runs of two methods.

    Attributes:
      claim: A key of `CLAIMS`.
      experiment: What was run, such as `cifar10-vgg16`.
      conditions: The data, and what differs from the experiment; bfloat16 only if other runs differ in that alone.
      bfloat16: Whether activations were in bfloat16 though the experiment has another dtype.
      of_paper: Whether it is the paper's experiment, on its data, at its length and settings.
      metric: A key of `METRICS`.
      rival: The method, or the p, that Padam is compared with.
      n: Number of seeds that both finished with a finite loss.
      difference: Padam's mean advantage over these seeds, in the metric's unit; None without any.
      interval: Its 95% interval by Student's t; None below two seeds.
      runs: Numbers of finished runs of Padam and of the rival.
      diverged: How many of these runs diverged.
      verdict: The verdict on the claim.
    """

    claim: str
    experiment: str
    conditions: str
    bfloat16: bool
    of_paper: bool
    metric: str
    rival: str
    n: int
    difference: float | None
    interval: tuple[float, float] | None
    runs: tuple[int, int]
    diverged: tuple[int, int]
    verdict: Verdict


def verdict(
    claim: Claim,
    n: int,
    interval: tuple[float, float] | None,
    diverged: tuple[int, int] = (0, 0),
    difference: float | None = None,
) -> Verdict:
    """The verdict: whether the whole interval or no part of it fulfils the claim; for one pair, whether it does.

    Two pairs give no verdict. No verdict favours a side with a diverged run: the interval leaves that run out.
    """
    if n == 1 and difference is not None:
        fulfilled = claim.holds(difference)
        if diverged[0 if fulfilled else 1]:
            return Verdict.CANNOT_TELL
        return Verdict.ONE_SEED if fulfilled else Verdict.ONE_SEED_AGAINST
    if interval is None or n < MINIMUM:
        return Verdict.CANNOT_TELL
    low, high = interval
    if claim.holds(low):
        return Verdict.CANNOT_TELL if diverged[0] else Verdict.SHOWN
    if not claim.holds(high):
        return Verdict.CANNOT_TELL if diverged[1] else Verdict.NOT_SHOWN
    return Verdict.CANNOT_TELL


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a claim that must hold in each of several comparisons; cannot tell if there are none."""
    found = set(verdicts)
    for against in (Verdict.NOT_SHOWN, Verdict.ONE_SEED_AGAINST):
        if against in found:
            return against
    if not found or Verdict.CANNOT_TELL in found:
        return Verdict.CANNOT_TELL
    return Verdict.SHOWN if found == {Verdict.SHOWN} else Verdict.ONE_SEED


def on_records(results: Results) -> list[Evidence]:
    """Each claim on each experiment, rival and kind of data: the paper's, run or not, and others that were run."""
    found: list[Evidence] = []
    for key, claim in CLAIMS.items():
        compared = _between_methods(key, results) if claim.rivals else _between_p(key, results)
        found += [_compare(comparison, group) for comparison, group in compared]
    return found


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """A comparison of two experiments, `ours` and `rival`, by name; None if there is no such experiment."""

    claim: str
    experiment: str
    metric: str
    ours: str | None
    rival: str | None
    rival_title: str
    conditions: str
    of_paper: bool


def _between_methods(key: str, results: Results) -> Iterator[tuple[_Comparison, RunGroup]]:
    for suite, metric in _subjects(CLAIMS[key], results):
        theirs, cells = suite in results.paper.suites, results.cells(suite)
        names = {method: spec.name for method, spec in cells.items()}
        groups = _groups(cells.values(), results, always=theirs)
        called = line_names(group.conditions for group in groups)
        for group in groups:
            where = called[group.conditions]
            of_paper = theirs and group.conditions.faithful
            for rival in CLAIMS[key].rivals:
                ours, other = names.get(PADAM), names.get(rival)
                yield _Comparison(key, suite, metric, ours, other, method_title(rival), where, of_paper), group


def _between_p(key: str, results: Results) -> Iterator[tuple[_Comparison, RunGroup]]:
    for sweep in results.paper.sweeps:
        chosen = chosen_p(sweep)
        ours = sweep[chosen]
        groups = _groups(sweep.values(), results, always=True)
        called = line_names(group.conditions for group in groups)
        for group in groups:
            where = called[group.conditions]
            for metric, (p, rival) in itertools.product(CLAIMS[key].metrics, sweep.items()):
                if p != chosen:
                    of_paper = group.conditions.faithful
                    yield _Comparison(key, ours.suite, metric, ours.name, rival.name, p_text(p), where, of_paper), group


def _subjects(claim: Claim, results: Results) -> list[tuple[str, str]]:
    """The suites and metrics of a claim about methods: the paper's, then other suites with their test metric."""
    paper = results.paper
    if claim.start:
        return list(itertools.product((*paper.suites, *results.own_suites), claim.metrics))
    rows = ((row.suite, row.metric) for table in paper.tables.values() for row in table.rows)
    ours = [(suite, quality(_records(suite, results))) for suite in results.own_suites]
    return [(suite, metric) for suite, metric in (*rows, *ours) if metric in claim.metrics]


def _records(suite: str, results: Results) -> Iterator[Record]:
    for group in _groups(results.cells(suite).values(), results):
        yield from group.records


def _groups(experiments: Iterable[Experiment], results: Results, *, always: bool = False) -> list[RunGroup]:
    """The runs by conditions; with `always`, the experiments' own conditions come first even without a run."""
    specs = tuple(experiments)
    found = results.groups(spec.name for spec in specs)
    if always and not any(group.conditions.faithful for group in found):
        label = next((spec.dataset for spec in specs), "")
        return [RunGroup(Conditions(label, own=True, full=True), {}, {}), *found]
    return found


def _compare(comparison: _Comparison, group: RunGroup) -> Evidence:
    claim, metric = CLAIMS[comparison.claim], METRICS[comparison.metric]
    sides = [group.finished_of(name) for name in (comparison.ours, comparison.rival)]
    read = _start if claim.start else last
    ours, theirs = (
        {run.seed: metric.shown(value) for run in runs if (value := read(run, comparison.metric)) is not None}
        for runs in sides
    )
    differences = [metric.advantage(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    interval = paired_interval(differences)
    counts = (group.diverged(comparison.ours), group.diverged(comparison.rival))
    difference = statistics.mean(differences) if differences else None
    return Evidence(
        claim=comparison.claim,
        experiment=comparison.experiment,
        conditions=comparison.conditions,
        bfloat16=group.conditions.bfloat16,
        of_paper=comparison.of_paper,
        metric=comparison.metric,
        rival=comparison.rival_title,
        n=len(differences),
        difference=difference,
        interval=interval,
        runs=(len(sides[0]), len(sides[1])),
        diverged=counts,
        verdict=verdict(claim, len(differences), interval, counts, difference),
    )


def _start(record: Record, metric: str) -> float | None:
    """The mean of the recorded values over the first tenth of the epochs, but at least the first epoch."""
    epochs = max(1, record.experiment.epochs // 10)
    values = [line[metric] for line in record.metrics if metric in line and line["epoch"] <= epochs]
    known = len(values) == epochs and all(map(math.isfinite, values))
    return statistics.mean(values) if known and not diverged(record) else None


@dataclasses.dataclass(frozen=True)
class Finding:
    """The results on one claim."""

    claim: Claim
    printed: tuple[Printed, ...]
    evidence: tuple[Evidence, ...]

    @property
    def verdict(self) -> Verdict:
        """The joint verdict of the runs of the paper's own experiments."""
        return together(evidence.verdict for evidence in self.evidence if evidence.of_paper)

    @property
    def on_tables(self) -> str:
        """The result on the paper's tables, in words."""
        if not self.printed:
            return "Cannot tell: the paper prints no number for it, only curves."
        count = sum(printed.holds for printed in self.printed)
        held = "Holds" if count == len(self.printed) else "Does not hold"
        return f"{held}: it is true of {count} of {len(self.printed)} rows."

    @property
    def on_runs(self) -> str:
        """The result on recorded runs of the paper's experiments, in words."""
        theirs = [evidence for evidence in self.evidence if evidence.of_paper]
        enough = sum(evidence.n >= MINIMUM for evidence in theirs)
        single = sum(evidence.n == 1 for evidence in theirs)
        more = f", {single} have one" if single else ""
        return (
            f"On the paper's experiments: {self.verdict.value}"
            f" ({enough} of {len(theirs)} comparisons have {MINIMUM} pairs of runs or more{more})."
        )

    def tables_grid(self) -> Grid | None:
        """The claim on the paper's tables, one line for each of their rows; None if they print nothing for it."""
        if not self.printed:
            return None
        lines: list[Line] = []
        for printed in self.printed:
            advantage = f"{printed.advantage:+.{METRICS[printed.metric].digits}f}"
            verdict = "holds" if printed.holds else "does not hold"
            texts = (printed.rival, advantage, self.claim.condition, verdict)
            lines.append(Line((printed.row,), tuple(Cell((text,)) for text in texts)))
        return Grid("", ("Row",), ("Against", "Padam's advantage", "Threshold", "Verdict"), tuple(lines))

    def runs_grid(self) -> Grid | None:
        """The recorded runs, one line a comparison, and one more for several together; None without runs."""
        groups: dict[str, list[Evidence]] = {}
        for evidence in self.evidence:
            kind = METRICS[evidence.metric].kind
            where = f"{evidence.experiment} on {evidence.conditions}" + (f", {kind}" if kind else "")
            groups.setdefault(where, []).append(evidence)
        lines: list[Line] = []
        notes: list[str] = []
        bfloat16: list[str] = []
        for where, members in groups.items():
            if not any(all(evidence.runs) for evidence in members):
                continue
            for evidence in members:
                lines.append(Line((where, evidence.rival), _cells(evidence, self.claim)))
                if all(evidence.runs) and (remark := _remark(evidence)):
                    notes.append(f"{where}, {evidence.rival}: {remark}.")
            if members[0].bfloat16:
                bfloat16.append(where)
            if len(members) > 1:
                verdict = together(evidence.verdict for evidence in members)
                lines.append(Line((where, "all"), (*(Cell(("",)),) * 4, Cell((verdict.value,), best=True))))
        if not lines:
            return None
        columns = ("n", "Padam's advantage", "95% interval", "Threshold", "Verdict")
        return Grid(in_bfloat16(bfloat16), ("Runs", "Against"), columns, tuple(lines), tuple(notes))


def findings(results: Results) -> list[Finding]:
    """Each claim, on the paper's tables and on the recorded runs."""
    printed, evidence = on_tables(results.paper), on_records(results)
    return [
        Finding(
            claim,
            tuple(each for each in printed if each.claim == key),
            tuple(each for each in evidence if each.claim == key),
        )
        for key, claim in CLAIMS.items()
    ]


def _cells(evidence: Evidence, claim: Claim) -> tuple[Cell, ...]:
    digits = METRICS[evidence.metric].digits
    difference = "-" if evidence.difference is None else number_text(evidence.difference, digits, "+")
    interval = (
        "-" if evidence.interval is None else " to ".join(number_text(end, digits, "+") for end in evidence.interval)
    )
    texts = (str(evidence.n), difference, interval, claim.condition, evidence.verdict.value)
    return tuple(Cell((text,)) for text in texts)


def _remark(evidence: Evidence) -> str:
    """The runs that are in no pair, in words."""
    ours, theirs = evidence.diverged
    unpaired = sum(evidence.runs) - ours - theirs - 2 * evidence.n
    diverged = f"diverged: {ours} of Padam's runs, {theirs} of the other's" if ours or theirs else ""
    return "; ".join(filter(None, (diverged, f"runs without a partner: {unpaired}" if unpaired else "")))
