"""Sweeps: many configurations of an experiment in one compiled program, each with a record as `padam run` writes it."""

import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from padam_optax.data.imagenet import ImageFolder
from padam_optax.data.images import DataError
from padam_optax.experiments.spec import Experiment
from padam_optax.paths import expanded
from padam_optax.records.lock import locked
from padam_optax.records.record import Record, SharedProgram
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import Data, arrays, class_count
from padam_optax.runner.programs import trainer_for
from padam_optax.runner.provenance import check_same, new_record
from padam_optax.runner.search_space import check_seeds, check_values, trial_of
from padam_optax.training.lanes import Lanes, LaneStates, Mode, WholeEpochs
from padam_optax.training.loop import Hyperparameters, Metrics

# Values of the hyper-parameters that a sweep varies.
Settings = Mapping[str, float]

# The share of the free memory that a sweep may take.
_SHARE = 0.8
_MOST_LANES = 16
# Estimated memory of a lane on a CPU, in states: the state, its gradients, its updates and the activations.
_CPU_STATES = 6


def train_function(experiment: Experiment, data: Data) -> Callable[[jax.Array, Hyperparameters], Metrics]:
    """The whole training of an experiment as a pure function, for `jax.jit`, `jax.vmap` and sharding of your own.

    Args:
      experiment: What to train. Only the names of its hyper-parameters matter, not their values.
      data: As `datasets.load_data` returns it.

    Returns:
      A function of a seed, int32 scalar, and hyper-parameters, a dictionary of scalars with all the experiment's names.
      It returns the metrics of each epoch, (epochs,), named as in records ("train_loss", "test_error", ...), and
      "diverged_step", the first step whose loss or gradients were not finite, or -1. Under `vmap` all have the same
      leading axes as the arguments.

    Raises:
      ValueError: If the data are a folder that the host reads.

    Examples:
      >>> from padam_optax.experiments import find
      >>> from padam_optax.runner.datasets import load_data
      >>> experiment = find("digits-padam").with_epochs(1)
      >>> train = train_function(experiment, load_data(experiment, None, ""))
      >>> values = {name: jnp.asarray(value) for name, value in experiment.hyperparameters.items()}
      >>> rates = jnp.asarray([0.01, 0.1])
      >>> over_rates = jax.vmap(lambda rate: train(jnp.int32(0), {**values, "learning_rate": rate}))
      >>> jax.eval_shape(over_rates, rates)["test_error"].shape  # jax.jit(over_rates)(rates) trains
      (2, 1)
    """
    training, train, held_out = _training(experiment, data)
    train, held_out = jax.tree.map(jnp.asarray, (train, held_out))
    return functools.partial(training.train, train=train, held_out=held_out)


def objective(
    experiment: Experiment, data: Data, metric: str | None = None
) -> Callable[[jax.Array, Hyperparameters], jax.Array]:
    """Returns `fn(key, hyperparameters) -> scalar`, the form that search libraries take: lower is better.

    Args:
      experiment: What to train. It also gives the hyper-parameters that a call of the function leaves out.
      data: As `datasets.load_data` returns it.
      metric: The function returns the last value of this metric, by default the held-out error or validation
        perplexity, or infinity if the training diverged.

    Examples:
      A search library calls it with values that it chooses:

      >>> from padam_optax.experiments import find
      >>> from padam_optax.runner.datasets import load_data
      >>> experiment = find("digits-padam").with_epochs(1).with_task(held_out=0.2)
      >>> score = jax.jit(objective(experiment, load_data(experiment, None, "")))
      >>> jax.eval_shape(score, jax.random.key(1), {"learning_rate": 0.1}).shape  # score(...) trains
      ()
    """
    train = train_function(experiment, data)
    name = metric or experiment.score_metric

    def score(key: jax.Array, hyperparameters: Hyperparameters) -> jax.Array:
        values = {name: jnp.asarray(value, float) for name, value in experiment.hyperparameters.items()}
        seed = jax.random.bits(key, dtype=jnp.uint32).astype(jnp.int32)
        metrics = train(seed, {**values, **hyperparameters})
        return jnp.where(metrics["diverged_step"] < 0, metrics[name][-1], jnp.inf)

    return score


