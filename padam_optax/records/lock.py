"""Keeps other processes out of a folder that one process writes to."""

import contextlib
import errno
import os
import pathlib
import socket
from collections.abc import Generator

from padam_optax.records.files import StoreError, writing

# The errors of file systems without locks, such as those of some clusters.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def locked(folder: pathlib.Path, name: str = "") -> Generator[None]:
    """Locks a folder for this process; the system unlocks it however the process ends.

    The file `.lock` in the folder names the process. If the system or its file system has no locks, nothing is locked.

    Args:
      folder: The folder to lock; it is made.
      name: The part of the folder to lock, if its parts have separate locks; the file is then `.<name>.lock`.

    Raises:
      StoreError: If another process, or another call in this one, holds the folder, or the folder cannot be written.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = folder / f".{name}.lock" if name else folder / ".lock"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # A link that somebody put there is not followed.
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    with open(number, "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(
                f"{folder} is in use by {file.read(200).strip() or 'another process'}, which writes"
                f" {name or 'its record'} there: wait for it, or choose another --out."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        else:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield
