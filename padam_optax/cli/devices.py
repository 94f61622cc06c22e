"""The devices and processes that train a run together, as the command line names them."""

import contextlib
import os
from collections.abc import Callable, Generator

import jax

from padam_optax.training import processes
from padam_optax.training.placement import Placement, across
from padam_optax.training.processes import is_first

__all__ = ["choose_devices", "ending_together", "is_first"]


def choose_devices(
    devices: int | None = None,
    *,
    shard_optimizer: bool = False,
    distributed: bool = False,
    coordinator: str | None = None,
    process: str | None = None,
) -> Placement:
    """Joins other processes, if asked to, and chooses the devices. Call it before anything else of JAX.

    Args:
      devices: Number of devices of each process; by default all that JAX shows.
      shard_optimizer: Whether the devices divide the optimizer's state among them.
      distributed: Whether to join the processes that SLURM, Cloud TPU, Kubernetes or MPI started.
      coordinator: Host and port of process 0, to join processes that were started by hand.
      process: "I/N" for process I of N, with `coordinator`.

    Raises:
      ValueError: If there are fewer devices, or `coordinator` or `process` is missing or has another form.
    """
    if coordinator is not None and process is not None:
        index, count = _parse(process)
        processes.start(coordinator, index, count)
    elif coordinator is not None or process is not None:
        raise ValueError("--coordinator HOST:PORT and --process I/N need each other: give both.")
    elif distributed:
        processes.start()
    return across(devices, shard_optimizer=shard_optimizer)


@contextlib.contextmanager
def ending_together(on_failure: Callable[[str], None]) -> Generator[None]:
    """Ends this process with code 3 when a computation with others fails, as happens soon after one of them has died.

    Args:
      on_failure: Called with JAX's message before the end.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        on_failure(str(error).splitlines()[0])
        # An orderly exit would wait for all processes, and a lost process never comes.
        os._exit(3)


def _parse(process: str) -> tuple[int, int]:
    index, _, count = process.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(
            f"--process must be I/N: this process's number, from 0, and the number of processes; got {process!r}."
        )
    return int(index), int(count)