def default_mode(backend: str, devices: int) -> Mode:
    """The mode for a backend.

    On a CPU, "mapped": arithmetic bounds its time, and benchmarks/speed/sweep.py found this mode the fastest for every
    kind of network. On other backends, where nothing was measured, "vectorized". With several devices, "sharded".
    """
    if devices > 1:
        return "sharded"
    return "mapped" if backend == "cpu" else "vectorized"


@dataclasses.dataclass
class _Trial:
    """A configuration with a seed, and its metrics so far."""

    experiment: Experiment
    seed: int
    directory: RunDirectory
    lines: list[dict[str, Any]]
    over: bool
    state: Any = None

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line to the record."""
        self.directory.append(line)
        self.lines.append(line)

    def end(self, line: dict[str, Any]) -> None:
        """Adds the line that ends a run early."""
        self.write(line)
        self.over = True

    def score(self, metric: str, epoch: int) -> float:
        """The metric after an epoch; infinite if the run has diverged."""
        return next((line[metric] for line in self.lines if line["epoch"] == epoch and metric in line), math.inf)


OnEpoch = Callable[[Experiment, int, dict[str, Any]], None]


class Sweeper:
    """Trains any number of configurations of an experiment, over any number of calls, in one program compiled once.

    A run with a finished record is not run again; a run that was cut off starts anew. A run whose loss or gradients
    are NaN or infinite is recorded as diverged.

    Args:
      experiment: What to train.
      data: As `datasets.load_data` returns it.
      out: Folder of the records, each as `<out>/<name>@<settings>/seed-<n>`.
      mode: How lanes share the program, see `lanes.Lanes`; by default `default_mode`. It is part of the records.
      batch_configs: How many runs train at once; by default as many as the device's free memory holds, 16 at most, and
        no more than there are to train when the program is compiled.
      on_epoch: Called with each run's experiment, seed and line of metrics once it is recorded.
      on_compile: Called with True before the program is compiled, and with False after.
      should_stop: Called after each epoch. If it returns True, training stops; a later call trains the runs under way
        anew.
    """

    def __init__(
        self,
        experiment: Experiment,
        data: Data,
        out: str | pathlib.Path,
        *,
        mode: Mode | None = None,
        batch_configs: int | None = None,
        on_epoch: OnEpoch = lambda experiment, seed, line: None,
        on_compile: Callable[[bool], None] = lambda under_way: None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self._experiment = experiment
        self._data = data
        self._out = expanded(out)
        self._mode: Mode | None = mode
        self._batch_configs = batch_configs
        self._on_epoch = on_epoch
        self._on_compile = on_compile
        self._should_stop = should_stop
        self._engine: Lanes | None = None
        self._is_alone = False
        self.metric = experiment.score_metric

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Keeps other sweeps and searches of the experiment out of the folder; `train` does so by itself.

        Raises:
          StoreError: If one is under way already; the message names its process.
        """
        if self._is_alone:
            yield
            return
        with locked(self._out, self._experiment.name):
            self._is_alone = True
            try:
                yield
            finally:
                self._is_alone = False

    def train(
        self,
        configurations: Sequence[Settings],
        seeds: Sequence[int],
        *,
        halving: int | None = None,
        give_up: Callable[[int, float], bool] = lambda epoch, score: False,
    ) -> list[Record]:
        """Trains every configuration with every seed.

        Args:
          configurations: Values for some hyper-parameters; the others are the experiment's.
          seeds: Each configuration has one run with each seed.
          halving: If N, successive halving: after 1/N^k of the epochs, ..., 1/N of them, only the best 1/N of the
            configurations (by the mean over seeds of `metric`) go on. The others' records end there.
          give_up: Called after each epoch but the last for the runs that train at once, with the epoch and the mean of
            `metric` over them. If it returns True, their records end there.

        Returns:
          All records that exist, configuration after configuration.

        Raises:
          ValueError: If there is no configuration, a value is out of its bounds, `halving` is below 2, a folder holds
            another run, or memory runs out; the message then names `batch_configs`.
          StoreError: If the records cannot be written, or another process sweeps the experiment in the same folder.
        """
        if not configurations or not seeds:
            raise ValueError("A sweep needs one configuration and one seed or more.")
        check_seeds(seeds)
        if halving is not None and halving < 2:
            raise ValueError(f"halving must be 2 or more, got {halving}.")
        for chosen in configurations:
            for name, value in chosen.items():
                check_values(self._experiment, name, [value])
        with self.alone():
            return self._train_all(configurations, seeds, halving, give_up)

    def _train_all(
        self,
        configurations: Sequence[Settings],
        seeds: Sequence[int],
        halving: int | None,
        give_up: Callable[[int, float], bool],
    ) -> list[Record]:
        runs = [[self._open(chosen, seed, resume=halving is None) for seed in seeds] for chosen in configurations]
        rungs = _rungs(self._experiment.epochs, len(configurations), halving)
        alive = list(range(len(configurations)))
        for start, stop in zip((0, *rungs), rungs, strict=False):
            pending = [run for index in alive for run in runs[index] if not run.over and len(run.lines) < stop]
            if pending and not self._train(pending, start, stop, give_up, keep=stop < rungs[-1]):
                break
            if stop < rungs[-1]:
                assert halving is not None
                alive = _survivors(runs, alive, self.metric, stop, halving)
        records = (run.directory.read() for group in runs for run in group)
        return [record for record in records if record is not None]

    def _open(self, chosen: Settings, seed: int, *, resume: bool) -> _Trial:
        """The trial of a run with its record, if there is one; `resume`: whether a run that was given up goes on."""
        own = dataclasses.replace(trial_of(self._experiment, chosen), seeds=(seed,))
        directory = RunDirectory(self._out, own.name, seed)
        record = directory.read()
        if record is not None:
            check_same(directory.path, record, new_record(own, seed, self._data))
            if record.finished and not (record.given_up and resume):
                return _Trial(own, seed, directory, record.metrics, over=True)
        return _Trial(own, seed, directory, [], over=False)

    def _train(
        self, pending: list[_Trial], start: int, stop: int, give_up: Callable[[int, float], bool], *, keep: bool
    ) -> bool:
        """Trains runs from epoch `start` to `stop`, as many at once as there are lanes; returns False if stopped."""
        try:
            if self._engine is None:
                self._engine = self._compile(len(pending))
            for first in range(0, len(pending), self._engine.size):
                batch = pending[first : first + self._engine.size]
                if not self._train_batch(self._engine, batch, start, stop, give_up, keep=keep):
                    return False
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            size = self._batch_configs if self._engine is None else self._engine.size
            raise ValueError(f"Out of memory with {size} runs at once: give a smaller --batch-configs.") from error
        return True

    def _compile(self, pending: int) -> Lanes:
        self._on_compile(True)
        engine = _lanes(self._experiment, self._data, self._mode, self._batch_configs, pending)
        engine.compile(engine.init([0], [self._experiment.hyperparameters]))
        self._on_compile(False)
        return engine

    def _train_batch(
        self,
        engine: Lanes,
        batch: list[_Trial],
        start: int,
        stop: int,
        give_up: Callable[[int, float], bool],
        *,
        keep: bool,
    ) -> bool:
        running = engine.init([run.seed for run in batch], [run.experiment.hyperparameters for run in batch])
        if start == 0:
            shared = SharedProgram(engine.mode, engine.size)
            for run in batch:
                run.directory.start(new_record(run.experiment, run.seed, self._data, sweep=shared), 0)
        else:
            _put_states(running, batch)
        for epoch in range(start, stop):
            active = [lane for lane, run in enumerate(batch) if not run.over]
            if not active:
                break
            began = time.perf_counter()
            metrics, nonfinite = engine.epoch(running, epoch, active)
            seconds = (time.perf_counter() - began) / len(active)
            for lane in active:
                run = batch[lane]
                if nonfinite[lane] >= 0:
                    run.end({"epoch": epoch + 1, "diverged_step": engine.steps_before(epoch) + int(nonfinite[lane])})
                else:
                    run.write(
                        {
                            "epoch": epoch + 1,
                            **{name: float(values[lane]) for name, values in metrics.items()},
                            "learning_rate": run.experiment.learning_rate(epoch + 1),
                            # This lane's share of the time of all lanes.
                            "seconds": round(seconds, 4),
                            "examples_per_second": None,
                        }
                    )
                self._on_epoch(run.experiment, run.seed, run.lines[-1])
            score = statistics.fmean(run.score(self.metric, epoch + 1) for run in batch)
            if epoch + 1 < self._experiment.epochs and give_up(epoch + 1, score):
                for run in (run for run in batch if not run.over):
                    run.end({"epoch": epoch + 1, "given_up": "pruning"})
            if self._should_stop():
                return False
        if keep:
            _take_states(running, batch)
        return True


