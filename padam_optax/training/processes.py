"""Several processes that run one program, each with devices of its own: who they are, and what they agree on."""

import jax
import numpy as np
from jax.experimental import multihost_utils

# How long a process that says nothing counts as alive, and how long one that ends waits for the others to end.
_PATIENCE_SECONDS = 60


def start(coordinator: str | None = None, process: int | None = None, count: int | None = None) -> None:
    """Joins the other processes. Call it before anything else of JAX.

    Args:
      coordinator: Host and port of process 0, such as `10.0.0.1:1234`; by default, as the others, what SLURM, Cloud
        TPU, Kubernetes or MPI say.
      process: Number of this process, from 0.
      count: How many there are.
    """
    # Not every version's default on CPUs; other devices have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        coordinator,
        count,
        process,
        heartbeat_timeout_seconds=_PATIENCE_SECONDS,
        shutdown_timeout_seconds=_PATIENCE_SECONDS,
    )


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def agreed(value: int) -> int:
    """The value of process 0, which all have to ask for."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def anywhere(flag: bool) -> bool:
    """Whether the flag is set in any process; all have to ask."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def wait_for_all(place: str) -> None:
    """Returns once every process has come to `place`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)
