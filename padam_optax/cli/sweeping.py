"""`padam sweep`: many values of hyper-parameters in one compiled program."""

import contextlib
import pathlib
from collections.abc import Generator
from typing import Annotated, Any

import typer
from rich.progress import Progress

from padam_optax.cli.console import STDERR, STDOUT, stop_at_once, to_line, write
from padam_optax.cli.progress import Part, TimeLeft, progress_columns
from padam_optax.cli.select import CacheOption
from padam_optax.experiments import find
from padam_optax.experiments.spec import Experiment, ImageClassification
from padam_optax.report import sweeps
from padam_optax.report.naming import file_name, p_text
from padam_optax.runner.search_space import MOST_SEEDS, parse_space, parse_values, product


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
    seeds: Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Seeds 0 to N-1 of each configuration.")] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; the schedule keeps its shape.")] = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Images: share of the training set that is held out to compare settings, by default 0.2. With 0 the"
            " test set is used, for a figure and not for a choice. Text is compared by its validation part.",
        ),
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option(help="vectorized, mapped (one run after another) or sharded; by default the fastest measured."),
    ] = None,
    batch_configs: Annotated[
        int | None, typer.Option(min=1, help="Runs that train at once; by default as many as memory holds, at most 16.")
    ] = None,
    halving: Annotated[
        int | None, typer.Option(min=2, help="Successive halving: only the best 1/N go on at each stage.")
    ] = None,
    search_with: Annotated[
        str | None,
        typer.Option(
            "--search", help="optuna: chooses from ranges (1e-3:1e1:log) or values, and ends poor runs early."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials of a search, earlier ones included.")] = None,
    data_dir: Annotated[pathlib.Path | None, typer.Option(help="See `padam run`.")] = None,
    data_label: Annotated[str, typer.Option(help="See `padam run`.")] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records, the table and pictures.")] = pathlib.Path(
        "sweeps"
    ),
    cache_dir: CacheOption = None,
    deadline: Annotated[float | None, typer.Option(min=0, help="Seconds after which to stop.")] = None,
) -> None:
    """Train with many values of hyper-parameters in one compiled program; write records, a table and pictures.

    By default every combination of the values is trained; with --search, Optuna chooses.

    Each configuration is recorded under OUT/NAME@SETTINGS/seed-SEED; finished runs are not run again.
    """
    spec = find(name) if epochs is None else find(name).with_epochs(epochs)
    texts = _by_name(learning_rate=learning_rate, p=p, b2=b2, others=set_ or [])
    if (trials is None) != (search_with is None):
        raise ValueError("--search optuna and --trials N go together.")
    if search_with not in (None, "optuna"):
        raise ValueError(f"--search must be optuna, got {search_with!r}.")
    if search_with is not None and halving is not None:
        raise ValueError("--halving is for grids; a search gives up by itself.")
    space = {name: parse_space(text) for name, text in texts.items()} if trials is not None else {}
    configurations = product(spec, {name: parse_values(text) for name, text in texts.items()}) if trials is None else []
    if mode not in (None, "vectorized", "mapped", "sharded"):
        raise ValueError(f"--mode must be vectorized, mapped or sharded, got {mode!r}.")
    if isinstance(spec.task, ImageClassification):
        spec = spec.with_task(held_out=0.2 if held_out is None else held_out or None)
    elif held_out is not None:
        raise ValueError("--held-out is for images: a text has a validation part.")
    from padam_optax.runner.compiled import keep_programs
    from padam_optax.runner.datasets import load_data
    from padam_optax.runner.queue import Budget
    from padam_optax.runner.search import search
    from padam_optax.runner.sweep import Sweeper

    keep_programs(cache_dir)
    budget = Budget(deadline)
    count = len(configurations) if trials is None else trials
    total = count * seeds * spec.epochs

    def on_signal(name: str) -> None:
        STDERR.print(f"{name}: stopping once the epoch under way is done; runs that are unfinished then start anew.")

    with _second_interrupt(), budget.listening(on_signal), Progress(*progress_columns(), console=STDERR) as progress:
        left = TimeLeft([Part(total)])
        task = progress.add_task(spec.name, total=total, left=left)
        data = load_data(spec, data_dir, data_label)

        def on_epoch(run: Experiment, seed: int, line: dict[str, Any]) -> None:
            if STDERR.failure is not None:
                budget.stop("a failure of its output")
            progress.update(task, advance=1)
            left.epochs(int(progress.tasks[task].completed))
            if not STDERR.is_terminal and ("train_loss" not in line or line["epoch"] == run.epochs):
                STDERR.print(f"{_title(run)}, seed {seed}: {to_line(line)}", highlight=False, soft_wrap=True)

        def on_compile(under_way: bool) -> None:
            progress.update(task, description=f"{spec.name}: compiling" if under_way else spec.name)
            left.begin(0)

        def should_stop() -> bool:
            return budget.reason is not None

        sweeper = Sweeper(
            spec,
            data,
            out,
            mode=mode,
            batch_configs=batch_configs,
            on_epoch=on_epoch,
            on_compile=on_compile,
            should_stop=should_stop,
        )
        if trials is None:
            records = [] if should_stop() else sweeper.train(configurations, range(seeds), halving=halving)
        else:
            records = search(spec, space, trials, range(seeds), sweeper, out, should_stop=should_stop)
        if budget.reason is None:
            progress.update(task, completed=total)
    if records:
        found = sweeps.Sweep.of(records, spec.score_metric)
        STDOUT.print(found.grid(20).rich_table())
        name = file_name(spec.name)
        write(out / f"{name}.md", found.grid().markdown())
        for path in (found.heat_map(out / f"{name}-map.png"), found.curves(out / f"{name}-p.png")):
            if path is not None:
                STDOUT.print(f"Written: {path}", highlight=False, markup=False, soft_wrap=True)
    if not all(record.finished for record in records) or len(records) < count * seeds:
        STDOUT.print(f"Stopped by {budget.reason or 'the deadline'}. The same command does what is left.")
        if budget.interrupted:
            raise typer.Exit(130)


def _title(run: Experiment) -> str:
    """A run's experiment and the values that were chosen for it."""
    values = {name: run.hyperparameters[name] for name in run.trial}
    settings = [p_text(value) if name == "p" else f"{name} = {value:g}" for name, value in values.items()]
    return ", ".join((run.variant_of or run.name, *settings))


@contextlib.contextmanager
def _second_interrupt() -> Generator[None]:
    """Says what a second Ctrl-C leaves."""
    try:
        yield
    except KeyboardInterrupt:
        stop_at_once("The same command trains the unfinished runs.")


def _by_name(others: list[str], **named: str | None) -> dict[str, str]:
    texts = {name: text for name, text in named.items() if text is not None}
    for each in others:
        name, separator, text = each.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUES, such as weight_decay=0,1e-4; got {each!r}.")
        if name in texts:
            raise ValueError(f"{name} is given twice: {texts[name]!r} and {text!r}. Separate several values by commas.")
        texts[name] = text
    return texts
