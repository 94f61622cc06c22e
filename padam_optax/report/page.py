"""The results page: tables, claims and figures of recorded runs in one Markdown file."""

import pathlib
from collections.abc import Mapping, Sequence

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import PaperTable
from padam_optax.report import claims, figures, paper, tables


def write(
    records: Sequence[Record],
    printed: Mapping[int, PaperTable],
    out: str | pathlib.Path,
    *,
    table_numbers: Sequence[int] | None = None,
    figure_numbers: Sequence[int] | None = None,
) -> pathlib.Path:
    """Writes `results.md` with its tables and pictures into the folder `out`.

    Args:
      records: What was recorded.
      printed: The paper's tables by number.
      out: A folder; made if it is not there.
      table_numbers: Which of the paper's tables; all by default.
      figure_numbers: Which of its figures; all by default.

    Returns:
      The page's path.
    """
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    findings = claims.check(tables.suites(records), claims.runs_over_p(records))
    suites = [suite for suite in tables.suites(records) if suite.records]
    text = ["# Results", "", "Written by `padam report` from recorded runs alone.", "", "## Our recipes", ""]
    for suite in suites:
        if _is_papers(suite.name, printed):
            continue
        picture = figures.training_curves(suite, out / f"{suite.name}.png")
        table = tables.markdown(suite)
        _write(out / f"{suite.name}.md", table)
        text += [f"### {suite.name}", "", table, f"![{suite.name}]({picture.name})", ""]
    text += ["## The paper's tables", ""]
    for number in table_numbers if table_numbers is not None else printed:
        table = paper.markdown(number, printed[number], paper.compare(printed[number], records))
        _write(out / f"table-{number}.md", table)
        text += [table]
    text += ["## The paper's figures", ""]
    for number in figure_numbers if figure_numbers is not None else (1, 2, 3, 4):
        picture = figures.paper_figure(number, records, out / f"figure-{number}.png")
        text += [f"Figure {number}: not run." if picture is None else f"![Figure {number}]({picture.name})", ""]
    text += ["## The paper's claims", "", "On the recorded runs:", "", claims_markdown(findings)]
    text += ["On the paper's own printed tables:", "", printed_markdown(printed)]
    _write(out / "results.md", "\n".join(text))
    return out / "results.md"


def claims_markdown(findings: Sequence[claims.Finding]) -> str:
    """The findings as a table."""
    rows = ["| claim | runs | n | difference | 95% interval | threshold | verdict |", "|---|---|---|---|---|---|---|"]
    for finding in findings:
        cells = (finding.claim, finding.suite, str(finding.n), *numbers(finding), str(finding.verdict))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows if findings else ["No runs of Padam."]) + "\n"


def numbers(finding: claims.Finding) -> tuple[str, str, str]:
    """Difference, interval and threshold in words."""
    mean = "" if finding.mean is None else f"{finding.mean:+.3f}"
    interval = "" if finding.interval is None else f"{finding.interval[0]:+.3f} to {finding.interval[1]:+.3f}"
    return mean, interval, f"above {finding.threshold:g}"


def printed_markdown(printed: Mapping[int, PaperTable]) -> str:
    """The claims on the paper's printed numbers, and the sentences that these do not bear out."""
    rows = ["| claim | where | difference | |", "|---|---|---|---|"]
    for entry in claims.check_printed(printed):
        holds = "holds" if entry.holds else "does not hold"
        rows.append(f"| {entry.claim} | {entry.row} | {entry.difference:+.2f} | {holds} |")
    rows += [
        "",
        "Sentences of the paper about its own numbers:",
        "",
        "| where | says | printed | |",
        "|---|---|---|---|",
    ]
    for statement in claims.statements(printed):
        holds = "agrees" if statement.holds else "disagrees"
        rows.append(f"| {statement.place} | {statement.says} | {statement.found} | {holds} |")
    return "\n".join([*rows, "", *claims.UNTABLED]) + "\n"


def _is_papers(suite: str, printed: Mapping[int, PaperTable]) -> bool:
    """Whether a suite, or the suite of a variant such as `...-padam-p1_4`, is a row of a table."""
    return any(suite == row.suite or suite.startswith(f"{row.suite}-") for t in printed.values() for row in t.rows)


def _write(path: pathlib.Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
