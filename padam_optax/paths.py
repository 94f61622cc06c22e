"""Paths as a user gives them."""

import os
import pathlib


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path with the home folder in place of a `~` or `~user` that it begins with.

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
        raise ValueError(f"{os.fspath(path)!r} begins with a home folder that is not known.") from None
