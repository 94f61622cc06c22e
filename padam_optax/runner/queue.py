"""Runs experiments one after another until they are done, time is up, or a stop is asked for."""

import contextlib
import dataclasses
import pathlib
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from padam_optax.experiments.spec import Experiment, Role
from padam_optax.paths import expanded
from padam_optax.records.record import Record
from padam_optax.records.store import RunDirectory, read_all
from padam_optax.runner.datasets import Data
from padam_optax.runner.run import run
from padam_optax.training import processes
from padam_optax.training.placement import ONE_DEVICE, Placement

# Signals that ask for a stop: Ctrl-C, a terminal or connection that goes away, and those that clusters send.
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]


class Budget:
    """When to stop: after a number of seconds, on a signal, or when asked to.

    Args:
      seconds: Wall-clock time, or None for no limit.
      spent: Seconds of it that are over already.
    """

    def __init__(self, seconds: float | None = None, spent: float = 0.0):
        self.seconds = seconds
        self._began = time.monotonic() - spent
        self._signal: signal.Signals | None = None
        self._asked: str | None = None

    @property
    def left(self) -> float:
        """Seconds left; infinite without a limit."""
        return float("inf") if self.seconds is None else self.seconds - (time.monotonic() - self._began)

    @property
    def reason(self) -> str | None:
        """Why to stop now, or None."""
        if self._signal is not None:
            return self._signal.name
        return self._asked or ("the deadline" if self.left <= 0 else None)

    def stop(self, reason: str) -> None:
        """Asks for a stop."""
        self._asked = reason

    @property
    def interrupted(self) -> bool:
        """Whether SIGINT (Ctrl-C) came."""
        return self._signal is signal.SIGINT

    @contextlib.contextmanager
    def listening(self, on_signal: Callable[[str], None] = lambda name: None) -> Generator[None]:
        """Takes SIGTERM, SIGHUP, SIGUSR1 and SIGINT as a request to stop; a second SIGINT raises KeyboardInterrupt.

        If SIGHUP is ignored, as under `nohup`, it stays ignored.

        Args:
          on_signal: Called with the name of each signal when it first comes. It runs at once, in a thread of its own:
            the program may be busy for seconds with work that cannot be interrupted.
        """

        def handle(number: int, frame: object) -> None:
            if self.interrupted and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = signal.Signals(number)

        ignored = {getattr(signal, "SIGHUP", None)} if _hangups_are_ignored() else set()
        numbers = [number for number in _SIGNALS if number not in ignored]
        with _told_at_once(numbers, on_signal):
            before = {number: signal.signal(number, handle) for number in numbers}
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)


def _hangups_are_ignored() -> bool:
    return hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@contextlib.contextmanager
def _told_at_once(numbers: Sequence[int], tell: Callable[[str], None]) -> Generator[None]:
    """Reports signals from a thread: Python's handlers wait for the main thread, which may be in a compiled program."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def listen() -> None:
        told: set[int] = set()
        while received := reader.recv(64):
            for number in received:
                if number in numbers and number not in told:
                    told.add(number)
                    tell(signal.Signals(number).name)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a queue.

    Attributes:
      records: Records of the runs that ended, in the queue's order.
      left: Experiment, seed and epochs done of each run that was stopped or not begun.
      failed: Experiment, seed and message of each run that ended with an error, if runs go side by side.
    """

    records: list[Record]
    left: list[tuple[Experiment, int, int]]
    failed: list[tuple[Experiment, int, str]] = dataclasses.field(default_factory=list)

    def and_then(self, other: "Outcome") -> "Outcome":
        """The result of this queue and the next one together."""
        return Outcome(self.records + other.records, self.left + other.left, self.failed + other.failed)


