"""Runs one experiment: trains, evaluates, records, and resumes a stopped run."""

import contextlib
import dataclasses
import functools
import pathlib
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from padam_optax.data.images import DataError
from padam_optax.experiments.spec import Experiment
from padam_optax.paths import expanded
from padam_optax.records.files import StoreError
from padam_optax.records.lock import locked
from padam_optax.records.record import Record, RecordError
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import Data, class_count, make_source
from padam_optax.runner.programs import trainer_for
from padam_optax.runner.provenance import check_same, new_record
from padam_optax.runner.search_space import check_seeds
from padam_optax.runner.tensorboard import discard_events, event_writer
from padam_optax.training import processes
from padam_optax.training.checkpoint import Checkpoints, CheckpointWarning
from padam_optax.training.epoch import Source
from padam_optax.training.loop import TrainState
from padam_optax.training.placement import ONE_DEVICE, Placement

_ANEW = "Put back what is missing, or start anew with --no-resume (resume=False)."


def run(
    experiment: Experiment,
    seed: int,
    data: Data,
    out: str | pathlib.Path,
    *,
    resume: bool = True,
    checkpoint_every: int = 5,
    tensorboard: bool = False,
    workers: int = 0,
    placement: Placement = ONE_DEVICE,
    jobs: int = 1,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
    on_steps: Callable[[int, float], None] = lambda epoch, share: None,
    on_compile: Callable[[bool], None] = lambda under_way: None,
    observe: Callable[[TrainState], Mapping[str, Any]] = lambda state: {},
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Trains one experiment with one seed and records it under `out`.

    With `resume`, a finished run of the same configuration is returned as it is. A run with a checkpoint goes on from
    the newest undamaged one, on CPU bit-equal to an uninterrupted run. A run that was stopped before its first
    checkpoint starts anew, with a `CheckpointWarning`.

    If several processes train together, all call this with an `out` that all can see (this is checked first); the first
    process writes the record.

    Args:
      experiment: What to run.
      seed: Decides the initial parameters, the shuffling and the augmentation; from 0 to 2^31 - 1.
      data: As `datasets.load_data` returns it.
      out: Folder of all records; the run's own is `<out>/<name>/seed-<seed>`.
      resume: Whether to go on from the record that is there; otherwise it is replaced.
      checkpoint_every: Epochs between checkpoints; 0 writes none.
      tensorboard: Whether to write event files for TensorBoard beside the record too.
      workers: Processes that decode images, for data that the host reads.
      placement: Devices that train together, as `placement.across` finds them; by default one.
      jobs: How many runs share the device side by side. The record holds it; a resumed run's, the largest so far.
      on_epoch: Called with each line of the metrics once it is recorded.
      on_steps: Called every few seconds of training with the epoch and the share of it that is done.
      on_compile: Called with True before the initial state or the steps are compiled, and with False after.
      observe: Maps the state after each epoch to further entries of its line, as JSON holds them; such as
        `effective_rates.observer(experiment)`.
      should_stop: Called every few seconds. Once it returns True, in any process, a checkpoint is written (unless
        `checkpoint_every` is 0) and the unfinished record is returned.

    Returns:
      The record. A NaN or an infinity in the loss or the gradients ends the run; its last line then
      holds `diverged_step`, and the last checkpoint before it stays.

    Raises:
      ValueError: If the folder holds a run of another configuration and `resume` is on, there are more devices than
        examples in a batch, or the seed is out of its bounds.
      DataError: If the training examples do not fill one batch.
      RecordError: With `resume`, if the record is damaged, or lacks lines that the checkpoints or its other lines
        require.
      StoreError: If the record cannot be written, another process is running the same experiment and seed, or not all
        processes see the same `out`.
      CheckpointError: If a checkpoint cannot be written, or there are checkpoints but none can be used.
    """
    check_seeds([seed])
    if len(data.train) < experiment.batch_size:
        raise DataError(f"{len(data.train)} training examples do not fill one batch of {experiment.batch_size}.")
    if experiment.batch_size < placement.devices:
        raise ValueError(
            f"{experiment.name}: a batch of {experiment.batch_size} cannot be divided among {placement.devices}"
            " devices; use fewer with --devices."
        )
    if not processes.is_shared(expanded(out)):
        raise StoreError(
            f"{expanded(out).absolute()} is not one folder for all processes: some do not see what process 0 writes"
            " there. --out (out=) must name a folder that they share, such as one of a network file system."
        )
    directory = RunDirectory(out, experiment.name, seed)
    begun = new_record(experiment, seed, data, placement, jobs=jobs)
    record = _recorded(directory, begun) if resume else None
    if record is not None and record.finished:
        return record
    with _alone(directory.path):
        # Read it again: another process may have gone on with the run, or ended it.
        record = _recorded(directory, begun) if resume else None
        if record is not None and record.finished:
            return record
        # No process writes before all have read.
        processes.wait_for_all("record read")
        first = processes.is_first()

        def stopping() -> bool:
            return processes.anywhere(should_stop())

        trainer = trainer_for(experiment, len(data.train), class_count(experiment, data), placement)
        source = make_source(experiment, data, trainer, seed, workers)
        hyperparameters = placement.put_whole(
            {name: jnp.asarray(value, float) for name, value in experiment.hyperparameters.items()}
        )
        traced_seed = placement.put_whole(np.int32(seed))
        on_compile(True)
        state = trainer.init(traced_seed, hyperparameters)
        on_compile(False)
        if record is None or not checkpoint_every:
            # This run starts anew: a later call must not go on from an earlier run's state.
            if first:
                directory.discard_checkpoints()
                discard_events(directory.path)
            processes.wait_for_all("checkpoints discarded")
        with (
            Checkpoints(directory.checkpoints) if checkpoint_every else contextlib.nullcontext() as checkpoints,
            contextlib.ExitStack() as events,
        ):
            restored = None if record is None or checkpoints is None else checkpoints.restore(state)
            if restored is not None:
                state, position = restored
                source.go_to(position)
            if record is not None:
                _check_start(directory.path, record, int(state.epoch), restored is not None, checkpoint_every)
            write_events = _write_nothing
            if record is not None and restored is not None:
                jobs = max(jobs, record.device.jobs)
                begun = dataclasses.replace(begun, device=dataclasses.replace(begun.device, jobs=jobs))
            if first:
                kept = directory.start(begun, int(state.epoch))
                if tensorboard:
                    write_events = events.enter_context(event_writer(directory.path, kept))
            for epoch in range(int(state.epoch) + 1, experiment.epochs + 1):
                began = time.perf_counter()
                trained = source.train_epoch(
                    state, traced_seed, hyperparameters, functools.partial(on_steps, epoch), stopping, on_compile
                )
                state = trained.state
                if trained.nonfinite_step is not None:
                    line = {"epoch": epoch, "diverged_step": source.steps_before(epoch - 1) + trained.nonfinite_step}
                    if first:
                        directory.append(line)
                    on_epoch(line)
                    break
                if trained.metrics is None:
                    if checkpoints is not None:
                        checkpoints.save(_steps_done(state, source), state, source.position)
                    break
                tested = source.evaluate(state, end=epoch == experiment.epochs)
                line = {
                    "epoch": epoch,
                    **{f"train_{name}": value for name, value in trained.metrics.items()},
                    **tested,
                    **observe(state),
                    "learning_rate": experiment.learning_rate(epoch),
                    "seconds": round(time.perf_counter() - began, 4),
                    "examples_per_second": round(trained.examples / trained.seconds, 1) if trained.seconds else None,
                }
                stop = stopping() and epoch < experiment.epochs
                # The metrics come first: resuming can cut lines beyond the checkpoint, but cannot add missing ones.
                if first:
                    directory.append(line)
                if checkpoints is not None and (stop or epoch % checkpoint_every == 0 or epoch == experiment.epochs):
                    checkpoints.save(_steps_done(state, source), state, source.position)
                write_events(line)
                on_epoch(line)
                if stop:
                    break
        processes.wait_for_all("record written")
        record = directory.read()
        assert record is not None
        return record


def _recorded(directory: RunDirectory, begun: Record) -> Record | None:
    """The record of the run that begins, or None; refuses a record of another run."""
    record = directory.read()
    if record is not None:
        check_same(directory.path, record, begun)
    elif directory.has_checkpoints():
        raise RecordError(f"{directory.path} holds checkpoints but no config.json. {_ANEW}")
    return record


@contextlib.contextmanager
def _alone(path: pathlib.Path) -> Generator[None]:
    """Locks the run's folder in the first process; if that fails, no process goes on."""
    with contextlib.ExitStack() as held:
        error = None
        if processes.is_first():
            try:
                held.enter_context(locked(path))
            except StoreError as caught:
                error = caught
        if processes.anywhere(error is not None):
            raise error or StoreError(f"{path} cannot be written; process 0 says why.")
        yield


def _check_start(path: pathlib.Path, record: Record, epoch: int, restored: bool, checkpoint_every: int) -> None:
    """Refuses to start anew, or to go on after `epoch`, if the record shows that something is lost."""
    recorded = [line["epoch"] for line in record.metrics]
    if restored:
        missing = [str(number) for number in range(1, epoch + 1) if number not in recorded]
        if missing:
            raise RecordError(
                f"{path / 'metrics.jsonl'} lacks epoch {', '.join(missing)}, but the checkpoint is of epoch {epoch}."
                f" {_ANEW}"
            )
    elif checkpoint_every and len(recorded) > checkpoint_every:
        raise RecordError(
            f"{path} holds {len(recorded)} epochs but no checkpoint, and there should be one of epoch"
            f" {checkpoint_every}. {_ANEW}"
        )
    elif recorded:
        warnings.warn(
            f"{path} holds {len(recorded)} epochs but no checkpoint: the run starts anew.",
            CheckpointWarning,
            stacklevel=3,
        )


def _write_nothing(line: Mapping[str, Any]) -> None:
    pass


def _steps_done(state: TrainState, source: Source) -> int:
    return source.steps_before(int(state.epoch)) + int(state.step)
