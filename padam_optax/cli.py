"""The command `padam`."""

import contextlib
import dataclasses
import enum
import pathlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

import padam_optax
from padam_optax.experiments import EXPERIMENTS, DataError, demo, find
from padam_optax.experiments import figure as experiments_of_figure
from padam_optax.experiments import paper as paper_tables
from padam_optax.experiments import table as experiments_of_table
from padam_optax.experiments.records import Record, read_all
from padam_optax.experiments.spec import OPTIMIZERS, Experiment
from padam_optax.report import claims, figures, page, tables
from padam_optax.report import paper as paper_report

if TYPE_CHECKING:  # These import flax and orbax, which --help and reports can do without.
    from padam_optax.experiments.datasets import Data
    from padam_optax.experiments.queue import Budget, Outcome

app = typer.Typer(
    help="Padam: partially adaptive momentum estimation. Runs and reports the experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_console = Console()
_errors = Console(stderr=True)


_Table = Annotated[int | None, typer.Option(help="The experiments of this table of the paper.")]
_Figure = Annotated[int | None, typer.Option(help="The experiments of this figure of the paper.")]


class UnknownWords(enum.Enum):
    """The choices of --unknown-words."""

    RAISE = "raise"
    REPLACE = "replace"


class DemoTask(enum.Enum):
    """The choices of `padam demo --task`."""

    IMAGES = "images"
    LANGUAGE = "language"


def _show_version(value: bool) -> None:
    if value:
        _console.print(f"padam_optax {padam_optax.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Padam: partially adaptive momentum estimation. Runs and reports the experiments."""


@app.command("list")
def list_experiments(
    table: _Table = None,
    figure: _Figure = None,
) -> None:
    """List the experiments, or those of one of the paper's tables or figures."""
    with _clear_errors():
        specs = _selected([], table, figure) or list(EXPERIMENTS.values())
    rows = Table(
        Column("Name", no_wrap=True, min_width=max(len(spec.name) for spec in specs)), "Epochs", "Rate", "p", "Paper"
    )
    for spec in specs:
        settings = spec.hyperparameters
        p = f"{settings['p']:g}" if "p" in settings else ""
        paper = ", ".join(f"{result.value:.2f}" for result in spec.paper)
        rows.add_row(spec.name, str(spec.epochs), f"{settings['learning_rate']:g}", p, paper)
    _console.print(rows)


@app.command()
def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Experiments to run; `padam list` shows all.")
    ] = None,
    table: _Table = None,
    figure: _Figure = None,
    data_dir: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder with the data set's files (CIFAR: the binary version; text: train.txt, valid.txt, test.txt);"
            " by default what was fetched."
        ),
    ] = None,
    data_label: Annotated[
        str, typer.Option(help="Name under which results on these files are reported, such as cifar10-jpeg.")
    ] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records.")] = pathlib.Path("runs"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs; the schedule keeps its shape.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="Seed; may be given several times. By default 0.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds 0 to N-1, one run each.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16: what activations are computed in.")] = None,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so many seconds, with a checkpoint; begin nothing that cannot finish."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is there, or replace it.")] = True,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Epochs between checkpoints; 0 writes none.")] = 5,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard beside each record.")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images (ImageNet); 0: threads.")] = 0,
    unknown_words: Annotated[
        UnknownWords, typer.Option(help="What to do with words that the training text lacks: say so, or take <unk>.")
    ] = UnknownWords.RAISE,
) -> None:
    """Train experiments and record them under OUT/NAME/seed-SEED.

    A run that was stopped goes on from its last checkpoint; a finished one is not run again. The deadline, SIGTERM and
    Ctrl-C leave a checkpoint.
    """
    with _clear_errors():
        specs = _selected(names or [], table, figure)
        if not specs:
            raise ValueError("Name an experiment, or choose some with --table or --figure; `padam list` shows all.")
        if seed and seeds:
            raise ValueError("--seed and --seeds exclude each other.")
        if dtype not in (None, "float32", "bfloat16"):
            raise ValueError(f"--dtype must be float32 or bfloat16, got {dtype!r}.")
        if epochs is not None:
            specs = [spec.with_epochs(epochs) for spec in specs]
        if dtype is not None:
            specs = [dataclasses.replace(spec, compute_dtype=dtype) for spec in specs]
        from padam_optax.experiments.datasets import load_data
        from padam_optax.experiments.queue import Budget

        def load(spec: Experiment) -> "Data":
            return load_data(spec, data_dir, data_label, unknown_words=unknown_words.value)

        runs = [(spec, number) for spec in specs for number in (range(seeds) if seeds else seed or [0])]
        for spec in specs:
            load(spec)
        budget = Budget(deadline)
        outcome = _run_all(
            runs,
            load,
            out,
            budget,
            resume=resume,
            checkpoint_every=checkpoint_every,
            tensorboard=tensorboard,
            workers=workers,
        )
    for record in outcome.records:
        _console.print(_summary(record), highlight=False, soft_wrap=True)
    if outcome.left:
        _console.print(f"Stopped by {budget.reason or 'the deadline'}. Left, for the same command:", highlight=False)
        for spec, number, done in outcome.left:
            _console.print(f"  {spec.name} seed {number}: {done} of {spec.epochs} epochs done", highlight=False)
    if budget.interrupted:
        raise typer.Exit(130)
    if any(record.diverged for record in outcome.records):
        raise typer.Exit(1)


