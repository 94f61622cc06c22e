"""Downloads the official archives or files of data sets into a cache folder and unpacks the files for the readers."""

import contextlib
import math
import os
import pathlib
import shutil
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from padam_optax.data import marker
from padam_optax.data.archive import unpack_members
from padam_optax.data.files import open_own
from padam_optax.data.images import DataError
from padam_optax.data.sources import SOURCES, Download, Source
from padam_optax.data.transfer import DeadlineError, printable, receive
from padam_optax.paths import expanded

if TYPE_CHECKING:
    import requests

__all__ = ["cache_folder", "fetch", "fetched"]

CACHE_VARIABLE = "PADAM_DATA_DIR"

_RETRIES = 2


def cache_folder(cache_dir: str | pathlib.Path | None = None) -> pathlib.Path:
    """The folder for downloads: `cache_dir`, else $PADAM_DATA_DIR, else the system's cache folder.

    Raises:
      DataError: If it begins with the home folder of an unknown user (`~name`).
    """
    given_as = "--cache-dir (cache_dir)"
    if cache_dir is None:
        cache_dir, given_as = os.environ.get(CACHE_VARIABLE) or None, CACHE_VARIABLE
    if cache_dir is None:
        import pooch

        cache_dir = pooch.os_cache("padam_optax")
    try:
        return expanded(cache_dir).absolute()
    except ValueError as error:
        raise DataError(f"{given_as}: {error}") from None


def fetched(name: str, cache_dir: str | pathlib.Path | None = None) -> pathlib.Path | None:
    """The folder that `fetch` made for the data set `name`, or None if it is not there. Reads no content.

    Raises:
      DataError: If there is no such data set to fetch.
    """
    folder = cache_folder(cache_dir) / _source(name).folder
    return folder if (folder / marker.FILE).is_file() else None


def fetch(
    name: str,
    cache_dir: str | pathlib.Path | None = None,
    *,
    progress: bool = True,
    deadline: float | None = None,
) -> pathlib.Path:
    """Downloads the data set `name`, checks it and unpacks it; leaves files that are there and intact.

    An interrupted download continues where it stopped. A download slower than 1,000 bytes a second for a minute is
    given up. An archive put into the cache folder by hand is used if its checksum is right. Only files that a fetch
    wrote are replaced. Whatever stops the call, a reader finds all files or none.

    Args:
      name: A key of `SOURCES`.
      cache_dir: The folder for the archive and the files; see `cache_folder`.
      progress: Whether to show a progress bar on standard error.
      deadline: Seconds after which the download stops and keeps what it has; by default never.

    Returns:
      The folder of the files and their marker. Its readers take it as `data_dir` and need no label.

    Raises:
      DataError: If there is no such data set, the download fails or is not done in time, the archive is not the
        expected one, another process is fetching the same data set, or files that were not fetched are in the way. The
        message says what to do.
      ValueError: If the deadline is not a positive number.
      OSError: If the cache folder cannot be written or read, as on a full disk. The message says what to do.
    """
    source = _source(name)
    if deadline is not None and not 0 < deadline < math.inf:
        raise ValueError(f"--deadline (deadline) must be a positive number of seconds, got {deadline}.")
    until = None if deadline is None else time.monotonic() + deadline
    cache = cache_folder(cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{name}.lock", name):
            folder = cache / source.folder
            if not _is_intact(name, source, folder):
                downloaded = [_download(name, part, cache, progress, until) for part in source.downloads]
                _unpack(name, source, downloaded, folder)
            return folder
    except OSError as error:
        raise OSError(
            f"{error.filename or cache} cannot be written or read: {error.strerror or error}."
            f" Set {CACHE_VARIABLE} to keep the data elsewhere than in {cache}."
        ) from error


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise DataError(f"There is no data set {name!r} to fetch; those that can be fetched are {', '.join(SOURCES)}.")
    return SOURCES[name]


def _is_intact(name: str, source: Source, folder: pathlib.Path) -> bool:
    """Whether `folder` holds every file of the data set as it was unpacked."""
    if not folder.exists():
        if folder.is_symlink():
            raise DataError(
                f"{folder} is a link to {os.readlink(folder)}, which does not exist: remove it to fetch {name}."
            )
        return False
    if not (folder / marker.FILE).exists():
        raise DataError(
            f"{folder} was not made by `padam data fetch` (it has no {marker.FILE}). Move it away to fetch {name}, or"
            " read it with --data-dir and --data-label."
        )
    try:
        found = marker.read(folder)
        if found is not None:
            found.verify(folder)
    except DataError:
        return False
    expected = (name, source.checksum, set(source.files))
    return found is not None and (found.name, found.archive, set(found.files)) == expected


@contextlib.contextmanager
def _locked(path: pathlib.Path, name: str) -> Generator[None]:
    """Keeps other processes from fetching the same data set, if the system has such locks."""
    with open_own(path) as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"Another process is fetching {name} (it has locked {path}): wait until it ends.") from None
        yield


