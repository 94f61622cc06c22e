"""Several processes that run one program, each with devices of its own: who they are, and what they agree on."""

import pathlib
import secrets
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

# How long a process that says nothing counts as alive, and how long one that ends waits for the others to end.
_PATIENCE_SECONDS = 60
# How long what one process writes may take to be seen by another: a network file system remembers for a minute what was
# not there.
_SIGHT_SECONDS = 60


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
    # It takes SIGTERM to itself, from here until we listen, for stops that we agree on by other means.
    jax.config.update("jax_enable_preemption_service", False)
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


def is_shared(folder: pathlib.Path) -> bool:
    """Whether every process sees what the first writes in `folder`, which it makes; all have to ask.

    Raises:
      OSError: If the first cannot write there; the others are told that it is not shared.
    """
    if jax.process_count() == 1:
        return True
    token = folder / f".seen-by-all-{agreed(secrets.randbelow(2**31))}"
    error = None
    if is_first():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            token.touch()
        except OSError as caught:
            error = caught
    wait_for_all("token written")
    seen = error is None and _appears(token)
    shared = not anywhere(not seen)
    if is_first():
        token.unlink(missing_ok=True)
    if error is not None:
        raise error
    return shared


def _appears(path: pathlib.Path) -> bool:
    until = time.monotonic() + _SIGHT_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True
