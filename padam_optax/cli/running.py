"""`padam run`: which experiments, with what options, and what is said at the end."""

import dataclasses
import enum
import pathlib
from typing import TYPE_CHECKING, Annotated

import typer

from padam_optax.cli.console import STDERR, STDOUT
from padam_optax.cli.select import FigureOption, TableOption, selected
from padam_optax.cli.training import run_all, summary
from padam_optax.experiments.spec import Experiment
from padam_optax.runner.search_space import LARGEST_SEED, MOST_SEEDS

if TYPE_CHECKING:  # It imports flax and orbax, which --help and reports can do without.
    from padam_optax.runner.datasets import Data


class UnknownWords(enum.Enum):
    """The choices of --unknown-words."""

    RAISE = "raise"
    REPLACE = "replace"


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
    deadline, Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and a pipe that nobody reads any more leave a checkpoint. Several devices
    divide each batch among them. Several processes train together where each runs this command; OUT is a folder that
    all of them see, and process 0 writes and prints.
    """
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
        outcome = run_all(
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
        STDOUT.print(summary(record), emoji=False, highlight=False, markup=False, soft_wrap=True)
    if outcome.left:
        other = "the deadline" if budget.seconds is not None else "another process"
        STDOUT.print(f"Stopped by {budget.reason or other}. Left, for the same command:", highlight=False)
        for spec, number, done in outcome.left:
            STDOUT.print(f"  {spec.name} seed {number}: {done} of {spec.epochs} epochs done", highlight=False)
    if budget.interrupted:
        raise typer.Exit(130)
    if any(record.diverged for record in outcome.records):
        raise typer.Exit(1)
