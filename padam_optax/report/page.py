"""The page of results: the paper's tables, figures and claims beside what recorded runs say, in Markdown."""

from collections.abc import Mapping, Sequence

from padam_optax.records.store import Record
from padam_optax.report.claims import MINIMUM, findings, inconsistencies
from padam_optax.report.figures import Picture
from padam_optax.report.results import Paper, file_name, is_trial
from padam_optax.report.tables import Suite, paper_table, suite_grid, suites
from padam_optax.report.variants import variant_grids


def suite_files(found: Sequence[Suite]) -> list[tuple[Suite, str]]:
    """Each suite and what its files are called: its name, and where several have the name all that tells them apart."""
    names = [suite.name for suite in found]
    return [(suite, suite.name if names.count(suite.name) == 1 else file_name(suite.title)) for suite in found]


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
    parts.append("## Figures")
    for address, picture in pictures.items():
        parts += [f"![{picture.title}]({address})", f"{picture.title}. {picture.caption}"]
    if not pictures:
        parts.append("Not run.")
    own = suite_files(suites(paper, records))
    if own:
        parts.append("## Our own experiments")
    for suite, name in own:
        parts.append(suite_grid(suite).markdown())
        if curves and name in curves:
            parts.append(f"![Curves of {suite.title}]({curves[name]})")
    variants = variant_grids(paper, records)
    if variants:
        parts.append("## Beyond the paper")
    parts += [grid.markdown() for grid in variants]
    found = findings(paper, records)
    parts.append("## The claims on the paper's own tables")
    for finding in found:
        grid = finding.tables_grid()
        parts += [f"### {finding.claim.statement}", f"{finding.claim.source}. {finding.on_tables}"]
        parts += [grid.markdown()] if grid else []
    parts += ["### Inconsistencies in the paper", "\n".join(f"- {text}" for text in inconsistencies(paper))]
    parts += ["## The claims on recorded runs", _HOW]
    for finding in found:
        grid = finding.runs_grid()
        parts += [f"### {finding.claim.statement}", finding.on_runs]
        parts += [grid.markdown()] if grid else []
    return "\n\n".join(part.strip() for part in parts) + "\n"


_HOW = (
    "Padam's advantage is the mean difference between runs that share a seed, in points of accuracy, perplexity or"
    " train loss. A claim is shown if its whole 95% interval (Student's t) fulfils it, not shown if no part does; below"
    f" {MINIMUM} pairs, or where a run of the side that it favours diverged, the runs cannot tell. Intervals are not"
    " corrected for their number."
)


def _sources(records: Sequence[Record]) -> str:
    results = [record for record in records if not is_trial(record)]
    finished = sum(record.finished for record in results)
    diverged = sum(record.diverged for record in results)
    labels = sorted({record.config["data"]["label"] for record in results})
    devices = sorted({record.config["device"]["kind"] for record in results})
    trials = len(records) - len(results)
    searches = f" Beside them {trials} trials of searches for settings, which are in no table." if trials else ""
    return (
        f"Made by `padam report` from {len(results)} recorded runs: {finished} finished, {diverged} of them diverged."
        f" Data: {', '.join(labels)}. Devices: {', '.join(devices)}.{searches}"
    )
