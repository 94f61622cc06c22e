"""Records of runs that never were, to test the report on: whole specifications, numbers that a test chooses."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping

from padam_optax.experiments.paper import PAPER_METHODS, PaperRow, PaperTable
from padam_optax.experiments.spec import Experiment, PaperResult
from padam_optax.records.record import DataSource, Device, Record
from padam_optax.records.store import RunDirectory, read_all
from padam_optax.report.results import Paper

DEVICE = "abacus"


def small(optimizer: str, *, suite: str = "small", dataset: str = "cifar10", epochs: int = 3, **options) -> Experiment:
    """An experiment of few epochs."""
    settings = {"learning_rate": 0.1} | ({"p": 0.125} if optimizer == "padam" else {})
    values = {"model": "small-cnn", "dataset": dataset, "hyperparameters": settings, "milestones": (2,)} | options
    return Experiment(name=f"{suite}-{optimizer}", suite=suite, optimizer=optimizer, epochs=epochs, **values)


def trial(spec: Experiment, **chosen: float) -> Experiment:
    """A run of a search for an experiment's settings."""
    name = f"{spec.name}@{','.join(f'{setting}={value:g}' for setting, value in chosen.items())}"
    settings = {**spec.hyperparameters, **chosen}
    return dataclasses.replace(
        spec, name=name, hyperparameters=settings, variant_of=spec.name, trial=tuple(chosen), paper=()
    )


# One table of one row, 90 for SGD, 1 more for each later method; a sweep of three values of p; one suite of ours.
_VALUES = tuple(90.0 + number for number in range(len(PAPER_METHODS)))
_CELLS = [
    small(optimizer, paper=(PaperResult("test_error", value, 1),))
    for optimizer, value in zip(PAPER_METHODS, _VALUES, strict=True)
]
SWEEP = [
    dataclasses.replace(
        _CELLS[-1],
        name=f"small-padam-{name}",
        hyperparameters={"learning_rate": 0.1, "p": p},
        variant_of="small-padam",
        paper=(),
    )
    for name, p in (("p1_4", 0.25), ("p1_16", 0.0625))
]
SMALL = Paper(
    {1: PaperTable("Test accuracy (%) after 3 epochs", (PaperRow("small", "Net", "test_error", _VALUES),))},
    {spec.name: spec for spec in (*_CELLS, *SWEEP, *(small(optimizer, suite="ours") for optimizer in PAPER_METHODS))},
    (_CELLS[-1], *SWEEP),
)


def flat(**metrics: float) -> Callable[[int], dict[str, float]]:
    """The same metrics in each epoch."""
    return lambda epoch: metrics


def write(
    out: pathlib.Path,
    spec: Experiment,
    seed: int,
    metrics: Callable[[int], dict[str, float]],
    *,
    label: str | None = None,
    device: str = DEVICE,
    done: int | None = None,
    diverged: bool = False,
) -> None:
    """Records a run whose epochs' metrics are what `metrics` says, on the specification's own data by default.

    `done` epochs are recorded, all by default; with `diverged` the next one ends the run.
    """
    directory = RunDirectory(out, spec.name, seed)
    directory.start(Record(spec, seed, DataSource(label or spec.dataset), Device(device)), 0)
    done = spec.epochs if done is None else done
    lines = [{"epoch": epoch, **metrics(epoch)} for epoch in range(1, done + 1)]
    if diverged:
        lines.append({"epoch": done + 1, "diverged_step": 7 * done})
    # At once: `RunDirectory.append` waits for the disk at each line.
    (directory.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def records(
    out: pathlib.Path, spec: Experiment, errors: Iterable[float] | Mapping[int, float], **options
) -> list[Record]:
    """Records one run a test error, by seed or with seeds from 0; returns all records in the folder."""
    by_seed = errors if isinstance(errors, Mapping) else dict(enumerate(errors))
    for seed, error in by_seed.items():
        write(out, spec, seed, flat(test_error=error, train_loss=0.5, seconds=2.0), **options)
    return read_all(out)
