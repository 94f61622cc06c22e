"""Writes the page of results in Markdown: the paper's tables, figures and claims beside recorded runs."""

import dataclasses
from collections.abc import Mapping, Sequence

from padam_optax.report.budget import Search, budget_grid, searches
from padam_optax.report.claims import MINIMUM, Finding, findings
from padam_optax.report.comparison import comparison_grid
from padam_optax.report.escaping import inline, paragraph
from padam_optax.report.figures import Picture
from padam_optax.report.grid import Grid
from padam_optax.report.inconsistencies import inconsistencies
from padam_optax.report.metrics import diverged
from padam_optax.report.naming import data_title, file_names
from padam_optax.report.results import Results
from padam_optax.report.tables import Suite, paper_suites, paper_table, suite_grid, suites
from padam_optax.report.variants import variant_grids


@dataclasses.dataclass(frozen=True)
class SuiteTable:
    """A suite's table.

    Attributes:
      suite: The suite.
      name: Name of its files, without the ending.
      grid: The table.
      comparison: The comparison of the methods, if a search with equal budgets chose their settings.
      search: That search, if its trials were recorded.
    """

    suite: Suite
    name: str
    grid: Grid
    comparison: Grid | None = None
    search: Search | None = None

    @property
    def grids(self) -> list[Grid]:
        """All of the suite's tables."""
        budget = None if self.search is None else budget_grid(self.search)
        return [grid for grid in (self.grid, self.comparison, budget) if grid is not None]


@dataclasses.dataclass(frozen=True)
class Contents:
    """All tables of a report, each built once for the terminal, the files and the page.

    Attributes:
      results: The results that the tables show.
      tables: The paper's tables, by number.
      networks: The paper's networks that were run, with the names of their files.
      suites: The tables of suites beyond the paper's.
      variants: The tables of variants beside their experiments.
    """

    results: Results
    tables: Mapping[int, Grid]
    networks: Sequence[tuple[Suite, str]]
    suites: Sequence[SuiteTable]
    variants: Sequence[Grid]


def contents(results: Results) -> Contents:
    """Builds all tables of some results."""
    networks = paper_suites(results)
    # One of the paper's networks can be an own suite too: no two files may have one name.
    named = suite_files([*networks, *suites(results)])
    found = {(search.suite, search.label): search for search in searches(results)}
    own = [
        SuiteTable(
            suite,
            name,
            suite_grid(suite),
            comparison_grid(suite, results),
            found.get((suite.name, suite.group.conditions.label)),
        )
        for suite, name in named[len(networks) :]
    ]
    tables = {number: paper_table(number, results) for number in results.paper.tables}
    return Contents(results, tables, named[: len(networks)], own, variant_grids(results))


def suite_files(found: Sequence[Suite]) -> list[tuple[Suite, str]]:
    """Each suite with the name of its files: its own name, or its whole title if several suites have the name.

    Each name leaves room for a second file that ends with `-budget`, the picture of the expected best score.
    """
    names = [suite.name for suite in found]
    wanted = [suite.name if names.count(suite.name) == 1 else suite.title for suite in found]
    return list(zip(found, file_names(wanted, ["-budget"]), strict=True))


def results_page(
    found: Contents,
    pictures: Mapping[str, Picture],
    curves: Mapping[str, str] | None = None,
    budgets: Mapping[str, str] | None = None,
) -> str:
    """Writes all results on one page; the same records give the same page.

    Args:
      found: The tables.
      pictures: The paper's figures by address, relative to the page.
      curves: Addresses of the curves of own suites, by the names of their tables.
      budgets: Addresses of the pictures of their searches, by the names of their tables.

    Returns:
      Markdown.
    """
    parts = ["# Results", _sources(found.results), "## The paper's tables"]
    parts += [grid.markdown() for grid in found.tables.values()]
    parts.append("## Figures")
    for address, picture in pictures.items():
        parts += [f"![{inline(picture.title)}]({address})", paragraph(f"{picture.title}. {picture.caption}")]
    if not pictures:
        parts.append("Not run.")
    if found.suites:
        parts.append("## Our own experiments")
    for table in found.suites:
        parts += [grid.markdown() for grid in table.grids]
        if curves and table.name in curves:
            parts.append(f"![Curves of {inline(table.suite.title)}]({curves[table.name]})")
        if budgets and table.name in budgets:
            parts.append(
                f"![The expected best score after so many trials: {inline(table.suite.name)}]({budgets[table.name]})"
            )
    if found.variants:
        parts.append("## Beyond the paper")
    parts += [grid.markdown() for grid in found.variants]
    parts += _claims(findings(found.results), inconsistencies(found.results.paper))
    return "\n\n".join(part.strip() for part in parts) + "\n"


_HOW = (
    "Padam's advantage is the mean difference between runs that share a seed, in points of accuracy, perplexity or"
    " train loss. A claim is shown if its whole 95% interval (Student's t) fulfils it, and not shown if no part does."
    f" With fewer than {MINIMUM} pairs, or where a run of the side that the claim favours diverged, the runs cannot"
    ' tell. A single pair that fulfils the claim reads "one seed", one that does not "one seed against". The intervals'
    " are not corrected for their number."
)


def _claims(found: Sequence[Finding], contradictions: Sequence[str]) -> list[str]:
    """The claims on the paper's tables, then on recorded runs."""
    parts = ["## The claims on the paper's own tables"]
    for finding in found:
        grid = finding.tables_grid()
        parts += [f"### {finding.claim.statement}", f"{finding.claim.source}. {finding.on_tables}"]
        parts += [grid.markdown()] if grid else []
    parts += ["### Inconsistencies in the paper", "\n".join(f"- {text}" for text in contradictions)]
    parts += ["## The claims on recorded runs", _HOW]
    for finding in found:
        grid = finding.runs_grid()
        parts += [f"### {finding.claim.statement}", finding.on_runs]
        parts += [grid.markdown()] if grid else []
    return parts


def _sources(results: Results) -> str:
    runs = results.runs
    finished = sum(record.finished for record in runs)
    worse = sum(map(diverged, runs))
    labels = sorted({data_title(record.data.label) for record in runs})
    devices = sorted({record.device.kind for record in runs})
    trials = len(results.records) - len(runs)
    searches = (
        f" The records also hold {trials} trials of searches for settings; only the tables of trials show them."
        if trials
        else ""
    )
    return (
        f"Made by `padam report` from {len(runs)} recorded runs: {finished} finished, {worse} of them diverged."
        f" Data: {inline(', '.join(labels))}. Devices: {inline(', '.join(devices))}.{searches}"
    )
