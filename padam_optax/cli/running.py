"""`padam run` and `padam demo`: experiments one after another, under a progress bar."""

import dataclasses
import enum
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress

from padam_optax.cli.console import STDERR, STDOUT, errors_in_one_line, progress_columns, to_line
from padam_optax.cli.select import FigureOption, TableOption, selected
from padam_optax.experiments import digits, pydoc
from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import Record
from padam_optax.report import figures, tables
from padam_optax.report.results import PAPER, Results
from padam_optax.runner.search_space import LARGEST_SEED, MOST_SEEDS

if TYPE_CHECKING:  # These import flax and orbax, which --help and reports can do without.
    from padam_optax.runner.datasets import Data
    from padam_optax.runner.queue import Budget, Outcome


class UnknownWords(enum.Enum):
    """The choices of --unknown-words."""

    RAISE = "raise"
    REPLACE = "replace"


class DemoTask(enum.Enum):
    """The choices of `padam demo --task`."""

    IMAGES = "images"
    LANGUAGE = "language"


def run(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Experiments to run; `padam list` shows all.")
    ] = None,
    table: TableOption = None,
    figure: FigureOption = None,
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
        list[int] | None, typer.Option(min=0, max=LARGEST_SEED, help="Seed; may be given several times. By default 0.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=MOST_SEEDS, help="Seeds 0 to N-1, one run each.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16: what activations are computed in.")] = None,
    moment_dtype: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 or bfloat16-nearest: what Padam and AMSGrad keep their moments in."),
    ] = None,
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
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Train on so many devices (of each process) together; by default on all that JAX shows."
        ),
    ] = None,
    shard_optimizer: Annotated[
        bool,
        typer.Option("--shard-optimizer", help="Divide the optimizer's state among the devices too: less memory each."),
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", help="Train together with the processes that SLURM, Cloud TPU, Kubernetes or MPI started."
        ),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Of process 0, if the processes were started by hand.")
    ] = None,
    process: Annotated[
        str | None, typer.Option(metavar="I/N", help="This is process I, from 0, of N that were started by hand.")
    ] = None,
) -> None:
    """Train experiments and record them under OUT/NAME/seed-SEED.

    A run that was stopped goes on from its last checkpoint, on other devices too; a finished one is not run again. The
    deadline, SIGTERM and Ctrl-C leave a checkpoint. Several devices divide each batch among them. Several processes
    train together where each runs this command; OUT is a folder that all of them see, and process 0 writes and prints.
    """
    with errors_in_one_line():
        specs = selected(names or [], table, figure)
        if not specs:
            raise ValueError("Name an experiment, or choose some with --table or --figure; `padam list` shows all.")
        if seed and seeds:
            raise ValueError("--seed and --seeds exclude each other.")
        if dtype not in (None, "float32", "bfloat16"):
            raise ValueError(f"--dtype must be float32 or bfloat16, got {dtype!r}.")
        if moment_dtype not in (None, "float32", "bfloat16", "bfloat16-nearest"):
            raise ValueError(f"--moment-dtype must be float32, bfloat16 or bfloat16-nearest, got {moment_dtype!r}.")
        if epochs is not None:
            specs = [spec.with_epochs(epochs) for spec in specs]
        if dtype is not None:
            specs = [dataclasses.replace(spec, compute_dtype=dtype) for spec in specs]
        if moment_dtype is not None:
            specs = [dataclasses.replace(spec, moment_dtype=moment_dtype) for spec in specs]
        from padam_optax.cli.devices import choose_devices, is_first
        from padam_optax.runner.datasets import load_data
        from padam_optax.runner.queue import Budget

        placement = choose_devices(
            devices,
            shard_optimizer=shard_optimizer,
            distributed=distributed,
            coordinator=coordinator,
            process=process,
        )
        STDOUT.quiet = not is_first()

        def load(spec: Experiment) -> "Data":
            return load_data(spec, data_dir, data_label, unknown_words=unknown_words.value)

        runs = [(spec, number) for spec in specs for number in (range(seeds) if seeds else seed or [0])]
        budget = Budget(deadline)
        with budget.listening(lambda name: STDERR.print(f"{name}: stopping once the data are read.")):
            for spec in specs:
                load(spec)
            outcome = _run_all(
                runs,
                load,
                out,
                budget,
                resume=resume,
                checkpoint_every=checkpoint_every,
                tensorboard=tensorboard,
                workers=workers,
                placement=placement,
            )
    for record in outcome.records:
        STDOUT.print(_summary(record), highlight=False, soft_wrap=True)
    if outcome.left:
        other = "the deadline" if budget.seconds is not None else "another process"
        STDOUT.print(f"Stopped by {budget.reason or other}. Left, for the same command:", highlight=False)
        for spec, number, done in outcome.left:
            STDOUT.print(f"  {spec.name} seed {number}: {done} of {spec.epochs} epochs done", highlight=False)
    if budget.interrupted:
        raise typer.Exit(130)
    if any(record.diverged for record in outcome.records):
        raise typer.Exit(1)


