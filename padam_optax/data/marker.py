"""The marker that `padam data fetch` writes beside the files it unpacked: their origin and their checksums."""

import dataclasses
import hashlib
import json
import pathlib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from padam_optax.data.files import read_small
from padam_optax.data.images import DataError

FILE = "padam-source.json"

# The marker is small: it lists a few files.
_MOST_BYTES = 1 << 20

# The data sets' own names. Only files unpacked from a checked download may carry them.
RESERVED_LABELS = ("cifar10", "cifar100", "ptb")


@dataclasses.dataclass(frozen=True)
class Marker:
    """The content of a folder of downloaded files.

    Attributes:
      name: The data set's name, under which results on these files are reported.
      url: Where the archive was downloaded from.
      archive: The archive's checksum, "algorithm:digits".
      files: SHA-256 of each file by name, as hexadecimal digits.
    """

    name: str
    url: str
    archive: str
    files: Mapping[str, str]

    def write(self, folder: pathlib.Path) -> None:
        """Writes the marker into `folder`."""
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", encoding="utf-8")

    def verify(self, folder: pathlib.Path) -> None:
        """Compares the files in `folder` with their checksums.

        Raises:
          DataError: If a file is missing or altered; the message names it.
        """
        for name, expected in self.files.items():
            path = folder / name
            if not path.is_file():
                raise DataError(f"{path} does not exist, but {FILE} in its folder lists it. {self.remedy}")
            found = sha256(path)
            if found != expected:
                raise DataError(
                    f"{path} was altered: its SHA-256 is {found}, expected {expected} as {FILE} beside it says."
                    f" {self.remedy}"
                )

    @property
    def remedy(self) -> str:
        """What to do about a file that is no longer as it was unpacked."""
        return f"Fetch it again with `padam data fetch {self.name}`."


def read(folder: pathlib.Path) -> Marker | None:
    """The marker in `folder`, or None if there is none.

    Raises:
      DataError: If its content is not one that `Marker.write` writes.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        fields: Any = json.loads(read_small(path, _MOST_BYTES))
        marker = Marker(str(fields["name"]), str(fields["url"]), str(fields["archive"]), dict(fields["files"]))
        if not marker.name.isprintable():
            raise ValueError(marker.name)
    except (DataError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{path} is not the marker that `padam data fetch` writes: {error!r}.") from error
    return marker


def reserved_name(label: str) -> str | None:
    """The data set whose own name the label is, or None; case, spaces and hyphens do not matter."""
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", label).casefold()))
    return letters if letters in RESERVED_LABELS else None


def checked_label(folder: pathlib.Path, name: str, label: str, files: Iterable[str]) -> str:
    """The name under which results on the files of `folder` are reported.

    With a marker, the files are verified against it and the name is the data set's own. `label` must then be empty or
    equal to this name: another label would report the same data under two names. Without a marker a label is required,
    and the data sets' own names are refused.

    Args:
      folder: Folder of the files.
      name: The data set that the caller reads.
      label: The user's name for the data, "" if not given.
      files: Names of the files that the caller reads.

    Raises:
      DataError: If the label is missing, reserved or contradicts the marker, the marker is another data set's, or a
        file is missing or altered.
    """
    marker = read(folder)
    if marker is None:
        if not label:
            raise DataError(
                f"{folder} was not unpacked by `padam data fetch` (it has no {FILE}): name the data with --data-label"
                f" (for example {name}-jpeg); results are reported under it."
            )
        reserved = reserved_name(label)
        if reserved is not None:
            raise DataError(
                f"The label {label!r} is kept for files that `padam data fetch {reserved}` downloaded and checked"
                f" against the official checksums; {folder} has no {FILE}: choose another name."
            )
        return label
    if marker.name != name:
        raise DataError(f"{folder} holds {marker.name}, as its {FILE} says, expected {name}.")
    if label not in ("", name):
        raise DataError(f"{folder} holds {name}, as its {FILE} says: leave out --data-label, given as {label!r}.")
    unlisted = [file for file in files if file not in marker.files]
    if unlisted:
        raise DataError(f"{folder / FILE} has no checksum of {', '.join(unlisted)}. {marker.remedy}")
    marker.verify(folder)
    return name


def sha256(path: pathlib.Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