def sweep(
    experiment: Experiment,
    configurations: Sequence[Settings],
    seeds: Sequence[int],
    data: Data,
    out: str | pathlib.Path,
    *,
    halving: int | None = None,
    **options: Any,
) -> list[Record]:
    """Trains every configuration with every seed: `Sweeper(experiment, data, out, **options).train(...)`."""
    return Sweeper(experiment, data, out, **options).train(configurations, seeds, halving=halving)


def _training(experiment: Experiment, data: Data) -> tuple[WholeEpochs, Any, Any]:
    if isinstance(data, ImageFolder):
        raise ValueError(f"{experiment.name} reads its images from a folder; a sweep needs data that the device holds.")
    if len(data.train) < experiment.batch_size:
        raise DataError(f"{len(data.train)} training examples do not fill one batch of {experiment.batch_size}.")
    trainer = trainer_for(experiment, len(data.train), class_count(experiment, data))
    train, held_out = arrays(experiment, data)
    return WholeEpochs(trainer, experiment.epochs), train, held_out


def _rungs(epochs: int, configurations: int, halving: int | None) -> list[int]:
    """The epochs at which configurations are given up, and the last one."""
    if halving is None:
        return [epochs]
    count = int(math.log(configurations, halving) + 1e-9)
    return sorted({max(1, round(epochs / halving**power)) for power in range(count + 1)})


