"""The command `padam`."""

import contextlib
import pathlib
from collections.abc import Generator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

import padam_optax
from padam_optax.experiments import EXPERIMENTS, demo, find
from padam_optax.experiments.records import Record, read_all
from padam_optax.report import figures, tables

app = typer.Typer(
    help="Padam: partially adaptive momentum estimation. Runs and reports the experiments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_console = Console()
_errors = Console(stderr=True)


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
def list_experiments() -> None:
    """List the experiments."""
    table = Table("Name", "Model", "Data", "Epochs", "Learning rate", "p")
    for spec in EXPERIMENTS.values():
        settings = spec.hyperparameters
        p = f"{settings['p']:g}" if "p" in settings else ""
        table.add_row(spec.name, spec.model, spec.dataset, str(spec.epochs), f"{settings['learning_rate']:g}", p)
    _console.print(table)


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Experiments to run; `padam list` shows all.")],
    data_dir: Annotated[
        pathlib.Path | None, typer.Option(help="Folder with the data set's files (CIFAR-10: the binary version).")
    ] = None,
    data_label: Annotated[
        str, typer.Option(help="Name under which results on these files are reported, such as cifar10-jpeg.")
    ] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records.")] = pathlib.Path("runs"),
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs; the schedule keeps its shape.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(min=0, help="Seed; may be given several times. By default the first of the experiment's."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is there, or replace it.")] = True,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Epochs between checkpoints; 0 writes none.")] = 5,
) -> None:
    """Train experiments and record them under OUT/NAME/seed-SEED.

    A run that was stopped goes on from its last checkpoint; a finished one is not run again.
    """
    with _clear_errors():
        specs = [find(name) if epochs is None else find(name).with_epochs(epochs) for name in names]
        from padam_optax.experiments.run import load_data

        runs = [(spec, number) for spec in specs for number in (seed or spec.seeds[:1])]
        data = {spec.name: load_data(spec, data_dir, data_label) for spec in specs}
        records = _run_all(runs, data, out, resume=resume, checkpoint_every=checkpoint_every)
    for record in records:
        _console.print(_summary(record), highlight=False)
    if any(record.diverged for record in records):
        raise typer.Exit(1)


@app.command("demo")
def run_demo(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records and the picture.")] = pathlib.Path("demo"),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each optimizer.")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Train so many epochs instead of 40.")] = None,
) -> None:
    """Compare the seven optimizers on scikit-learn's digits: a table and a picture, in under 3 minutes on a CPU.

    No download. What is recorded under OUT already is not run again.
    """
    with _clear_errors():
        specs = [spec if epochs is None else spec.with_epochs(epochs) for spec in demo.EXPERIMENTS]
        from padam_optax.experiments.run import load_data

        data = {spec.name: load_data(spec, None, "") for spec in specs}
        runs = [(spec, number) for spec in specs for number in range(seeds)]
        records = _run_all(runs, data, out, resume=True, checkpoint_every=0)
    (suite,) = tables.suites(records)
    _console.print(tables.rich_table(suite))
    picture = figures.training_curves(suite, out / f"{suite.name}.png")
    _console.print(f"Train loss and test error against epochs: {picture}", highlight=False)
    _console.print(
        "A demonstration: so short a training on so easy a set shows how far each method has come, not how it"
        " generalises.",
        highlight=False,
    )


@app.command()
def report(
    records: Annotated[pathlib.Path, typer.Argument(help="Folder of recorded runs.", exists=True, file_okay=False)],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for a Markdown table and a PNG of each suite found.")
    ] = None,
) -> None:
    """Print the tables of the runs recorded in a folder; with --out, write them and the curves."""
    found = tables.suites(read_all(records))
    if not found:
        _fail(f"{records} holds no recorded runs (config.json, metrics.jsonl).")
    for suite in found:
        _console.print(tables.rich_table(suite))
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{suite.name}.md").write_text(tables.markdown(suite))
            if suite.records:
                figures.training_curves(suite, out / f"{suite.name}.png")


def _run_all(
    runs: list[tuple[Any, int]], data: dict[str, Any], out: pathlib.Path, *, resume: bool, checkpoint_every: int
) -> list[Record]:
    """Runs one after another under a progress bar that says what runs and how long is left."""
    from padam_optax.experiments.run import run as run_experiment

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    records: list[Record] = []
    with Progress(*columns, console=_errors) as progress:
        task = progress.add_task("", total=sum(spec.epochs for spec, _ in runs))
        done = 0
        for spec, seed in runs:
            name = f"{spec.name} seed {seed}"
            progress.update(task, description=f"{name}: compiling")

            def on_epoch(line: dict[str, Any], done: int = done, name: str = name) -> None:
                progress.update(task, completed=done + line["epoch"], description=name)
                if not _errors.is_terminal:
                    _errors.print(f"{name}: {_line(line)}", highlight=False, soft_wrap=True)

            records.append(
                run_experiment(
                    spec,
                    seed,
                    data[spec.name],
                    out,
                    resume=resume,
                    checkpoint_every=checkpoint_every,
                    on_epoch=on_epoch,
                )
            )
            done += spec.epochs
            progress.update(task, completed=done)
    return records


def _line(line: dict[str, Any]) -> str:
    if "diverged_step" in line:
        return f"epoch {line['epoch']}: the loss is not finite at step {line['diverged_step']}"
    return (
        f"epoch {line['epoch']}: train loss {line['train_loss']:.4f}, test error {100 * line['test_error']:.2f} %,"
        f" {line['examples_per_second']:.0f} images/s"
    )


def _summary(record: Record) -> str:
    return f"{record.config['experiment']['name']} seed {record.config['seed']}: {_line(record.metrics[-1])}"


@contextlib.contextmanager
def _clear_errors() -> Generator[None]:
    """Turns errors that a user can mend into one message, and Ctrl-C into a word on how to go on."""
    from padam_optax.data.images import DataError

    try:
        yield
    except (DataError, ValueError) as error:
        _fail(str(error))
    except KeyError as error:
        _fail(str(error.args[0]))
    except KeyboardInterrupt:
        _errors.print("Stopped. The same command goes on from the last checkpoint.")
        raise typer.Exit(130) from None


def _fail(message: str) -> None:
    _errors.print(f"[bold red]Error:[/bold red] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)
