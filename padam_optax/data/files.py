"""Opens files where somebody else may have put something: no link is followed, and no pipe or device is read."""

import os
import pathlib
import stat
from typing import IO

from padam_optax.data.images import DataError


def open_own(path: pathlib.Path) -> IO[bytes]:
    """Opens a file of a name that others can foresee, to read and to write; makes it if it is not there.

    Args:
      path: The file; what it holds is kept, and the position is its beginning.

    Returns:
      The open file.

    Raises:
      DataError: If a link or anything else but a file has this name.
      OSError: If it cannot be opened.
    """
    # Windows has neither flag, and makes no link without a right of its own. A pipe would wait for its other end.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        number = os.open(path, flags, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise DataError(f"{path} is a link where a file of our own is expected: remove it.") from error
        raise
    status = os.fstat(number)
    # A second name of the same file leads elsewhere as a link does.
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(number)
        raise DataError(f"{path} is not a file of our own, or has a second name elsewhere: remove it.")
    return os.fdopen(number, "r+b")


def read_small(path: pathlib.Path, limit: int) -> bytes:
    """Reads a file of at most `limit` bytes.

    Args:
      path: The file, or a link to it.
      limit: Bytes that it may have at most.

    Returns:
      Its content.

    Raises:
      DataError: If it is no file, such as a pipe or a device, or larger.
      OSError: If it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path} has more than {limit:,} bytes.")
    return content
