"""What the paper claims, held against recorded runs and against its own printed tables."""

import dataclasses
import enum
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS, PaperRow, PaperTable
from padam_optax.report.tables import Suite

# Fewer runs give no verdict.
LEAST_RUNS = 3
# How much less accurate than SGD with momentum still counts as generalising as well, in points.
MARGIN = 0.25
ADAPTIVE = ("adam", "amsgrad", "adamw", "yogi", "adabound")
# The share of the epochs that is the start of a training.
START = 0.1


class Verdict(enum.StrEnum):
    """Whether runs show a claim."""

    SHOWN = "shown"
    NOT_SHOWN = "not shown"
    CANNOT_TELL = "cannot tell"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim held against the runs of one suite.

    Attributes:
      claim: The claim in words.
      suite: The suite, with the data's name.
      n: Pairs of runs with the same seed.
      mean: Mean of the paired differences, so signed that more is better for Padam; None without a pair.
      interval: Its 95% interval by Student's t; None for fewer than two pairs.
      threshold: What the difference must exceed.
      verdict: Shown if the whole interval does, not shown if none of it does, and there are enough pairs.
    """

    claim: str
    suite: str
    n: int
    mean: float | None
    interval: tuple[float, float] | None
    threshold: float
    verdict: Verdict


def judge(claim: str, suite: str, differences: Sequence[float], threshold: float) -> Finding:
    """The finding that paired differences make."""
    n = len(differences)
    mean = statistics.mean(differences) if differences else None
    interval = None
    if mean is not None and n > 1:
        from scipy import stats

        half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)
        interval = (mean - half, mean + half)
    verdict = Verdict.CANNOT_TELL
    if interval is not None and n >= LEAST_RUNS:
        if interval[0] > threshold:
            verdict = Verdict.SHOWN
        elif interval[1] <= threshold:
            verdict = Verdict.NOT_SHOWN
    return Finding(claim, suite, n, mean, interval, threshold, verdict)


def check(suites: Iterable[Suite], p_runs: Iterable["PRuns"] = ()) -> list[Finding]:
    """Every claim on every suite that has a run of Padam, and the one on p on every set of runs over p."""
    findings: list[Finding] = []
    for suite in suites:
        if "padam" not in suite.records:
            continue
        name = f"{suite.name} on {suite.label}"
        quality = "perplexity" if _is_language(suite) else "accuracy"
        if quality == "perplexity":
            claim, threshold = "Perplexity at most that of SGD with momentum", 0.0
        else:
            claim, threshold = f"Accuracy within {MARGIN} points of SGD with momentum", -MARGIN
        findings.append(judge(claim, name, _paired(suite, "sgdm", _quality), threshold))
        for method in ADAPTIVE:
            claim = f"Better {quality} than {OPTIMIZERS[method]}"
            findings.append(judge(claim, name, _paired(suite, method, _quality), 0.0))
        claim = f"Lower train loss than SGD with momentum over the first {START:.0%} of the epochs"
        findings.append(judge(claim, name, _paired(suite, "sgdm", _start), 0.0))
    for runs in p_runs:
        findings.extend(_middle_p(runs))
    return findings


@dataclasses.dataclass(frozen=True)
class PRuns:
    """Finished runs of Padam that differ in p and seed only.

    Attributes:
      name: Of the recipe, with the data's name.
      records: By p.
    """

    name: str
    records: Mapping[float, Sequence[Record]]


def runs_over_p(records: Iterable[Record]) -> list[PRuns]:
    """Finished runs of Padam, grouped by what they share but for p and the seed."""
    groups: dict[str, dict[float, list[Record]]] = {}
    for record in records:
        spec = record.config["experiment"]
        if spec["optimizer"] != "padam" or not record.finished or spec.get("held_out") is not None:
            continue
        suite = spec["name"].partition("-padam")[0]
        key = f"{suite} on {record.config['data']['label']}, {spec['epochs']} epochs"
        groups.setdefault(key, {}).setdefault(spec["hyperparameters"]["p"], []).append(record)
    return [PRuns(name, by_p) for name, by_p in sorted(groups.items())]


def _middle_p(runs: PRuns) -> list[Finding]:
    ps = sorted(runs.records)
    claim = "A middle p is better than the smallest and the largest"
    if len(ps) < 3:
        return []
    by_seed = {p: _by_seed(runs.records[p], _quality) for p in ps}
    middle = [p for p in ps[1:-1] if by_seed[p]]
    if not middle:
        return [judge(claim, runs.name, [], 0.0)]
    best = max(middle, key=lambda p: statistics.mean(by_seed[p].values()))
    return [
        judge(f"{claim}: p = {best:g} against {edge:g}", runs.name, _differences(by_seed[best], by_seed[edge]), 0.0)
        for edge in (ps[0], ps[-1])
    ]


def _is_language(suite: Suite) -> bool:
    return any("test_perplexity" in record.metrics[-1] for records in suite.records.values() for record in records)


def _quality(record: Record) -> float:
    """Test accuracy in percent, or minus the test perplexity, at the last epoch."""
    last = record.metrics[-1]
    return -last["test_perplexity"] if "test_perplexity" in last else 100 - 100 * last["test_error"]


def _start(record: Record) -> float:
    """Minus the mean train loss over the start."""
    count = max(1, round(START * len(record.metrics)))
    return -statistics.mean(line["train_loss"] for line in record.metrics[:count])


def _by_seed(records: Sequence[Record], measure: Callable[[Record], float]) -> dict[int, float]:
    return {record.config["seed"]: measure(record) for record in records if not record.diverged}


def _paired(suite: Suite, method: str, measure: Callable[[Record], float]) -> list[float]:
    """Padam's measure minus the method's for each seed that both finished."""
    return _differences(_by_seed(suite.records["padam"], measure), _by_seed(suite.records.get(method, ()), measure))


def _differences(one: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    return [one[seed] - other[seed] for seed in sorted(set(one) & set(other))]


@dataclasses.dataclass(frozen=True)
class Printed:
    """A claim held against the numbers that the paper prints.

    Attributes:
      claim: The claim in words.
      row: Table and row.
      difference: So signed that more is better for Padam.
      holds: Whether the printed numbers bear it out.
    """

    claim: str
    row: str
    difference: float
    holds: bool


def check_printed(tables: Mapping[int, PaperTable]) -> list[Printed]:
    """The claims on final results, on every row of the paper's tables."""
    found: list[Printed] = []
    for number, table in tables.items():
        for row in table.rows:
            sign, margin = (-1, 0.0) if row.metric == "test_perplexity" else (1, MARGIN)
            place = f"Table {number}, {row.title}"

            def difference(method: str, sign: int = sign, row: PaperRow = row) -> float:
                return round(sign * (row.value("padam") - row.value(method)), 2)

            against = difference("sgdm")
            claim = "As good as SGD with momentum" + (f" within {margin} points" if margin else "")
            found.append(Printed(claim, place, against, against >= -margin))
            worst = min(ADAPTIVE, key=difference)
            claim = "Better than every other adaptive method"
            found.append(
                Printed(f"{claim} ({OPTIMIZERS[worst]} the closest)", place, difference(worst), difference(worst) > 0)
            )
    return found


