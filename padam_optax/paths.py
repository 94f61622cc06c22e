"""Paths as a user gives them."""

import os
import pathlib


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """Replaces a leading `~` or `~user` of a path by the home folder.

    A shell replaces it in `--out ~/runs`, but not in `--out=~/runs`, a setting or a program.

    Raises:
      ValueError: If there is no such user.

    Examples:
      >>> expanded("~/runs") == pathlib.Path.home() / "runs"
      True
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{os.fspath(path)!r} begins with the home folder of an unknown user.") from None
