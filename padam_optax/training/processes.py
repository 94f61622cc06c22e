"""Starts several processes of one program, each with its own devices, and lets them agree on values."""

import os
import pathlib
import secrets
import socket
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

# How long a process that gives no sign counts as alive, and how long one that ends waits for the others to end.
_PATIENCE_SECONDS = 60
# JAX reads here the address on which process 0 listens, if it differs from the one that the others use.
_BIND_VARIABLE = "JAX_COORDINATOR_BIND_ADDRESS"
# How long one process waits to see another's file: a network file system remembers for a minute that it was missing.
_SIGHT_SECONDS = 60


def start(coordinator: str | None = None, process: int | None = None, count: int | None = None) -> None:
    """Joins the other processes. Call it before anything else of JAX.

    Without arguments it takes them from SLURM, Cloud TPU, Kubernetes or MPI. Process 0 then listens on all its
    addresses, as JAX does by default: anyone who reaches its port can take part.

    Args:
      coordinator: Host and port of process 0, such as `10.0.0.1:1234`. Process 0 listens on this address alone. If its
        host does not have this address, name another one in the environment variable `JAX_COORDINATOR_BIND_ADDRESS`.
      process: Number of this process, from 0.
      count: How many processes there are.

    Raises:
      ValueError: If the coordinator is no host and port, or process 0 cannot listen there.
    """
    listen = None
    if coordinator is not None:
        _parse(coordinator)
        listen = os.environ.get(_BIND_VARIABLE) or coordinator
        if process == 0:
            _check_listening(listen)
    # Some versions have another default on CPUs; other devices have their own.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # This service would take SIGTERM to itself at first; the processes agree on stops by other means.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        coordinator,
        count,
        process,
        coordinator_bind_address=listen,
        heartbeat_timeout_seconds=_PATIENCE_SECONDS,
        shutdown_timeout_seconds=_PATIENCE_SECONDS,
    )


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 2**16:
        raise ValueError(f"--coordinator must be HOST:PORT, the port from 1 to 65535, got {address[:100]!r}.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _check_listening(address: str) -> None:
    """Raises a one-line error where JAX prints many lines, or ends the process."""
    host, port = _parse(address)
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.create_server(where[:2], family=family):
            pass
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"--coordinator {address}: process 0 cannot listen there ({reason}). Name an address of its host and a port"
            f" that is free, or set {_BIND_VARIABLE} to the address on which it listens."
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes and prints."""
    return jax.process_index() == 0


def agreed(value: int) -> int:
    """Returns the value of process 0; every process has to call this."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def anywhere(flag: bool) -> bool:
    """Returns whether the flag is set in any process; every process has to call this."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.bool_(flag))))


def wait_for_all(place: str) -> None:
    """Returns once every process has reached `place`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


def is_shared(folder: pathlib.Path) -> bool:
    """Returns whether every process sees what the first one writes in `folder`; every process has to call this.

    The first process makes the folder if need be.

    Raises:
      OSError: In the first process, if it cannot write there; the others return False.
    """
    if jax.process_count() == 1:
        return True
    token = folder / f".seen-by-all-{agreed(secrets.randbelow(2**31))}"
    error = None
    if is_first():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            token.touch(exist_ok=False)
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