@dataclasses.dataclass(frozen=True)
class Statement:
    """A sentence of the paper about its own numbers, and what the numbers say."""

    place: str
    says: str
    found: str
    holds: bool


def statements(tables: Mapping[int, PaperTable]) -> list[Statement]:
    """Sentences of section 5.1 and appendix D against the printed tables they speak of."""

    def gap(number: int, suite: str, metric: str = "test_error") -> tuple[float, float, float]:
        (row,) = [row for row in tables[number].rows if (row.suite, row.metric) == (suite, metric)]
        best = max(row.values)
        return row.value("padam"), best, round(best - row.value("padam"), 2)

    padam, best, distance = gap(1, "cifar10-resnet18")
    lines = [
        Statement(
            "Section 5.1",
            "on a par with SGD with momentum for ResNet on CIFAR-10 (differences less than 0.2)",
            f"Table 1: {padam:.2f} against {best:.2f}, a gap of {distance:.2f}",
            distance < 0.2,
        )
    ]
    padam, best, distance = gap(4, "cifar100-wrn16-4")
    lines.append(
        Statement(
            "Appendix D",
            "on a par with SGD with momentum for WideResNet on CIFAR-100 (differences less than 0.1)",
            f"Table 4: {padam:.2f} against {best:.2f}, a gap of {distance:.2f}",
            distance < 0.1,
        )
    )
    padam, best, distance = gap(2, "imagenet-resnet18")
    lines.append(
        Statement(
            "Section 5.1",
            "the best Top-1 accuracy for ResNet on ImageNet",
            f"Table 2: {padam:.2f} against {best:.2f}",
            distance == 0,
        )
    )
    return lines


# Said in words only, so that no table can bear it out or not.
UNTABLED = (
    "Section 1 says that Padam converges fastest; section 5.1 says that Adam, AMSGrad and AdamW converge faster in the"
    " early stages on LSTMs.",
)