def _download(name: str, source: Download, cache: pathlib.Path, progress: bool, until: float | None) -> pathlib.Path:
    """The file; downloads it unless it is there with the right checksum."""
    import pooch
    import requests

    path, part = cache / source.file, cache / f"{source.file}.part"
    by_hand = (
        f"To work without the download, put {source.file} into {cache} and run `padam data fetch {name}` again, or"
        " pass a folder that holds its files with --data-dir and --data-label."
    )
    if path.exists() and not _has_checksum(path, source.checksum):
        # A download is moved here only after it was checked: this file was damaged later, or is the user's own.
        raise DataError(
            f"{path} is not the expected file: its checksum is not {source.checksum}. Move it away to fetch {name}."
        )
    fetcher = pooch.create(
        path=cache,
        base_url="",
        registry={source.file: source.checksum},
        urls={source.file: source.url},
        retry_if_failed=_RETRIES,
    )

    # Any: Pooch calls it by position, but its type names the arguments otherwise.
    def download(url: str, output_file: Any, pooch: object) -> None:
        receive(url, part, source.size, progress=progress, until=until)
        os.replace(part, output_file)

    downloader: Any = download
    try:
        return pathlib.Path(fetcher.fetch(source.file, downloader=downloader))
    except requests.RequestException as error:
        raise DataError(
            f"{name} could not be downloaded: {_reason(error)}. Tried {source.url} {_RETRIES + 1} times."
            f"{_kept(part)} {by_hand}"
        ) from error
    except DeadlineError as error:
        raise DataError(f"{name} was not downloaded before the deadline.{_kept(part)} {by_hand}") from error
    except ValueError as error:
        raise DataError(
            f"{source.url} does not hold the expected file: its checksum is not {source.checksum}. Nothing of it"
            f" was kept. {by_hand}"
        ) from error


def _has_checksum(path: pathlib.Path, checksum: str) -> bool:
    import pooch

    algorithm, digits = checksum.split(":")
    return path.is_file() and pooch.file_hash(str(path), algorithm) == digits


def _kept(part: pathlib.Path) -> str:
    return f" {part.lstat().st_size:,} bytes are kept; the next try continues there." if part.exists() else ""


def _reason(error: "requests.RequestException") -> str:
    import requests

    if isinstance(error, requests.exceptions.ConnectTimeout | requests.ReadTimeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        # requests wraps the reason in a message about its pool of connections.
        cause = error.args[0] if error.args else error
        return f"there was no connection to the server, or it broke ({printable(str(getattr(cause, 'reason', cause)))})"
    return printable(str(error))


def _unpack(name: str, source: Source, downloaded: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Puts the expected files and their marker into `folder`; other files in it stay."""
    mended = folder.exists()
    # If the folder is a link, only a path inside it is sure to be on the same disk.
    unfinished = (folder if mended else folder.parent) / f".{folder.name}.unfinished"
    # Left over from a call that was killed.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        if source.members is None:
            for path in downloaded:
                shutil.copyfile(path, unfinished / path.name)
        else:
            unpack_members(source.members, source.spare, downloaded[0], unfinished)
        files = {path.name: marker.sha256(path) for path in sorted(unfinished.iterdir())}
        marker.Marker(name, source.url, source.checksum, files).write(unfinished)
        if mended:
            # The marker is written last: until then the old marker tells a reader that the files are not as expected.
            for file in (*files, marker.FILE):
                os.replace(unfinished / file, folder / file)
            unfinished.rmdir()
        else:
            unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