def not_done(
    runs: Iterable[tuple[Experiment, int]], out: str | pathlib.Path, known: Iterable[Record] = (), data_label: str = ""
) -> list[tuple[Experiment, int]]:
    """Those of `runs` that have no finished record of the same experiment with the same seed.

    Args:
      runs: Experiments and seeds.
      out: Folder of records.
      known: Other records, such as those of a packed file. They count if they are on the same data.
      data_label: Label of the runs' data; "" for the data sets' own names.
    """
    elsewhere = {(record.experiment.name, record.seed, record.data.label): record for record in known}
    left: list[tuple[Experiment, int]] = []
    for experiment, seed in runs:
        records = (
            RunDirectory(out, experiment.name, seed).read(),
            elsewhere.get((experiment.name, seed, data_label or experiment.dataset)),
        )
        wanted = experiment.fields(Role.RESULT)
        if not any(
            record is not None and record.finished and record.experiment.fields(Role.RESULT) == wanted
            for record in records
        ):
            left.append((experiment, seed))
    return left


def run_queue(
    runs: Iterable[tuple[Experiment, int]],
    load: Callable[[Experiment], Data],
    out: str | pathlib.Path,
    budget: Budget,
    *,
    placement: Placement = ONE_DEVICE,
    jobs: int = 1,
    on_start: Callable[[Experiment, int], None] = lambda experiment, seed: None,
    **options: Any,
) -> Outcome:
    """Runs each experiment and seed, as far as the budget goes.

    A run is not begun if, by earlier records of its kind under `out`, it cannot finish in the time left but could in
    the whole budget. A run that exceeds the whole budget, or was begun before, is trained piece by piece.

    Args:
      runs: Experiments and seeds, in order.
      load: Returns an experiment's data.
      out: Folder of all records.
      budget: When to stop.
      placement: Devices that train each run.
      jobs: How many runs share the device, this queue's included.
      on_start: Called before each run.
      **options: Further arguments of `run`.
    """
    records: list[Record] = []
    left: list[tuple[Experiment, int, int]] = []
    for experiment, seed in runs:
        # A record that is to be replaced may be damaged.
        begun = RunDirectory(out, experiment.name, seed).read() if options.get("resume", True) else None
        done = 0 if begun is None else begun.epochs
        too_late = budget.reason is not None or (
            done == 0 and _too_long(experiment, out, budget, placement.devices, jobs)
        )
        if processes.anywhere(too_late):
            left.append((experiment, seed, done))
            continue
        on_start(experiment, seed)
        record = run(
            experiment,
            seed,
            load(experiment),
            out,
            placement=placement,
            jobs=jobs,
            should_stop=lambda: budget.reason is not None,
            **options,
        )
        if record.finished:
            records.append(record)
        else:
            left.append((experiment, seed, record.epochs))
    return Outcome(records, left)


def _too_long(experiment: Experiment, out: str | pathlib.Path, budget: Budget, devices: int, jobs: int) -> bool:
    if budget.seconds is None:
        return False
    seconds = projected_seconds(experiment, out, devices, jobs)
    return seconds is not None and budget.left < seconds <= budget.seconds


def projected_seconds(experiment: Experiment, out: str | pathlib.Path, devices: int = 1, jobs: int = 1) -> float | None:
    """How long the whole experiment takes, by the records under `out` of runs whose epochs cost the same.

    Returns:
      Seconds, or None without a record of such a run on as many devices of this kind, shared by as many runs.
    """
    import jax

    device = jax.devices()[0].device_kind
    wanted = experiment.fields(Role.COST)
    times = [
        [line["seconds"] for line in record.metrics if "seconds" in line]
        for record in (read_all(out) if expanded(out).is_dir() else [])
        if (record.device.kind, record.device.count, record.device.jobs) == (device, devices, jobs)
        and record.experiment.fields(Role.COST) == wanted
    ]
    times = [seconds for seconds in times if len(seconds) > 1]
    if not times:
        return None
    # The first epoch of a run includes its compilation.
    first = max(seconds[0] for seconds in times)
    later = statistics.median(second for seconds in times for second in seconds[1:])
    return first + (experiment.epochs - 1) * later
