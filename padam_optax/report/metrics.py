"""How to show the metrics of records: scale, name, and which way is better."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.record import Record


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric as tables show it, `offset + scale * recorded`.

    Attributes:
      title: Its name in tables.
      curve: Its name on the axes of figures; an error is drawn as an error, in the same unit.
      kind: Tells it from other metrics of the same claim; usually empty.
      scale: See above; negative if the records hold an error and the paper prints an accuracy.
      offset: See above.
      digits: Digits after the decimal point.
    """

    title: str
    curve: str
    kind: str = ""
    scale: float = 1.0
    offset: float = 0.0
    digits: int = 2

    @property
    def higher_is_better(self) -> bool:
        """Whether higher is better as shown. As recorded, lower is better for every metric."""
        return self.scale < 0

    def shown(self, recorded: float) -> float:
        """The recorded value as tables show it."""
        return self.offset + self.scale * recorded

    def advantage(self, ours: float, theirs: float) -> float:
        """By how much `ours` is better than `theirs`, both as shown; negative if it is worse."""
        # Rounded beyond all printed and recorded digits: 76.42 - 76.66 becomes exactly -.24 and can meet a threshold.
        return round(ours - theirs if self.higher_is_better else theirs - ours, 9)


METRICS: Mapping[str, Metric] = {
    "test_error": Metric("Test accuracy (%)", "Test error (%)", "", -100.0, 100.0),
    "test_error_top5": Metric("Top-5 test accuracy (%)", "Top-5 test error (%)", "Top-5", -100.0, 100.0),
    "test_perplexity": Metric("Test perplexity", "Test perplexity"),
    "valid_perplexity": Metric("Validation perplexity", "Validation perplexity"),
    "train_loss": Metric("Train loss", "Train loss", digits=4),
}


def quality(records: Iterable[Record]) -> str:
    """The test metric of an experiment's runs: perplexity for language, else error."""
    language = any(isinstance(record.experiment.task, LanguageModelling) for record in records)
    return "test_perplexity" if language else "test_error"


# The perplexity of a guessing language model is its number of words. If that is unknown, this is used: no known
# vocabulary is so large.
_MOST_WORDS = 1e6


def diverged(record: Record) -> bool:
    """Whether a run stopped at a non-finite loss or gradient, or ended with a perplexity worse than a guess's."""
    if record.diverged or not record.finished:
        return record.diverged
    task = record.experiment.task
    if not isinstance(task, LanguageModelling):
        return False
    perplexity = record.metrics[-1].get("test_perplexity", 0.0)
    return not perplexity <= (task.vocabulary or _MOST_WORDS)


def last(record: Record, metric: str) -> float | None:
    """The recorded value at the last epoch; None if the run diverged or has no finite value of the metric there.

    A value measured only at the end of the run replaces the one measured after each epoch.
    """
    if not record.metrics or diverged(record):
        return None
    line = record.metrics[-1]
    value = line.get(f"final_{metric}", line.get(metric))
    return value if value is not None and math.isfinite(value) else None
