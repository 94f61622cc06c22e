"""The page of results: the paper's tables, figures and claims beside what recorded runs say, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

from padam_optax.experiments.records import Record
from padam_optax.report.claims import MINIMUM, Finding, findings, inconsistencies
from padam_optax.report.figures import Picture
from padam_optax.report.runs import Paper
from padam_optax.report.tables import Suite, markdown, paper_table, suites


def own_suites(paper: Paper, records: Iterable[Record]) -> list[Suite]:
    """The suites that no table or figure of the paper has, without the trials of a search for settings."""
    theirs = {*paper.suites, *(spec.suite for spec in paper.sweep)}
    return [suite for suite in suites(records) if suite.name not in theirs and "@" not in suite.name]


def suite_files(found: Sequence[Suite]) -> list[tuple[Suite, str]]:
    """Each suite and what its files are called: its name, with data and length where several have the name."""
    names = [suite.name for suite in found]
    return [
        (suite, suite.name if names.count(suite.name) == 1 else f"{suite.name}-{suite.label}-{suite.epochs}-epochs")
        for suite in found
    ]


def results_page(
    paper: Paper, records: Sequence[Record], pictures: Mapping[str, Picture], curves: Mapping[str, str] | None = None
) -> str:
    """All results in one page, the same for the same records.

    Args:
      paper: What the records are compared with.
      records: Each run once (`runs.distinct`).
      pictures: The paper's figures by their addresses, as the page should link to them.
      curves: Addresses of the pictures of our suites, by the names that `suite_files` gives.

    Returns:
      Markdown.
    """
    parts = ["# Results", _sources(records), "## The paper's tables"]
    parts += [paper_table(number, paper, records).markdown() for number in paper.tables]
    parts += ["## Claims", _HOW]
    parts += [text for finding in findings(paper, records) for text in _finding(finding)]
    parts += ["## Inconsistencies in the paper", "\n".join(f"- {text}" for text in inconsistencies(paper))]
    parts.append("## Figures")
    for address, picture in pictures.items():
        parts += [f"![{picture.title}]({address})", f"{picture.title}. {picture.caption}"]
    if not pictures:
        parts.append("Not run.")
    own = suite_files(own_suites(paper, records))
    if own:
        parts.append("## Our own experiments")
    for suite, name in own:
        parts.append(markdown(suite))
        if curves and name in curves:
            parts.append(f"![Train loss and test error of {suite.name} on {suite.label}]({curves[name]})")
    return "\n\n".join(part.strip() for part in parts) + "\n"


_HOW = (
    "Padam's advantage is the mean difference between runs that share a seed, in points of accuracy, perplexity or"
    " train loss. A claim is shown if its whole 95% interval (Student's t) fulfils it, not shown if no part does; below"
    f" {MINIMUM} pairs, or where a run of the side that it favours diverged, the runs cannot tell. Intervals are not"
    " corrected for their number."
)


def _sources(records: Sequence[Record]) -> str:
    finished = [record for record in records if record.finished]
    diverged = sum(record.diverged for record in records)
    labels = sorted({record.config["data"]["label"] for record in records})
    devices = sorted({record.config["device"]["kind"] for record in records})
    return (
        f"Made by `padam report` from {len(records)} recorded runs: {len(finished)} finished, {diverged} of them"
        f" diverged. Data: {', '.join(labels)}. Devices: {', '.join(devices)}."
    )


def _finding(finding: Finding) -> list[str]:
    grid = finding.grid()
    said = f"{finding.on_tables} {finding.on_runs}"
    return [f"### {finding.claim.statement}", f"{finding.claim.source}. {said}", *([grid.markdown()] if grid else [])]
