"""Several processes that run one program, each with devices of its own: how they start and agree with one another."""

import pathlib
import secrets
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

# How long a process that gives no sign counts as alive, and how long one that ends waits for the others to end.
_PATIENCE_SECONDS = 60
# How long one process may wait to see what another has written: a network file system remembers for a minute that
# something was not there.
_SIGHT_SECONDS = 60


def start(coordinator: str | None = None, process: int | None = None, count: int | None = None) -> None:
    """Joins the other processes. Call it before anything else of JAX.

    Without arguments it does as SLURM, Cloud TPU, Kubernetes or MPI say.

    Args:
      coordinator: Host and port of process 0, such as `10.0.0.1:1234`.
      process: Number of this process, from 0.
      count: How many processes there are.
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
    """Returns the value that process 0 has; every process has to call this."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def anywhere(flag: bool) -> bool:
    """Returns whether the flag is set in any process; every process has to call this."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def wait_for_all(place: str) -> None:
    """Returns once every process has come to `place`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def is_shared(folder: pathlib.Path) -> bool:
    """Returns whether every process sees what the first one writes in `folder`; every process has to call this.

    The first process makes the folder if need be.

    Raises:
      OSError: In the first process, if it cannot write there; for the others the folder is not shared.
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
