"""`padam run`: reads the options, runs the experiments, and prints the results."""

import enum
import functools
import pathlib
from typing import Annotated, Any, TypeAlias

import typer

from padam_optax.cli.console import STDERR, STDOUT, existing
from padam_optax.cli.requests import Request, read_queue
from padam_optax.cli.select import CacheOption, FigureOption, TableOption
from padam_optax.cli.training import run_all, run_jobs, summary
from padam_optax.experiments.spec import Experiment
from padam_optax.records.store import read_all
from padam_optax.runner.search_space import LARGEST_SEED, MOST_JOBS, MOST_SEEDS

_Pending: TypeAlias = tuple[Request, list[tuple[Experiment, int]]]


class UnknownWords(enum.Enum):
    """The choices of --unknown-words."""

    RAISE = "raise"
    REPLACE = "replace"


def run(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Experiments, or patterns such as 'cifar10-vgg16-*'; `padam list` shows all."
        ),
    ] = None,
    table: TableOption = None,
    figure: FigureOption = None,
    data_dir: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder with the data set's files (CIFAR: the binary version; text: train.txt, valid.txt, test.txt);"
            " by default the fetched files."
        ),
    ] = None,
    data_label: Annotated[
        str, typer.Option(help="Name under which results on these files are reported, such as cifar10-jpeg.")
    ] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the records.")] = pathlib.Path("runs"),
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs; the schedule keeps its shape.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, max=LARGEST_SEED, help="Seed; may be given several times. By default 0.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, max=MOST_SEEDS, help="Seeds 0 to N-1, one run each.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype of activations: float32 or bfloat16.")] = None,
    moment_dtype: Annotated[
        str | None,
        typer.Option(help="Dtype of Padam's and AMSGrad's moments: float32, bfloat16 or bfloat16-nearest."),
    ] = None,
    queue: Annotated[
        pathlib.Path | None,
        typer.Option(
            metavar="FILE",
            help="Run what a file lists. A line has the words that follow `padam run`, such as names, --seed and"
            " --data-dir. Finished runs are skipped.",
        ),
    ] = None,
    recorded: Annotated[
        list[pathlib.Path] | None,
        typer.Option(
            metavar="RECORDS",
            parser=existing,
            help="Skip runs recorded there too: a folder, or a file of `padam pack`. May be given several times.",
        ),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_JOBS,
            metavar="N",
            help="Run N at once on one device, each in its own process with a share of the memory and the cores.",
        ),
    ] = 1,
    deadline: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds after which to stop, with a checkpoint; begin no run that cannot finish."),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the runs that are there, or replace them.")] = True,
    checkpoint_every: Annotated[int, typer.Option(min=0, help="Epochs between checkpoints; 0 writes none.")] = 5,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard beside each record.")
    ] = False,
    cache_dir: CacheOption = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode images (ImageNet); 0: threads.")] = 0,
    unknown_words: Annotated[
        UnknownWords, typer.Option(help="Words that the training text lacks: raise an error, or replace by <unk>.")
    ] = UnknownWords.RAISE,
    devices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of devices (of each process) that train together; by default all that JAX shows."
        ),
    ] = None,
    shard_optimizer: Annotated[
        bool,
        typer.Option("--shard-optimizer", help="Divide the optimizer's state among the devices too, to save memory."),
    ] = False,
    distributed: Annotated[
        bool,
        typer.Option(
            "--distributed", help="Train together with the processes that SLURM, Cloud TPU, Kubernetes or MPI started."
        ),
    ] = False,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address of process 0, if you start the processes by hand.")
    ] = None,
    process: Annotated[
        str | None, typer.Option(metavar="I/N", help="This is process I, from 0, of N that you start by hand.")
    ] = None,
) -> None:
    """Train experiments and record them under OUT/NAME/seed-SEED.

    A stopped run goes on from its last checkpoint, on other devices too; a finished run is not run again. The deadline,
    Ctrl-C, SIGTERM, SIGHUP, SIGUSR1 and a pipe that nobody reads any more stop a run with a checkpoint. Several devices
    divide each batch among them. Several processes train together if each runs this command; OUT is a folder that all
    of them see, and process 0 writes and prints. With --jobs, a run that fails or diverges does not stop others.
    """
    request = Request(
        names=names or [],
        table=table,
        figure=figure,
        seed=seed or [],
        seeds=seeds,
        epochs=epochs,
        dtype=dtype,
        moment_dtype=moment_dtype,
        data_dir=data_dir,
        data_label=data_label,
        unknown_words=unknown_words.value,
        out=out,
        jobs=jobs,
    )
    if queue is not None and (names or table is not None or figure is not None):
        raise ValueError("--queue says what to run: leave out names, --table and --figure.")
    requests = [request] if queue is None else read_queue(queue, request)
    if not any(each.runs() for each in requests):
        raise ValueError("Name an experiment, or choose some with --table or --figure; `padam list` shows all.")
    several = any(each.jobs > 1 for each in requests)
    if several and (devices is not None or shard_optimizer or distributed or coordinator or process):
        raise ValueError("--jobs is for one device: leave out --devices, --shard-optimizer and other processes.")
    from padam_optax.runner.compiled import keep_programs
    from padam_optax.runner.datasets import load_data
    from padam_optax.runner.queue import Budget, Outcome, not_done

    options: dict[str, Any] = {"resume": resume, "checkpoint_every": checkpoint_every, "tensorboard": tensorboard}
    options["workers"] = workers
    keep_programs(cache_dir)
    if not several:
        from padam_optax.cli.devices import choose_devices, is_first

        options["placement"] = choose_devices(
            devices,
            shard_optimizer=shard_optimizer,
            distributed=distributed,
            coordinator=coordinator,
            process=process,
        )
        STDOUT.quiet = not is_first()
    known = [record for path in recorded or () for record in read_all(path)]
    pending = [(each, each.runs()) for each in requests]
    if several:
        pending = _each_once(pending)
    if queue is not None or recorded:
        listed = sum(len(runs) for _, runs in pending)
        pending = [(each, not_done(runs, each.out, known, each.data_label)) for each, runs in pending]
        skipped = listed - sum(len(runs) for _, runs in pending)
        STDOUT.print(f"Recorded already, and skipped: {skipped} runs.", highlight=False)
        pending = [(each, runs) for each, runs in pending if runs]
    budget = Budget(deadline)
    outcome = Outcome([], [])
    with budget.listening(lambda name: STDERR.print(f"{name}: stopping once the data are read.")):
        # Errors in the data are reported before anything trains. A queue may be long: its first line is enough.
        for each, runs in pending if queue is None else pending[:1]:
            for spec in {spec.name: spec for spec, _ in runs}.values():
                load_data(spec, **each.data)
        if several and pending:
            outcome = run_jobs(pending, budget, options, context.obj or [], cache_dir)
        else:
            for each, runs in pending:
                load = functools.partial(load_data, **each.data)
                outcome = outcome.and_then(run_all(runs, load, each.out, budget, **options))
    for record in outcome.records:
        STDOUT.print(summary(record), emoji=False, highlight=False, markup=False, soft_wrap=True)
    for spec, number, message in outcome.failed:
        STDOUT.print(f"{spec.name} seed {number}: failed: {message}", highlight=False, markup=False, soft_wrap=True)
    if outcome.left:
        other = "the deadline" if budget.seconds is not None else "another process"
        STDOUT.print(f"Stopped by {budget.reason or other}. The same command does what is left:", highlight=False)
        for spec, number, done in outcome.left:
            STDOUT.print(f"  {spec.name} seed {number}: {done} of {spec.epochs} epochs done", highlight=False)
    if budget.interrupted:
        raise typer.Exit(130)
    if outcome.failed:
        raise typer.Exit(2)
    if any(record.diverged for record in outcome.records):
        raise typer.Exit(1)


def _each_once(pending: list[_Pending]) -> list[_Pending]:
    """Leaves out runs that an earlier line lists: side by side, a second run of them would be refused."""
    seen: set[tuple[pathlib.Path, str, int]] = set()
    once: list[_Pending] = []
    for request, runs in pending:
        fresh = [(spec, seed) for spec, seed in runs if (request.out, spec.name, seed) not in seen]
        seen.update((request.out, spec.name, seed) for spec, seed in fresh)
        once.append((request, fresh))
    return once