def run_demo(
    task: Annotated[
        DemoTask, typer.Option(help="Images: scikit-learn's digits; language: the help texts of this Python.")
    ] = DemoTask.IMAGES,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records and the picture.")] = pathlib.Path("demo"),
    seeds: Annotated[
        int | None, typer.Option(min=1, max=MOST_SEEDS, help="Runs of each optimizer: by default 5, of language 3.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Train so many epochs instead of 40, of language 8.")
    ] = None,
) -> None:
    """Compare the seven optimizers on a small task: a table and a picture, in a few minutes on a CPU.

    No download. What is recorded under OUT already is not run again.
    """
    with errors_in_one_line():
        chosen = {DemoTask.IMAGES: digits.DIGITS, DemoTask.LANGUAGE: pydoc.EXPERIMENTS}[task]
        specs = [spec if epochs is None else spec.with_epochs(epochs) for spec in chosen]
        from padam_optax.runner.datasets import load_data
        from padam_optax.runner.queue import Budget

        runs = [(spec, number) for spec in specs for number in (range(seeds) if seeds else spec.seeds)]
        budget = Budget()
        outcome = _run_all(runs, lambda spec: load_data(spec, None, ""), out, budget, resume=True, checkpoint_every=0)
    if outcome.left:
        STDOUT.print("Stopped. The same command goes on with what is left.")
        raise typer.Exit(130)
    (suite,) = tables.suites(Results(PAPER, outcome.records))
    STDOUT.print(tables.suite_grid(suite).rich_table())
    picture = figures.training_curves(suite, out / f"{suite.name}.png")
    STDOUT.print(
        f"The curves: {picture}",
        emoji=False,
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    STDOUT.print(
        "A demonstration: so short a training on so small a set shows how far each method has come, not how it"
        " generalises.",
        highlight=False,
    )


def _run_all(
    runs: list[tuple[Experiment, int]],
    load: "Callable[[Experiment], Data]",
    out: pathlib.Path,
    budget: "Budget",
    **options: Any,
) -> "Outcome":
    """Runs one after another under a progress bar that says what runs and how long is left."""
    from padam_optax.cli.devices import ending_together, is_first
    from padam_optax.runner.queue import run_queue

    with Progress(*progress_columns(), console=STDERR, disable=not is_first()) as progress:
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
            if not STDERR.is_terminal and is_first():
                STDERR.print(f"{name}: {to_line(line)}", highlight=False, soft_wrap=True)

        def on_signal(name: str) -> None:
            progress.console.print(f"{name}: stopping with a checkpoint.")

        def on_failure(message: str) -> None:
            STDERR.print(
                "[bold red]Error:[/bold red] A computation with the other processes failed; one may have ended. The"
                f" same commands go on from the last checkpoint. JAX said: {escape(message)}",
                emoji=False,
                highlight=False,
                soft_wrap=True,
            )

        with budget.listening(on_signal), ending_together(on_failure):
            outcome = run_queue(
                runs, load, out, budget, on_start=on_start, on_steps=on_steps, on_epoch=on_epoch, **options
            )
        if not outcome.left:
            progress.update(task, completed=total)
    return outcome


def _summary(record: Record) -> str:
    return f"{record.experiment.name} seed {record.seed}: {to_line(record.metrics[-1])}"
