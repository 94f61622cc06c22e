"""Finds where the paper's text disagrees with the numbers of its tables."""

import dataclasses

from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.report.metrics import METRICS
from padam_optax.report.naming import method_title
from padam_optax.report.results import Paper
from padam_optax.report.series import PADAM


@dataclasses.dataclass(frozen=True)
class _Statement:
    """A statement of the paper's text: Padam is best in a row, or differs from SGD with momentum by less than `gap`."""

    source: str
    table: int
    suite: str
    metric: str = "test_error"
    gap: float | None = None


_STATEMENTS = (
    _Statement("Section 5.1", 1, "cifar10-vgg16"),
    _Statement("Section 5.1", 1, "cifar10-wrn16-4"),
    _Statement("Section 5.1", 1, "cifar10-resnet18", gap=0.2),
    _Statement("Section 5.1", 2, "imagenet-vgg16"),
    _Statement("Section 5.1", 2, "imagenet-vgg16", "test_error_top5"),
    _Statement("Section 5.1", 2, "imagenet-resnet18"),
    _Statement("Section 5.1", 3, "ptb-lstm2", "test_perplexity"),
    _Statement("Section 5.1", 3, "ptb-lstm3", "test_perplexity"),
    _Statement("Appendix D", 4, "cifar100-vgg16"),
    _Statement("Appendix D", 4, "cifar100-resnet18"),
    _Statement("Appendix D", 4, "cifar100-wrn16-4", gap=0.1),
)

# Where the text contradicts itself; no table shows it.
_IN_WORDS = (
    "Section 1 says that Padam achieves the fastest convergence speed; section 5.1 says that on the LSTMs Adam, AMSGrad"
    " and AdamW have faster convergence in the early stages.",
)


def inconsistencies(paper: Paper) -> list[str]:
    """Where the paper's text contradicts its tables, found from their numbers, or itself."""
    found = (_contradiction(statement, paper) for statement in _STATEMENTS)
    return [*filter(None, found), *_IN_WORDS]


def _contradiction(statement: _Statement, paper: Paper) -> str | None:
    rows = paper.tables[statement.table].rows if statement.table in paper.tables else ()
    for row in rows:
        if (row.suite, row.metric) != (statement.suite, statement.metric):
            continue
        ours, where = row.value(PADAM), f"Table {statement.table} ({row.title})"
        if statement.gap is not None:
            other = row.value("sgdm")
            if round(abs(ours - other), 9) >= statement.gap:
                return (
                    f"{statement.source} says that Padam and SGD with momentum differ by less than {statement.gap:g};"
                    f" {where} prints {ours:.2f} and {other:.2f}, which differ by {abs(ours - other):.2f}."
                )
            continue
        best = (max if METRICS[row.metric].higher_is_better else min)(row.values)
        if ours != best:
            method = method_title(PAPER_METHODS[row.values.index(best)])
            return (
                f"{statement.source} says that Padam is best; {where} prints {ours:.2f} for it and {best:.2f} for"
                f" {method}."
            )
    return None
