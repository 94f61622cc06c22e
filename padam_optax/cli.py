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
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

import padam_optax
from padam_optax.experiments import EXPERIMENTS, DataError, demo, find
from padam_optax.experiments import figure as experiments_of_figure
from padam_optax.experiments import table as experiments_of_table
from padam_optax.experiments.grid import parse_space, parse_values, product
from padam_optax.experiments.paper import TABLES as PAPER_TABLES
from padam_optax.experiments.records import Record, read_all
from padam_optax.experiments.spec import Experiment
from padam_optax.report import claims, figures, page, sweeps, tables, targets
from padam_optax.report.grid import Grid
from padam_optax.report.runs import Paper, distinct

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


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="Experiment; `padam list` shows all.")],
    learning_rate: Annotated[
        str | None, typer.Option(metavar="VALUES", help="Such as 1e-3:1e1:log:5 (ends included) or 0.01,0.1.")
    ] = None,
    p: Annotated[str | None, typer.Option(metavar="VALUES", help="Such as 1/16,1/8,1/4,2/5,1/2.")] = None,
    b2: Annotated[str | None, typer.Option(metavar="VALUES", help="Such as .99,.999.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUES", help="Any other hyper-parameter; may be given several times."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N-1 of each configuration.")] = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs; the schedule keeps its shape.")
    ] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Images: share of the training set to compare by, by default 0.2; 0 takes the test set, for a"
            " figure and not for a choice. Text is compared by its validation part.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="vectorized, mapped (one after another) or sharded; by default what was measured fastest."),
    ] = None,
    batch_configs: Annotated[
        int | None, typer.Option(min=1, help="Runs that train at once; by default what memory holds, 16 at most.")
    ] = None,
    halving: Annotated[
        int | None, typer.Option(min=2, help="Successive halving: only the best 1/N go on at each stage.")
    ] = None,
    search_with: Annotated[
        str | None,
        typer.Option("--search", help="optuna: it chooses from ranges (1e-3:1e1:log) or values, and gives up early."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Of a search, earlier ones included.")] = None,
    data_dir: Annotated[pathlib.Path | None, typer.Option(help="As of `padam run`.")] = None,
    data_label: Annotated[str, typer.Option(help="As of `padam run`.")] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records, the table and pictures.")] = pathlib.Path(
        "sweeps"
    ),
    deadline: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds.")] = None,
) -> None:
    """Train many values of hyper-parameters in one compiled program: records, a table, pictures.

    By default the product of all values; with --search, what Optuna chooses.

    Each configuration is recorded under OUT/NAME@SETTINGS/seed-SEED; those that are recorded whole are not run again.
    """
    with _clear_errors():
        spec = find(name) if epochs is None else find(name).with_epochs(epochs)
        texts = _by_name(learning_rate=learning_rate, p=p, b2=b2, others=set_ or [])
        if (trials is None) != (search_with is None):
            raise ValueError("--search optuna and --trials N go together.")
        if search_with not in (None, "optuna"):
            raise ValueError(f"--search must be optuna, got {search_with!r}.")
        if search_with is not None and halving is not None:
            raise ValueError("--halving is for grids; a search gives up by itself.")
        space = {name: parse_space(text) for name, text in texts.items()} if trials is not None else {}
        configurations = (
            product(spec, {name: parse_values(text) for name, text in texts.items()}) if trials is None else []
        )
        if mode not in (None, "vectorized", "mapped", "sharded"):
            raise ValueError(f"--mode must be vectorized, mapped or sharded, got {mode!r}.")
        if spec.language is None:
            spec = dataclasses.replace(spec, held_out=0.2 if held_out is None else held_out or None)
        elif held_out is not None:
            raise ValueError("--held-out is for images: a text has a validation part.")
        from padam_optax.experiments import sweep as sweeps_of
        from padam_optax.experiments.datasets import load_data
        from padam_optax.experiments.queue import Budget
        from padam_optax.experiments.search import search

        data = load_data(spec, data_dir, data_label)
        budget = Budget(deadline)
        count = len(configurations) if trials is None else trials
        total = count * seeds * spec.epochs
        with budget.listening(), Progress(*_progress_columns(), console=_errors) as progress:
            task = progress.add_task(f"{spec.name}: compiling", total=total)

            def on_epoch(run: Experiment, seed: int, line: dict[str, Any]) -> None:
                progress.update(task, advance=1, description=spec.name)
                if not _errors.is_terminal and ("train_loss" not in line or line["epoch"] == run.epochs):
                    _errors.print(f"{run.name} seed {seed}: {_line(line)}", highlight=False, soft_wrap=True)

            def should_stop() -> bool:
                return budget.reason is not None

            sweeper = sweeps_of.Sweeper(
                spec, data, out, mode=mode, batch_configs=batch_configs, on_epoch=on_epoch, should_stop=should_stop
            )
            if trials is None:
                records = sweeper.train(configurations, range(seeds), halving=halving)
            else:
                records = search(spec, space, trials, range(seeds), sweeper, out, should_stop=should_stop)
            progress.update(task, completed=total)
    found = sweeps.Sweep.of(records, sweeps_of.metric_of(spec))
    _console.print(found.grid(20).rich_table())
    _write(out / f"{spec.name}.md", found.grid().markdown())
    for path in (found.heat_map(out / f"{spec.name}-map.png"), found.curves(out / f"{spec.name}-p.png")):
        if path is not None:
            _console.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)
    if not all(record.finished for record in records) or len(records) < count * seeds:
        _console.print(f"Stopped by {budget.reason or 'the deadline'}. The same command goes on with what is left.")
        if budget.interrupted:
            raise typer.Exit(130)