data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


@data_app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or ptb.")],
    cache_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Where to keep it; by default the user's cache, or $PADAM_DATA_DIR.")
    ] = None,
) -> None:
    """Download a data set, check it, and unpack it where `padam run` finds it."""
    with _clear_errors():
        from padam_optax.experiments.datasets import fetch as fetch_data

        _console.print(f"{name}: {fetch_data(name, cache_dir)}", highlight=False, soft_wrap=True)


@app.command("demo")
def run_demo(
    task: Annotated[
        DemoTask, typer.Option(help="Images: scikit-learn's digits; language: the help texts of this Python.")
    ] = DemoTask.IMAGES,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records and the picture.")] = pathlib.Path("demo"),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs of each optimizer: by default 5, of language 3.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs instead of 40, of language 8.")
    ] = None,
) -> None:
    """Compare the seven optimizers on a small task: a table and a picture, in a few minutes on a CPU.

    No download. What is recorded under OUT already is not run again.
    """
    with _clear_errors():
        chosen = {DemoTask.IMAGES: demo.DIGITS, DemoTask.LANGUAGE: demo.LANGUAGE}[task]
        specs = [spec if epochs is None else spec.with_epochs(epochs) for spec in chosen]
        from padam_optax.experiments.datasets import load_data
        from padam_optax.experiments.queue import Budget

        runs = [(spec, number) for spec in specs for number in (range(seeds) if seeds else spec.seeds)]
        budget = Budget()
        outcome = _run_all(runs, lambda spec: load_data(spec, None, ""), out, budget, resume=True, checkpoint_every=0)
    if outcome.left:
        _console.print("Stopped. The same command goes on with what is left.")
        raise typer.Exit(130)
    (suite,) = tables.suites(outcome.records)
    _console.print(tables.rich_table(suite))
    picture = figures.training_curves(suite, out / f"{suite.name}.png")
    _console.print(
        f"The curves: {picture}",
        emoji=False,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    _console.print(
        "A demonstration: so short a training on so small a set shows how far each method has come, not how it"
        " generalises.",
        highlight=False,
    )


_Records = Annotated[
    list[pathlib.Path],
    typer.Argument(metavar="RECORDS...", help="Folders of recorded runs.", exists=True, file_okay=False),
]


@app.command()
def report(
    records: _Records,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for results.md with its tables and pictures.")
    ] = None,
    table: Annotated[int | None, typer.Option(min=1, max=4, help="Only this table of the paper.")] = None,
    figure: Annotated[int | None, typer.Option(min=1, max=4, help="With --out: only this figure of the paper.")] = None,
    time_to_target: Annotated[
        str | None, typer.Option(metavar="METRIC=VALUE", help="When each method reached it, as test_error=0.45.")
    ] = None,
) -> None:
    """Print the tables of recorded runs; with --out, write them, the curves and the claims.

    The paper's tables stand beside what was recorded for them; where nothing was, they say "not run".
    """
    with _clear_errors():
        found = _read_records(records)
        suites = [suite for suite in tables.suites(found) if suite.records or suite.unfinished]
        if time_to_target is not None:
            for suite in suites:
                _console.print(_time_table(suite, time_to_target, found))
            return
        if table is None:
            for suite in suites:
                _console.print(tables.rich_table(suite))
        for number in (table,) if table is not None else paper_tables.TABLES:
            comparisons = paper_report.compare(paper_tables.TABLES[number], found)
            if table is not None or any(comparison.measured for comparison in comparisons):
                _console.print(paper_report.rich_table(number, paper_tables.TABLES[number], comparisons))
        if out is not None:
            written = page.write(
                found,
                paper_tables.TABLES,
                out,
                table_numbers=None if table is None else (table,),
                figure_numbers=None if figure is None else (figure,),
            )
            _console.print(f"Written: {written}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def check(records: _Records) -> None:
    """Say for each claim of the paper whether recorded runs show it, do not, or cannot tell.

    A verdict needs 3 runs a method or more; differences are paired by seed, with Student's 95% interval. The claims on
    the paper's own printed tables follow.
    """
    with _clear_errors():
        found = _read_records(records)
        findings = claims.check(tables.suites(found), claims.runs_over_p(found))
    shown = Table("Claim", "Runs", "n", "Difference", "95% interval", "Threshold", "Verdict")
    for finding in findings:
        shown.add_row(finding.claim, finding.suite, str(finding.n), *page.numbers(finding), str(finding.verdict))
    _console.print(shown if findings else "No runs of Padam: nothing to say about them.")
    printed = Table("Claim", "On the paper's", "Difference", "", title="The paper's own printed tables")
    for entry in claims.check_printed(paper_tables.TABLES):
        printed.add_row(entry.claim, entry.row, f"{entry.difference:+.2f}", "holds" if entry.holds else "does not hold")
    _console.print(printed)
    for statement in claims.statements(paper_tables.TABLES):
        agrees = "agrees" if statement.holds else "disagrees"
        _console.print(f'{statement.place} says "{statement.says}". {statement.found}: {agrees}.', highlight=False)
    for sentence in claims.UNTABLED:
        _console.print(sentence, highlight=False)


def _read_records(folders: list[pathlib.Path]) -> list[Record]:
    found = [record for folder in folders for record in read_all(folder)]
    if not found:
        raise ValueError(f"{', '.join(map(str, folders))} holds no recorded runs (config.json, metrics.jsonl).")
    return found


def _time_table(suite: tables.Suite, target: str, found: list[Record]) -> Table:
    metric, separator, value = target.partition("=")
    try:
        limit = float(value)
    except ValueError:
        separator = ""
        limit = 0.0
    if not separator:
        raise ValueError(f"--time-to-target takes METRIC=VALUE, as test_error=0.45; got {target!r}.")
    shown = Table(
        "Method", "Reached", "Epochs", "Seconds", "Tuning trials", title=f"{suite.name} on {suite.label}: {target}"
    )
    for row in paper_report.time_to_target(suite.records, suite.name, metric, limit, found):
        epochs = "" if row.epochs is None else f"{row.epochs:.1f}"
        seconds = "" if row.seconds is None else f"{row.seconds:.0f}"
        shown.add_row(OPTIMIZERS[row.method], f"{row.reached} of {row.n}", epochs, seconds, str(row.trials))
    return shown


def _selected(names: list[str], table: int | None, figure: int | None) -> list[Experiment]:
    """What was named, then the table's and the figure's experiments, each once."""
    chosen = [find(name) for name in names]
    chosen += experiments_of_table(table) if table is not None else []
    chosen += experiments_of_figure(figure) if figure is not None else []
    return list({spec.name: spec for spec in chosen}.values())


def _run_all(
    runs: list[tuple[Experiment, int]],
    load: "Callable[[Experiment], Data]",
    out: pathlib.Path,
    budget: "Budget",
    **options: Any,
) -> "Outcome":
    """Runs one after another under a progress bar that says what runs and how long is left."""
    from padam_optax.experiments.queue import run_queue

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total} epochs"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task("", total=sum(spec.epochs for spec, _ in runs))
        epochs_before, total = {}, 0
        for spec, seed in runs:
            epochs_before[spec.name, seed] = total
            total += spec.epochs
        name, before = "", 0

        def on_start(spec: Experiment, seed: int) -> None:
            nonlocal name, before
            name = f"{spec.name} seed {seed}"
            before = epochs_before[spec.name, seed]
            progress.update(task, description=f"{name}: compiling", completed=before)

        def on_steps(epoch: int, share: float) -> None:
            progress.update(task, completed=before + epoch - 1 + share, description=name)

        def on_epoch(line: dict[str, Any]) -> None:
            progress.update(task, completed=before + line["epoch"], description=name)
            if not _errors.is_terminal:
                _errors.print(f"{name}: {_line(line)}", highlight=False, soft_wrap=True)

        def on_signal(name: str) -> None:
            progress.console.print(f"{name}: stopping with a checkpoint.")

        with budget.listening(on_signal):
            outcome = run_queue(
                runs, load, out, budget, on_start=on_start, on_steps=on_steps, on_epoch=on_epoch, **options
            )
        if not outcome.left:
            progress.update(task, completed=total)
    return outcome


def _line(line: dict[str, Any]) -> str:
    if "diverged_step" in line:
        return f"epoch {line['epoch']}: the loss is not finite at step {line['diverged_step']}: stopped"
    if "test_perplexity" in line:
        unit = "tokens"
        found = f"validation perplexity {line['valid_perplexity']:.2f}, test {line['test_perplexity']:.2f}"
    else:
        unit, found = "images", f"test error {100 * line['test_error']:.2f} %"
    text = f"epoch {line['epoch']}: train loss {line['train_loss']:.4f}, {found}"
    speed = line["examples_per_second"]
    return text if speed is None else f"{text}, {speed:.0f} {unit}/s"


def _summary(record: Record) -> str:
    return f"{record.config['experiment']['name']} seed {record.config['seed']}: {_line(record.metrics[-1])}"


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """Turns errors that a user can mend into one message, and Ctrl-C into a word on how to go on."""
    try:
        yield
    except (DataError, ValueError) as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]))
    except KeyboardInterrupt:
        _errors.print("Stopped at once. The same command goes on from the last checkpoint.")
        raise typer.Exit(130) from None


def _fail(message: str) -> None:
    _errors.print(f"[bold red]Error:[/bold red] {escape(message)}", emoji=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
