"""`padam report` and `padam check`: tables, figures and verdicts from records."""

import pathlib
from typing import Annotated

import typer
from rich.markup import escape

from padam_optax.cli.console import STDOUT, existing, write
from padam_optax.records.record import Record
from padam_optax.records.store import read_all
from padam_optax.report import budget, claims, figures, page, tables, targets
from padam_optax.report.grid import Grid
from padam_optax.report.inconsistencies import inconsistencies
from padam_optax.report.naming import file_names
from padam_optax.report.results import PAPER, Results

_Records = Annotated[
    list[pathlib.Path],
    typer.Argument(metavar="RECORDS", help="Folders of recorded runs, or files of `padam pack`.", parser=existing),
]


def report(
    records: _Records,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for results.md, the figures, and a Markdown table and a PNG of each suite found."),
    ] = None,
    table: Annotated[int | None, typer.Option(help="Only this table of the paper.")] = None,
    figure: Annotated[int | None, typer.Option(help="Only this figure of the paper; needs --out.")] = None,
    with_budget: Annotated[
        bool,
        typer.Option("--budget", help="Only the searches: each method's expected best score after k trials."),
    ] = False,
    time_to_target: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Only the epochs and seconds until a recorded metric is at most a value, such as test_error=0.1. The"
            " number of a search's trials among the records is given too.",
        ),
    ] = None,
) -> None:
    """Print tables of recorded runs; with --out, write the tables, the claims and the figures.

    The command reads only the records. It prints those tables of the paper that have a run.
    """
    found = _read(records)
    if figure is not None and out is None:
        raise ValueError("--figure draws a PNG: name a folder for it with --out.")
    chosen: dict[str, list[Grid]] = {}
    if table is not None:
        chosen[f"table-{table}"] = [tables.paper_table(table, found)]
    if time_to_target is not None:
        chosen["time-to-target"] = targets.target_grids(found, *_target(time_to_target))
    if with_budget:
        chosen["budget"] = _budgets(found, out)
    drawn = [] if figure is None else figures.paper_figure(figure, found)
    for name, grids in chosen.items():
        for grid in grids:
            STDOUT.print(grid.rich_table())
        if out is not None:
            write(out / f"{name}.md", "\n".join(grid.markdown() for grid in grids))
    if figure is not None and out is not None:
        for picture in drawn:
            path = figures.save(picture.figure, out / f"{picture.name}.png")
            STDOUT.print(f"{picture.title}: {path}\n{picture.caption}", highlight=False, markup=False, soft_wrap=True)
        if not drawn:
            STDOUT.print(f"Figure {figure}: not run.", highlight=False)
    if table is figure is time_to_target is None and not with_budget:
        _report_all(found, out)


def check(records: _Records) -> None:
    """Test each claim of the paper on its own tables, then on recorded runs, which show it, do not, or cannot tell.

    A verdict on runs needs 3 pairs of runs with the same seed; the 95% interval of their mean difference decides. The
    result of a single pair is shown as "one seed".

    The exit code is 0 whatever the verdicts are.
    """
    results = _read(records)
    found = claims.findings(results)
    STDOUT.rule("The claims on the paper's own tables")
    for finding in found:
        _print_finding(finding.claim, finding.on_tables, finding.tables_grid())
    STDOUT.print("\n[bold]Inconsistencies in the paper[/bold]")
    for text in inconsistencies(results.paper):
        STDOUT.print(f"- {text}", highlight=False, markup=False)
    STDOUT.rule("The claims on recorded runs")
    for finding in found:
        _print_finding(finding.claim, finding.on_runs, finding.runs_grid())


def _print_finding(claim: claims.Claim, said: str, grid: Grid | None) -> None:
    STDOUT.print(f"\n[bold]{escape(claim.statement)}[/bold] ({claim.source})", highlight=False)
    STDOUT.print(said, highlight=False)
    if grid is not None:
        STDOUT.print(grid.rich_table())


def _read(paths: list[pathlib.Path]) -> Results:
    """The runs below folders or in files; refuses a folder or file without any."""
    found: list[Record] = []
    for path in paths:
        records = read_all(path)
        if not records:
            raise ValueError(f"{path} holds no recorded runs (config.json, metrics.jsonl).")
        found += records
    return Results(PAPER, found)


def _target(text: str) -> tuple[str, float]:
    metric, _, value = text.partition("=")
    try:
        return metric, float(value)
    except ValueError:
        raise ValueError(f"--time-to-target takes METRIC=VALUE, such as test_error=0.1; got {text!r}.") from None


def _budgets(results: Results, out: pathlib.Path | None) -> list[Grid]:
    """A table for each search; with a folder, also draws them."""
    found = budget.searches(results)
    if not found:
        raise ValueError(
            "--budget compares searches, but the records hold no trials of a search over two methods or more."
        )
    if out is not None:
        for search, name in zip(found, file_names([f"{search.suite}-budget" for search in found]), strict=True):
            budget.draw_budget(search, out / f"{name}.png")
    return [budget.budget_grid(search) for search in found]


def _report_all(results: Results, out: pathlib.Path | None) -> None:
    """Prints the tables that have runs; with a folder, writes all tables, figures and the page of results."""
    contents = page.contents(results)
    for number, grid in contents.tables.items():
        if tables.has_runs(number, results):
            STDOUT.print(grid.rich_table())
    for table in contents.suites:
        for grid in (table.grid, table.comparison):
            if grid is not None:
                STDOUT.print(grid.rich_table())
    for grid in contents.variants:
        STDOUT.print(grid.rich_table())
    if out is None:
        return
    for number, grid in contents.tables.items():
        write(out / f"table-{number}.md", grid.markdown())
    curves: dict[str, str] = {}
    budgets: dict[str, str] = {}
    for table in contents.suites:
        suite, name = table.suite, table.name
        write(out / f"{name}.md", "\n".join(grid.markdown() for grid in table.grids))
        if any(suite.group.finished.values()):
            curves[name] = figures.training_curves(suite, out / f"{name}.png").name
        if table.search is not None:
            budgets[name] = budget.draw_budget(table.search, out / f"{name}-budget.png").name
    if contents.variants:
        write(out / "variants.md", "\n".join(grid.markdown() for grid in contents.variants))
    pictures: dict[str, figures.Picture] = {}
    for number in figures.NUMBERS:
        for picture in figures.paper_figure(number, results):
            pictures[figures.save(picture.figure, out / f"{picture.name}.png").name] = picture
    for suite, name in contents.networks:
        picture = figures.network_picture(suite, name)
        pictures[figures.save(picture.figure, out / f"{picture.name}.png").name] = picture
    write(out / "results.md", page.results_page(contents, pictures, curves, budgets))
    STDOUT.print(f"Written: {out / 'results.md'}", highlight=False, markup=False, soft_wrap=True)
