"""Unpacks the expected files of an archive, whatever else is in it."""

import gzip
import pathlib
import shutil
import tarfile
from collections.abc import Mapping
from typing import IO, cast

from padam_optax.data.images import DataError

_CHUNK = 1 << 16
_LONGEST_NAME = 200


def unpack_members(members: Mapping[str, int], spare: int, archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the expected members of a .tar.gz file into `folder`.

    Other members are not unpacked. An archive with links, devices or paths that lead out of a folder is not the
    official one; it is refused.

    Args:
      members: The bytes of each expected file by its path in the archive; it is written under its last part.
      spare: How many bytes beyond these the unpacked archive may have.
      archive: The file.
      folder: Where to write; none of the files may be there.

    Raises:
      DataError: If the archive is damaged or its content is not the expected one.
      OSError: If a file cannot be written or read.
    """
    missing = dict(members)
    limit = sum(members.values()) + spare
    try:
        with gzip.open(archive) as unpacked:
            limited = _Limited(unpacked, limit, archive)
            with tarfile.open(fileobj=cast(IO[bytes], limited), mode="r|") as tar:
                for member in tar:
                    path = _checked_path(archive, member)
                    # tarfile would search for its end piece by piece, for ever.
                    if member.size > limit:
                        raise _too_large(archive, limit)
                    if path not in members or member.isdir():
                        continue
                    if path not in missing:
                        raise DataError(f"{archive} holds {path} twice, expected once.")
                    if member.size != missing.pop(path):
                        raise DataError(f"{archive}: {path} has {member.size:,} bytes, expected {members[path]:,}.")
                    content = tar.extractfile(member)
                    assert content is not None
                    with (folder / pathlib.PurePosixPath(path).name).open("xb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
            # Gzip's own checksum comes last.
            while limited.read(_CHUNK):
                pass
    # A file that is not gzip raises OSError, as a full disk does. On crafted headers tarfile raises many other kinds of
    # errors, RecursionError and OverflowError among them.
    except gzip.BadGzipFile as error:
        raise _damaged(archive, error) from error
    except (DataError, OSError):
        raise
    except Exception as error:
        raise _damaged(archive, error) from error
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}.")


def _damaged(archive: pathlib.Path, error: Exception) -> DataError:
    return DataError(f"{archive} cannot be unpacked ({type(error).__name__}: {error}). Expected a .tar.gz file.")


def _too_large(archive: pathlib.Path, limit: int) -> DataError:
    return DataError(f"{archive} unpacks to more than the expected {limit:,} bytes.")


def _checked_path(archive: pathlib.Path, member: tarfile.TarInfo) -> str:
    """The member's path in its normal form. Refuses all but files and folders below the top."""
    path = pathlib.PurePosixPath(member.name)
    windows = pathlib.PureWindowsPath(member.name)
    if windows.drive or windows.root or ".." in path.parts or ".." in windows.parts:
        raise DataError(f"{archive}: the member {_shown(member.name)} leads out of its folder. Nothing was unpacked.")
    # Sparse files are refused as well: the archive does not hold their whole content.
    if not member.isdir() and member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
        raise DataError(f"{archive}: the member {_shown(member.name)} is {kind}. Nothing was unpacked.")
    return str(path)


def _shown(name: str) -> str:
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]} ...")


class _Limited:
    """Reads from a file up to a limit: the size of an archive does not tell how much it unpacks to."""

    def __init__(self, file: gzip.GzipFile, limit: int, archive: pathlib.Path):
        self._file = file
        self._left = limit
        self._limit = limit
        self._archive = archive

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _too_large(self._archive, self._limit)
        return content
