"""Summarises several runs: means over the seeds, and intervals of paired differences."""

import dataclasses
import math
import random
import statistics
from collections.abc import Callable, Sequence

from padam_optax.records.record import Record
from padam_optax.report.metrics import METRICS, last

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Value:
    """Mean and sample standard deviation (None for one run) over n runs."""

    mean: float
    deviation: float | None
    n: int

    def format(self, digits: int, separator: str = " ± ") -> str:
        """The value in words, such as `93.45 ± 0.21`."""
        deviation = "" if self.deviation is None else f"{separator}{number_text(self.deviation, digits)}"
        return f"{number_text(self.mean, digits)}{deviation}"

    def parts(self, digits: int) -> tuple[str, ...]:
        """The same in parts, such as `93.45` and `± 0.21`."""
        return tuple(self.format(digits, "\n± ").split("\n"))


def number_text(value: float, digits: int, sign: str = "") -> str:
    """A number with `digits` digits after the point, or in scientific form from a million on.

    Examples:
      >>> number_text(93.456, 2), number_text(1267436572293981.25, 2), number_text(0.5, 2, "+")
      ('93.46', '1.27e+15', '+0.50')
    """
    return f"{value:{sign}z.{digits}f}" if abs(value) < 1e6 else f"{value:{sign}.3g}"


def summarize(numbers: Sequence[float]) -> Value | None:
    """Mean and deviation of one number a run; None without any."""
    if not numbers:
        return None
    return Value(statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def final(records: Sequence[Record], metric: str) -> Value | None:
    """A metric as tables show it, at the last epoch, over runs that have it and did not diverge; None without any."""
    return summarize([METRICS[metric].shown(value) for each in records if (value := last(each, metric)) is not None])


def by_seed(records: Sequence[Record], metric: str) -> dict[int, float]:
    """A metric as tables show it, at the last epoch, by seed, of the runs that have it and did not diverge."""
    values = {record.seed: last(record, metric) for record in records}
    return {seed: METRICS[metric].shown(value) for seed, value in values.items() if value is not None}


def interval_parts(value: float, interval: tuple[float, float] | None, digits: int, sign: str = "") -> tuple[str, ...]:
    """A number and its interval in parts, such as `-2.00`, `(-4.48 to` and `+0.48)`."""
    text = number_text(value, digits, sign)
    if interval is None:
        return (text,)
    low, high = (number_text(end, digits, sign) for end in interval)
    return text, f"({low} to", f"{high})"


def paired_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of the mean of differences, by Student's t; None for fewer than two."""
    # The quantile of Student's t; scipy.stats has it too, but takes 1.5 s to import.
    from scipy.special import stdtrit

    if len(differences) < 2:
        return None
    mean, n = statistics.mean(differences), len(differences)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(differences) / math.sqrt(n)
    return mean - half, mean + half


def interquartile_mean(numbers: Sequence[float]) -> float:
    """The mean of the middle half: it leaves out a quarter of the numbers, rounded down, at each end.

    References:
      Agarwal et al. 2021, Deep Reinforcement Learning at the Edge of the Statistical Precipice, section 4.3.
    """
    cut = len(numbers) // 4
    return statistics.fmean(sorted(numbers)[cut : len(numbers) - cut])


def bootstrap_interval(
    numbers: Sequence[float], statistic: Callable[[Sequence[float]], float], resamples: int = 2_000
) -> tuple[float, float] | None:
    """The 95% percentile interval of a statistic over resamples of the numbers; None for fewer than two.

    Every call draws the same resamples, so that the same records give the same report.
    """
    if len(numbers) < 2:
        return None
    draw = random.Random(0)
    found = sorted(statistic(draw.choices(numbers, k=len(numbers))) for _ in range(resamples))
    tail = round(resamples * (1 - CONFIDENCE) / 2)
    return found[tail], found[-1 - tail]


def paired_p(differences: Sequence[float]) -> float | None:
    """The two-sided p-value of Student's paired t-test that the mean difference is 0; None for fewer than two."""
    from scipy.special import stdtr

    if len(differences) < 2:
        return None
    mean, deviation, n = statistics.mean(differences), statistics.stdev(differences), len(differences)
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(stdtr(n - 1, -abs(mean) / deviation * math.sqrt(n)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: by chance, any of them is below .05 in at most 5% of cases.

    References:
      Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.

    Examples:
      >>> holm([0.01, 0.04, 0.03])
      [0.03, 0.06, 0.06]
    """
    found, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        found[place] = least
    return found
