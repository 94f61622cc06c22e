"""Several runs in one number: the mean over the seeds, and the interval of paired differences."""

import dataclasses
import math
import statistics
from collections.abc import Sequence

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
        """Such as `93.45 ± 0.21`."""
        deviation = "" if self.deviation is None else f"{separator}{number_text(self.deviation, digits)}"
        return f"{number_text(self.mean, digits)}{deviation}"

    def parts(self, digits: int) -> tuple[str, ...]:
        """The same in parts, such as `93.45` and `± 0.21`."""
        return tuple(self.format(digits, "\n± ").split("\n"))


def number_text(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits after the point, as long as it is of a size that digits tell anything of.

    Examples:
      >>> number_text(93.456, 2), number_text(1267436572293981.25, 2), number_text(0.5, 2, "+")
      ('93.46', '1.27e+15', '+0.50')
    """
    return f"{value:{sign}.{digits}f}" if abs(value) < 1e6 else f"{value:{sign}.3g}"


def summarize(numbers: Sequence[float]) -> Value | None:
    """One number a run in one value; None without any."""
    if not numbers:
        return None
    return Value(statistics.mean(numbers), statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def final(records: Sequence[Record], metric: str) -> Value | None:
    """A metric as tables show it, at the last epoch over the runs that did not diverge and have it; None if none is."""
    return summarize([METRICS[metric].shown(value) for each in records if (value := last(each, metric)) is not None])


def paired_interval(differences: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of the mean of differences, by Student's t; None for less than two."""
    # The quantile of Student's t, as scipy.stats has it, which takes 1.5 s to import.
    from scipy.special import stdtrit

    if len(differences) < 2:
        return None
    mean, n = statistics.mean(differences), len(differences)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(differences) / math.sqrt(n)
    return mean - half, mean + half
