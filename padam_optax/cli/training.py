"""Runs experiments one after another or side by side, under progress bars, for `padam run` and `padam demo`."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import Progress, TaskID

from padam_optax.cli.console import STDERR, stop_at_once, to_line
from padam_optax.cli.progress import Part, TimeLeft, progress_columns
from padam_optax.experiments.spec import Experiment
from padam_optax.records.record import Record
from padam_optax.records.store import RunDirectory

if TYPE_CHECKING:  # These import flax and orbax, which --help and reports can do without.
    from padam_optax.cli.requests import Request
    from padam_optax.runner.datasets import Data
    from padam_optax.runner.queue import Budget, Outcome


def run_all(
    runs: list[tuple[Experiment, int]],
    load: "Callable[[Experiment], Data]",
    out: pathlib.Path,
    budget: "Budget",
    *,
    checkpoint_every: int,
    **options: Any,
) -> "Outcome":
    """Does runs one after another under a progress bar that shows the run and the time left."""
    from padam_optax.cli.devices import ending_together, is_first
    from padam_optax.runner.queue import run_queue

    with Progress(*progress_columns(), console=STDERR, disable=not is_first()) as progress:
        left = TimeLeft([Part.of(spec) for spec, _ in runs])
        task = progress.add_task("", total=sum(spec.epochs for spec, _ in runs), left=left)
        places, total = {}, 0
        for number, (spec, seed) in enumerate(runs):
            places[spec.name, seed] = number, total
            total += spec.epochs
        name, before = "", 0
        directory: RunDirectory | None = None

        def on_start(spec: Experiment, seed: int) -> None:
            nonlocal name, before, directory
            directory = RunDirectory(out, spec.name, seed)
            name = f"{spec.name} seed {seed}"
            number, before = places[spec.name, seed]
            left.begin(number)
            progress.update(task, description=name, completed=before)

        def check_output() -> None:
            if STDERR.failure is not None:
                budget.stop("a failure of its output")

        def on_compile(under_way: bool) -> None:
            progress.update(task, description=_described(name, under_way))

        def on_steps(epoch: int, share: float) -> None:
            left.steps(epoch, share)
            progress.update(task, completed=before + epoch - 1 + share)
            check_output()

        def on_epoch(line: dict[str, Any]) -> None:
            left.epochs(line["epoch"])
            progress.update(task, completed=before + line["epoch"])
            if not STDERR.is_terminal and is_first():
                STDERR.print(f"{name}: {to_line(line)}", highlight=False, soft_wrap=True)
            check_output()

        def on_signal(name: str) -> None:
            progress.console.print(f"{name}: stopping{' with a checkpoint' if checkpoint_every else ''}.")

        def on_failure(message: str) -> None:
            STDERR.print(
                "[bold red]Error:[/bold red] A computation with the other processes failed; one may have ended. The"
                f" same commands go on from the last checkpoint. JAX said: {escape(message)}",
                emoji=False,
                highlight=False,
                soft_wrap=True,
            )

        try:
            with budget.listening(on_signal), ending_together(on_failure):
                outcome = run_queue(
                    runs,
                    load,
                    out,
                    budget,
                    on_start=on_start,
                    on_compile=on_compile,
                    on_steps=on_steps,
                    on_epoch=on_epoch,
                    checkpoint_every=checkpoint_every,
                    **options,
                )
        except KeyboardInterrupt:
            goes_on = directory is not None and directory.has_checkpoints()
            where = f"goes on from the last checkpoint of {name}" if goes_on else "starts anew, without a checkpoint"
            stop_at_once(f"The same command {where}.")
        if not outcome.left:
            progress.update(task, completed=total)
    return outcome


def run_jobs(
    requests: "Sequence[tuple[Request, Sequence[tuple[Experiment, int]]]]",
    budget: "Budget",
    options: Mapping[str, Any],
    imports: Sequence[str],
    programs: pathlib.Path | None,
) -> "Outcome":
    """Does several runs at once, each with its own progress bar, or with its own lines if there is no terminal."""
    from padam_optax.runner.jobs import Job, mps_is_on, run_side_by_side

    jobs = [
        Job(spec, seed, request.out.absolute(), request.jobs, request.data, options)
        for request, runs in requests
        for spec, seed in runs
    ]
    mps = mps_is_on()
    if mps is not None:
        state = "on: the runs share the GPU" if mps else "off: the runs take turns on the GPU, see the guide"
        STDERR.print(f"CUDA MPS is {state}.", highlight=False)
    with Progress(*progress_columns(), console=STDERR) as progress:
        bars: dict[tuple[str, int], tuple[TaskID, TimeLeft]] = {}
        measured: dict[str, tuple[float, float]] = {}

        def on_event(spec: Experiment, seed: int, event: Mapping[str, Any]) -> None:
            name = f"{spec.name} seed {seed}"
            if "start" in event:
                left = TimeLeft([Part.of(spec)], measured)
                bars[spec.name, seed] = progress.add_task(name, total=spec.epochs, left=left), left
            elif "compile" in event:
                progress.update(bars[spec.name, seed][0], description=_described(name, event["compile"]))
            elif "steps" in event:
                epoch, share = event["steps"]
                bar, left = bars[spec.name, seed]
                left.steps(epoch, share)
                progress.update(bar, completed=epoch - 1 + share)
            elif "epoch" in event:
                line = event["epoch"]
                bar, left = bars[spec.name, seed]
                left.epochs(line["epoch"])
                progress.update(bar, completed=line["epoch"])
                if not STDERR.is_terminal:
                    STDERR.print(f"{name}: {to_line(line)}", highlight=False, soft_wrap=True)
            elif "end" in event:
                if ended := bars.pop((spec.name, seed), None):
                    progress.remove_task(ended[0])
            else:
                colour, text = ("yellow", "Warning") if "warning" in event else ("red", "Error")
                message = escape(event.get("warning", event.get("error", "")))
                STDERR.print(
                    f"[bold {colour}]{text}:[/bold {colour}] {name}: {message}",
                    emoji=False,
                    highlight=False,
                    soft_wrap=True,
                )
            if STDERR.failure is not None:
                budget.stop("a failure of its output")

        def on_signal(name: str) -> None:
            STDERR.print(f"{name}: all stop{' with a checkpoint' if options['checkpoint_every'] else ''}.")

        try:
            with budget.listening(on_signal):
                return run_side_by_side(jobs, budget, imports=imports, programs=programs, on_event=on_event)
        except KeyboardInterrupt:
            stop_at_once("The same command goes on from the last checkpoint of each run that has one.")


def _described(name: str, compiles: bool) -> str:
    return f"{name}: compiling" if compiles else name


def summary(record: Record) -> str:
    return f"{record.experiment.name} seed {record.seed}: {to_line(record.metrics[-1])}"