def _lanes(experiment: Experiment, data: Data, mode: Mode | None, batch_configs: int | None, pending: int) -> Lanes:
    devices = jax.devices()
    mode = mode or default_mode(devices[0].platform, len(devices))
    training, train, held_out = _training(experiment, data)
    size = batch_configs or min(_MOST_LANES, _that_fit(training, train, held_out, experiment))
    shares = len(devices) if mode == "sharded" else 1
    size = min(size, pending)
    return Lanes(training, train, held_out, -(-size // shares) * shares, mode)


def _that_fit(training: WholeEpochs, train: Any, held_out: Any, experiment: Experiment) -> int:
    """How many lanes the free memory of a device holds."""
    values = {name: jnp.asarray(value, float) for name, value in experiment.hyperparameters.items()}
    state = jax.eval_shape(training.init, jnp.int32(0), values)
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    data_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves((train, held_out)))
    device = jax.devices()[0]
    if device.platform == "cpu":
        free, a_lane = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), _CPU_STATES * state_bytes
    else:
        one = Lanes(training, train, held_out, 1, "vectorized")
        statistics_ = device.memory_stats() or {}
        free = statistics_.get("bytes_limit", 0) - statistics_.get("bytes_in_use", 0)
        a_lane = one.memory_bytes(one.init([0], [experiment.hyperparameters])) - data_bytes
    return max(1, int((_SHARE * free - data_bytes) / max(a_lane, 1)))


def _take_states(running: LaneStates, batch: Sequence[_Trial]) -> None:
    """Keeps the states of the lanes on the host until their runs go on."""
    states = jax.device_get(running.states)
    for lane, run in enumerate(batch):
        run.state = None if run.over else jax.tree.map(lambda leaf, lane=lane: leaf[lane], states)


def _put_states(running: LaneStates, batch: Sequence[_Trial]) -> None:
    filled = [*(run.state for run in batch), *[batch[-1].state] * (len(running.seeds) - len(batch))]
    running.states = jax.tree.map(
        lambda old, *new: jax.device_put(np.stack(new), old.sharding), running.states, *filled
    )


def _survivors(
    runs: Sequence[Sequence[_Trial]], alive: Iterable[int], metric: str, epoch: int, halving: int
) -> list[int]:
    """The best 1/halving of the configurations after an epoch; the records of the others end there."""
    ranked = sorted(alive, key=lambda index: statistics.fmean(run.score(metric, epoch) for run in runs[index]))
    kept = -(-len(ranked) // halving)
    for index in ranked[kept:]:
        for run in runs[index]:
            run.state = None
            if not run.over:
                run.end({"epoch": epoch, "given_up": "halving"})
    return sorted(ranked[:kept])
