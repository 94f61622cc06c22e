"""How the metrics of the records are shown: scale, name, and which way is better."""

import dataclasses
import math
from collections.abc import Iterable, Mapping

from padam_optax.experiments.spec import LanguageModelling
from padam_optax.records.record import Record


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric as tables show it, `offset + scale * recorded`.

    Attributes:
      title: As tables name it.
      curve: As the axes of figures name it; an error is drawn as an error, in the same unit.
      kind: What tells it from the others that the same claim is about; usually nothing.
      scale: See above; negative where the records hold an error and the paper prints an accuracy.
      offset: See above.
      digits: After the decimal point.
    """

    title: str
    curve: str
    kind: str = ""
    scale: float = 1.0
    offset: float = 0.0
    digits: int = 2

    @property
    def higher_is_better(self) -> bool:
        """As shown; what is recorded is better when it is lower, whatever it is."""
        return self.scale < 0

    def shown(self, recorded: float) -> float:
        """The recorded value as tables show it."""
        return self.offset + self.scale * recorded

    def advantage(self, ours: float, theirs: float) -> float:
        """By how much `ours` is better than `theirs`, both as shown; negative if it is worse."""
        # Rounded as no printed or recorded digit is, so that 76.42 - 76.66 is -.24 and a threshold can be met.
        return round(ours - theirs if self.higher_is_better else theirs - ours, 9)


METRICS: Mapping[str, Metric] = {
    "test_error": Metric("Test accuracy (%)", "Test error (%)", "", -100.0, 100.0),
    "test_error_top5": Metric("Top-5 test accuracy (%)", "Top-5 test error (%)", "Top-5", -100.0, 100.0),
    "test_perplexity": Metric("Test perplexity", "Test perplexity"),
    "valid_perplexity": Metric("Validation perplexity", "Validation perplexity"),
    "train_loss": Metric("Train loss", "Train loss", digits=4),
}


def quality(records: Iterable[Record]) -> str:
    """The metric that tells how well runs of an experiment do in test: perplexity for language, else error."""
    language = any(isinstance(record.experiment.task, LanguageModelling) for record in records)
    return "test_perplexity" if language else "test_error"


# A language model that guesses has the number of its words as its perplexity; no vocabulary is known to be so large.
_MOST_WORDS = 1e6


def diverged(record: Record) -> bool:
    """Whether a run stopped at a loss that was not finite, or ended with a perplexity that is worse than a guess's."""
    if record.diverged or not record.finished:
        return record.diverged
    task = record.experiment.task
    if not isinstance(task, LanguageModelling):
        return False
    perplexity = record.metrics[-1].get("test_perplexity", 0.0)
    return not perplexity <= (task.vocabulary or _MOST_WORDS)


def last(record: Record, metric: str) -> float | None:
    """The recorded value at the last epoch; None if the run diverged or has no finite value of the metric there.

    What was measured for the end of the run only takes the place of what was measured after each epoch.
    """
    if not record.metrics or diverged(record):
        return None
    line = record.metrics[-1]
    value = line.get(f"final_{metric}", line.get(metric))
    return value if value is not None and math.isfinite(value) else None
