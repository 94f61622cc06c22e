"""Opens files in places where others may write: follows no link, and reads no pipe or device."""

import os
import pathlib
import stat
from typing import IO

from padam_optax.data.images import DataError


def open_own(path: pathlib.Path) -> IO[bytes]:
    """Opens a file whose name others can foresee, for reading and writing; makes it if it is not there.

    Args:
      path: The file; its content is kept, and the position is at its beginning.

    Returns:
      The open file.

    Raises:
      DataError: If this name belongs to a link or to anything else that is not a file.
      OSError: If it cannot be opened.
    """
    # Windows has neither flag, and needs a special right to make a link. A pipe would wait for its other end.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise DataError(f"{path} is a link, but padam expects a file of its own there: remove it.") from error
        raise
    status = os.fstat(number)
    # A second name of the same file leads elsewhere, as a link does.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(number)
        raise DataError(f"{path} is not a file of padam's own, or has a second name elsewhere: remove it.")
    return os.fdopen(number, "r+b")


def read_small(path: pathlib.Path, limit: int) -> bytes:
    """Reads a file of at most `limit` bytes.

    Args:
      path: The file, or a link to it.
      limit: The most bytes that it may have.

    Returns:
      Its content.

    Raises:
      DataError: If it is larger, or not a file but a pipe or a device, for example.
      OSError: If it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path} has more than {limit:,} bytes.")
    return content