def _by_name(others: list[str], **named: str | None) -> dict[str, str]:
    texts = {name: text for name, text in named.items() if text is not None}
    for each in others:
        name, separator, text = each.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUES, such as weight_decay=0,1e-4; got {each!r}.")
        texts[name] = text
    return texts


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
    (suite,) = tables.suites(_PAPER, outcome.records)
    _console.print(tables.suite_grid(suite).rich_table())
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
_PAPER = Paper(PAPER_TABLES, EXPERIMENTS, experiments_of_figure(1))


@app.command()
def report(
    records: _Records,
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for results.md, the figures, and a Markdown table and a PNG of each suite found."),
    ] = None,
    table: Annotated[int | None, typer.Option(help="Only this table of the paper.")] = None,
    figure: Annotated[int | None, typer.Option(help="Only this figure of the paper; needs --out.")] = None,
    time_to_target: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Only the epochs and seconds until a metric, as recorded, is at most a value, such as test_error=0.1;"
            " trials of a search among the records are counted.",
        ),
    ] = None,
) -> None:
    """Print the tables of the runs recorded in folders; with --out, write them, the claims and the figures.

    Nothing but the records is read. Of the paper's tables those are printed that have a run.
    """
    with _clear_errors():
        found = _read(records)
        if figure is not None and out is None:
            raise ValueError("--figure draws a PNG: name a folder for it with --out.")
        chosen: dict[str, list[Grid]] = {}
        if table is not None:
            chosen[f"table-{table}"] = [tables.paper_table(table, _PAPER, found)]
        if time_to_target is not None:
            chosen["time-to-target"] = targets.target_grids(_PAPER, found, *_target(time_to_target))
        drawn = [] if figure is None else figures.paper_figure(figure, _PAPER, found)
        for name, grids in chosen.items():
            for grid in grids:
                _console.print(grid.rich_table())
            if out is not None:
                _write(out / f"{name}.md", "\n".join(grid.markdown() for grid in grids))
        if figure is not None and out is not None:
            for picture in drawn:
                path = figures.save(picture.figure, out / f"{picture.name}.png")
                _console.print(
                    f"{picture.title}: {path}\n{picture.caption}", highlight=False, markup=False, soft_wrap=True
                )
            if not drawn:
                _console.print(f"Figure {figure}: not run.", highlight=False)
        if table is figure is time_to_target is None:
            _report_all(found, out)


@app.command()
def check(records: _Records) -> None:
    """Say if each claim holds on the paper's own tables; then if recorded runs show it, do not, or cannot tell.

    A verdict on runs needs 3 pairs of them with the same seed; it is that of the 95% interval of their mean difference.
    The exit code is 0 whatever the verdicts are.
    """
    with _clear_errors():
        found = claims.findings(_PAPER, _read(records))
    _console.rule("The claims on the paper's own tables")
    for finding in found:
        _print_finding(finding.claim, finding.on_tables, finding.tables_grid())
    _console.print("\n[bold]Inconsistencies in the paper[/bold]")
    for text in claims.inconsistencies(_PAPER):
        _console.print(f"- {text}", highlight=False, markup=False)
    _console.rule("The claims on recorded runs")
    for finding in found:
        _print_finding(finding.claim, finding.on_runs, finding.runs_grid())


def _print_finding(claim: claims.Claim, said: str, grid: Grid | None) -> None:
    _console.print(f"\n[bold]{escape(claim.statement)}[/bold] ({claim.source})", highlight=False)
    _console.print(said, highlight=False)
    if grid is not None:
        _console.print(grid.rich_table())


def _read(folders: list[pathlib.Path]) -> list[Record]:
    """The runs below some folders, each once; refuses folders without any."""
    found: list[Record] = []
    for folder in folders:
        records = read_all(folder)
        if not records:
            raise ValueError(f"{folder} holds no recorded runs (config.json, metrics.jsonl).")
        found += records
    return distinct(found)


def _target(text: str) -> tuple[str, float]:
    metric, _, value = text.partition("=")
    try:
        return metric, float(value)
    except ValueError:
        raise ValueError(f"--time-to-target takes METRIC=VALUE, such as test_error=0.1; got {text!r}.") from None


def _report_all(records: list[Record], out: pathlib.Path | None) -> None:
    """Prints what was run; with a folder, writes all that there is to say."""
    for number in _PAPER.tables:
        if tables.has_runs(number, _PAPER, records):
            _console.print(tables.paper_table(number, _PAPER, records).rich_table())
        if out is not None:
            _write(out / f"table-{number}.md", tables.paper_table(number, _PAPER, records).markdown())
    curves: dict[str, str] = {}
    for suite, name in page.suite_files(tables.suites(_PAPER, records)):
        _console.print(tables.suite_grid(suite).rich_table())
        if out is not None:
            _write(out / f"{name}.md", tables.suite_grid(suite).markdown())
            if any(suite.runs.finished.values()):
                curves[name] = figures.training_curves(suite, out / f"{name}.png").name
    if out is None:
        return
    pictures: dict[str, figures.Picture] = {}
    for number in figures.NUMBERS:
        for picture in figures.paper_figure(number, _PAPER, records):
            pictures[figures.save(picture.figure, out / f"{picture.name}.png").name] = picture
    _write(out / "results.md", page.results_page(_PAPER, records, pictures, curves))
    _console.print(f"Written: {out / 'results.md'}", highlight=False, markup=False, soft_wrap=True)


def _write(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)


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

    with Progress(*_progress_columns(), console=_errors) as progress:
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


def _progress_columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.1f}/{task.total} epochs"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )


def _line(line: dict[str, Any]) -> str:
    if "given_up" in line:
        return f"epoch {line['epoch']}: given up, others did better"
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
