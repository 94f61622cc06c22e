"""Downloads against a real HTTP server on this machine: cut, resumed, altered, hostile."""

import contextlib
import fcntl
import gzip
import hashlib
import http.server
import io
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from full_disk import largest_file

from padam_optax.data import download, marker, sources, transfer
from padam_optax.data.images import DataError

DATA = np.random.default_rng(0).bytes(300_000)
LABELS = b"cat\ndog\n"
MEMBERS = {"set/data.bin": len(DATA), "set/labels.txt": len(LABELS)}
# What a cut answer holds: less than DATA, which does not compress, and more than one piece of a download.
CUT = 150_000


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under every path."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.ranges = True
        self.status = 200
        # Bytes after which the answers to come are cut, one number an answer.
        self.cuts: list[int] = []
        # The Range header and the number of bytes sent of each answer.
        self.answers: list[tuple[str | None, int]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        asked = self.headers.get("Range")
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.server.ranges else 0
        content, whole = self.server.content[start:], len(self.server.content)
        if start >= whole:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{whole}")
            content = b""
        elif start:
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(content)))
        sent = content[: self.server.cuts.pop(0)] if self.server.cuts else content
        # Before the first byte: a client may be done when it has seen the headers.
        self.server.answers.append((asked, len(sent)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, *args):
        pass


def make_archive(members: list[tuple[str | tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


GOOD = [("set/data.bin", DATA), ("set/readme.html", b"left in the archive"), ("set/labels.txt", LABELS)]


@pytest.fixture(autouse=True)
def no_waiting_and_no_proxy(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with Server() as server:
        server.content = make_archive(GOOD)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path) -> pathlib.Path:
    return tmp_path / "cache"


def offer(monkeypatch, server: Server, content: bytes | None = None, members: dict[str, int] = MEMBERS) -> None:
    """Makes "tiny" a data set to fetch, with what the server holds, or `content`, as its archive."""
    content = server.content if content is None else content
    checksum = f"md5:{hashlib.md5(content).hexdigest()}"
    source = sources.Source((sources.Download(server.url, checksum, len(content)),), "tiny-files", members)
    monkeypatch.setitem(download.SOURCES, "tiny", source)


def fetch(cache: pathlib.Path) -> pathlib.Path:
    return download.fetch("tiny", cache, progress=False)


def left(cache: pathlib.Path) -> set[str]:
    """What is in the cache folder, but for the lock."""
    return {path.name for path in cache.iterdir()} - {".tiny.lock"}


def is_complete(folder: pathlib.Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return (
        names == {"data.bin", "labels.txt", marker.FILE}
        and (folder / "data.bin").read_bytes() == DATA
        and (folder / "labels.txt").read_bytes() == LABELS
    )


def test_official_sizes():
    members = {name: source.members for name, source in download.SOURCES.items()}
    assert members["cifar10"] == {
        **{f"cifar-10-batches-bin/data_batch_{batch}.bin": 30_730_000 for batch in range(1, 6)},
        "cifar-10-batches-bin/test_batch.bin": 30_730_000,
    }
    assert members["cifar100"] == {
        "cifar-100-binary/train.bin": 153_700_000,
        "cifar-100-binary/test.bin": 30_740_000,
    }
    assert members["ptb"] is None
    assert set(download.SOURCES) <= set(marker.RESERVED_LABELS)


def test_penn_treebank_is_the_one_at_hand(shared_data):
    """Sizes and checksums of the files, and the numbers of their tokens and words, which the reader checks."""
    with tarfile.open(shared_data("ptb.tar.xz")) as archive:
        found = {
            pathlib.PurePosixPath(member.name).name: archive.extractfile(member).read()
            for member in archive
            if member.isfile()
        }
    for part in download.SOURCES["ptb"].downloads:
        content = found[part.file]
        assert (len(content), f"md5:{hashlib.md5(content).hexdigest()}") == (part.size, part.checksum)


def test_files_that_are_in_no_archive(monkeypatch, server, cache):
    """Each is downloaded, checked and put into the folder; a second fetch mends what was altered."""
    server.content = LABELS
    checksum = f"md5:{hashlib.md5(LABELS).hexdigest()}"
    address = server.url.rsplit("/", 1)[0]
    files = tuple(sources.Download(f"{address}/{name}", checksum, len(LABELS)) for name in ("a.txt", "b.txt"))
    monkeypatch.setitem(download.SOURCES, "tiny", sources.Source(files, "tiny-files"))
    folder = fetch(cache)
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", marker.FILE}
    assert (folder / "a.txt").read_bytes() == (folder / "b.txt").read_bytes() == LABELS
    assert marker.read(folder).url == address
    assert len(server.answers) == 2
    (folder / "b.txt").write_bytes(LABELS[:-1])
    with pytest.raises(DataError, match=r"b\.txt was altered.*padam data fetch tiny"):
        marker.checked_label(folder, "tiny", "", ["b.txt"])
    assert fetch(cache) == folder
    assert (folder / "b.txt").read_bytes() == LABELS
    assert len(server.answers) == 2


def test_an_altered_file_among_several_is_refused(monkeypatch, server, cache):
    server.content = LABELS
    address = server.url.rsplit("/", 1)[0]
    good = f"md5:{hashlib.md5(LABELS).hexdigest()}"
    other = f"md5:{hashlib.md5(DATA).hexdigest()}"
    files = (
        sources.Download(f"{address}/a.txt", good, len(LABELS)),
        sources.Download(f"{address}/b.txt", other, len(LABELS)),
    )
    monkeypatch.setitem(download.SOURCES, "tiny", sources.Source(files, "tiny-files"))
    with pytest.raises(DataError, match=r"b\.txt does not hold the expected file"):
        fetch(cache)
    assert download.fetched("tiny", cache) is None


def test_unpacks_the_expected_files_and_marks_them(monkeypatch, server, cache):
    offer(monkeypatch, server)
    assert download.fetched("tiny", cache) is None
    folder = download.fetch("tiny", cache)
    assert folder == download.fetched("tiny", cache)
    assert is_complete(folder)
    assert left(cache) == {"set.tar.gz", folder.name}
    found = marker.read(folder)
    assert found == marker.Marker(
        "tiny",
        server.url,
        download.SOURCES["tiny"].checksum,
        {"data.bin": hashlib.sha256(DATA).hexdigest(), "labels.txt": hashlib.sha256(LABELS).hexdigest()},
    )
    assert marker.checked_label(folder, "tiny", "", ["data.bin"]) == "tiny"


def test_a_second_fetch_downloads_nothing(monkeypatch, server, cache):
    offer(monkeypatch, server)
    assert fetch(cache) == fetch(cache)
    assert len(server.answers) == 1


def test_a_second_fetch_mends_an_altered_file(monkeypatch, server, cache):
    offer(monkeypatch, server)
    data = fetch(cache) / "data.bin"
    data.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    with pytest.raises(DataError, match=rf"{data} was altered.*padam data fetch tiny"):
        marker.checked_label(data.parent, "tiny", "", ["data.bin"])
    assert is_complete(fetch(cache))
    assert len(server.answers) == 1


def test_an_archive_put_there_by_hand_is_taken(monkeypatch, server, cache):
    offer(monkeypatch, server)
    cache.mkdir()
    (cache / "set.tar.gz").write_bytes(server.content)
    assert is_complete(fetch(cache))
    assert server.answers == []


def test_files_that_were_not_fetched_are_left_alone(monkeypatch, server, cache):
    offer(monkeypatch, server)
    mine = cache / "tiny-files" / "data.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"was not made by `padam data fetch`.*Move it away"):
        fetch(cache)
    assert mine.read_bytes() == b"mine"


def test_a_file_of_the_archive_s_name_is_left_alone(monkeypatch, server, cache):
    offer(monkeypatch, server)
    cache.mkdir()
    (cache / "set.tar.gz").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"set\.tar\.gz is not the expected file.*Move it away"):
        fetch(cache)
    assert (cache / "set.tar.gz").read_bytes() == b"mine"
    assert server.answers == []


def test_files_beside_a_damaged_one_stay(monkeypatch, server, cache):
    """Only what a fetch wrote is replaced."""
    offer(monkeypatch, server)
    folder = fetch(cache)
    (folder / "mynotes.txt").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "data.bin").write_text("mine too")
    (folder / "data.bin").write_bytes(b"damaged")
    (folder / "labels.txt").unlink()
    (folder / marker.FILE).write_text("{")
    assert fetch(cache) == folder
    assert (folder / "mynotes.txt").read_text() == "mine"
    assert (folder / "more" / "data.bin").read_text() == "mine too"
    (folder / "mynotes.txt").unlink()
    shutil.rmtree(folder / "more")
    assert is_complete(folder)


def test_mending_that_is_cut_short_is_seen_and_goes_on(monkeypatch, server, cache):
    offer(monkeypatch, server)
    folder = fetch(cache)
    for name in MEMBERS:
        (folder / pathlib.Path(name).name).write_bytes(b"damaged")
    replaced = []

    def replace_once(source, target):
        if replaced:
            raise KeyboardInterrupt
        replaced.append(target)
        pathlib.Path(source).replace(target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_once)
        with pytest.raises(KeyboardInterrupt):
            fetch(cache)
    with pytest.raises(DataError, match="was altered"):
        marker.checked_label(folder, "tiny", "", ["data.bin"])
    assert is_complete(fetch(cache))


@pytest.mark.parametrize("link", ["cache", "cache/tiny-files"])
def test_folders_that_are_links(monkeypatch, server, tmp_path, cache, link):
    """To where the user has space: a fetch writes and mends there."""
    offer(monkeypatch, server)
    elsewhere = tmp_path / "elsewhere"
    if link == "cache":
        elsewhere.mkdir()
    else:
        fetch(cache).rename(elsewhere)
        (elsewhere / "data.bin").write_bytes(b"damaged")
    (tmp_path / link).symlink_to(elsewhere)
    folder = fetch(cache)
    assert is_complete(folder)
    assert (tmp_path / link).is_symlink()
    (folder / "labels.txt").write_bytes(b"damaged")
    assert is_complete(fetch(cache))


@pytest.mark.parametrize("link", ["tiny-files", "."])
def test_a_folder_that_leads_nowhere(monkeypatch, server, cache, link):
    offer(monkeypatch, server)
    cache.parent.mkdir(exist_ok=True)
    if link != ".":
        cache.mkdir()
    path = cache / link
    path.symlink_to(cache.parent / "nowhere")
    with pytest.raises((DataError, OSError), match=rf"^{path} .*(remove it|PADAM_DATA_DIR)"):
        fetch(cache)


@pytest.mark.parametrize("name", ["set.tar.gz.part", ".tiny.lock"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "second name", "pipe"])
def test_what_another_user_put_there(monkeypatch, server, cache, tmp_path, name, kind):
    """Names that can be foreseen lead nowhere else."""
    offer(monkeypatch, server)
    cache.mkdir()
    other, path = tmp_path / "other", cache / name
    if kind != "dangling link":
        other.write_bytes(b"another file")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "second name":
        path.hardlink_to(other)
    else:
        path.symlink_to(other)
    with pytest.raises(DataError, match=rf"^{path} is .*remove it"):
        fetch(cache)
    assert other.exists() == (kind != "dangling link")
    assert not other.exists() or other.read_bytes() == b"another file"


def test_a_marker_that_is_a_pipe_or_has_no_end(tmp_path):
    os.mkfifo(tmp_path / marker.FILE)
    with pytest.raises(DataError, match="is not the marker"):
        marker.read(tmp_path)
    for content in (b" " * 2_000_000, b"[" * 100_000, b'{"name": "\\u001b[2J", "url": "", "archive": "", "files": {}}'):
        (tmp_path / marker.FILE).unlink()
        (tmp_path / marker.FILE).write_bytes(content)
        with pytest.raises(DataError, match="is not the marker") as error:
            marker.read(tmp_path)
        assert "\x1b" not in str(error.value)


def resumed(server: Server) -> None:
    """Asserts that the second answer was the rest of the first, and that no byte was asked for twice."""
    (first, _), (second, sent) = server.answers
    assert first is None
    kept = int(re.fullmatch(r"bytes=(\d+)-", second)[1])
    assert 0 < kept <= CUT
    assert sent == len(server.content) - kept


def test_a_cut_download_is_resumed_by_the_same_call(monkeypatch, server, cache):
    offer(monkeypatch, server)
    server.cuts = [CUT]
    assert is_complete(fetch(cache))
    resumed(server)


def test_a_cut_download_is_resumed_by_the_next_call(monkeypatch, server, cache):
    offer(monkeypatch, server)
    server.cuts = [CUT]
    with monkeypatch.context() as patch:
        patch.setattr(download, "_RETRIES", 0)
        with pytest.raises(DataError, match=r"tiny could not be downloaded.*bytes are kept"):
            fetch(cache)
    assert left(cache) == {"set.tar.gz.part"}
    assert is_complete(fetch(cache))
    resumed(server)


def test_a_server_without_ranges_sends_all_again(monkeypatch, server, cache):
    offer(monkeypatch, server)
    server.ranges = False
    server.cuts = [CUT]
    assert is_complete(fetch(cache))
    assert [sent for _, sent in server.answers] == [CUT, len(server.content)]


@pytest.mark.parametrize("size", [1_000, None, 1_000_000], ids=["shorter", "as long", "longer"])
def test_a_part_of_another_file_is_dropped(monkeypatch, server, cache, size):
    offer(monkeypatch, server)
    cache.mkdir()
    (cache / "set.tar.gz.part").write_bytes(bytes(size or len(server.content)))
    assert is_complete(fetch(cache))
    assert server.answers[-1] == (None, len(server.content))


def test_a_wrong_checksum_leaves_nothing(monkeypatch, server, cache):
    offer(monkeypatch, server, bytes(len(server.content)))
    with pytest.raises(DataError, match=rf"{server.url} does not hold the expected file.*md5:"):
        fetch(cache)
    assert left(cache) == set()


@pytest.mark.parametrize("difference", [-1, 1])
def test_another_size_is_refused_at_once(monkeypatch, server, cache, difference):
    expected = len(server.content)
    offer(monkeypatch, server)
    server.content = (server.content + b"x")[: expected + difference]
    with pytest.raises(DataError, match=rf"has {expected + difference:,} bytes, expected {expected:,}"):
        fetch(cache)
    assert left(cache) == set()
    assert len(server.answers) == 1


def test_a_missing_archive_is_not_asked_for_again(monkeypatch, server, cache):
    offer(monkeypatch, server)
    server.status = 404
    with pytest.raises(DataError, match=rf"{server.url} does not exist: the server answers 404"):
        fetch(cache)
    assert len(server.answers) == 1


def assert_says_what_to_do(error: pytest.ExceptionInfo[DataError], server: Server, cache: pathlib.Path) -> None:
    assert f"Tried {server.url} 3 times" in str(error.value)
    assert f"put set.tar.gz into {cache} and run `padam data fetch tiny` again" in str(error.value)
    assert "--data-dir" in str(error.value)
    assert left(cache) == set()


def test_no_server(monkeypatch, cache):
    with Server() as server:
        server.content = make_archive(GOOD)
        offer(monkeypatch, server)
    with pytest.raises(DataError, match="tiny could not be downloaded: there was no connection to the server") as error:
        fetch(cache)
    assert_says_what_to_do(error, server, cache)


def test_a_server_that_does_not_answer(monkeypatch, server, cache):
    monkeypatch.setattr(transfer, "_TIMEOUT", (5.0, 0.05))
    offer(monkeypatch, server)
    with socket.create_server(("127.0.0.1", 0)) as silent, monkeypatch.context() as patch:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/set.tar.gz"
        patch.setattr(Server, "url", url)
        offer(monkeypatch, server)
        with pytest.raises(DataError, match="tiny could not be downloaded: the server did not answer in time") as error:
            fetch(cache)
        assert_says_what_to_do(error, server, cache)


@contextlib.contextmanager
def raw_server(monkeypatch, server: Server, *pieces: bytes, then: bytes = b""):
    """Answers with the pieces as they are, then with `then` again and again, slowly, as long as somebody listens."""
    done = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            for piece in pieces:
                connection.sendall(piece)
            while then and not done.wait(0.02):
                connection.sendall(then)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening, monkeypatch.context() as patch:
        patch.setattr(Server, "url", f"http://127.0.0.1:{listening.getsockname()[1]}/set.tar.gz")
        offer(monkeypatch, server)
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield
        finally:
            done.set()
            listening.shutdown(socket.SHUT_RDWR)


def answer_of(server: Server, *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(server.content), *headers, b"", b""])


@pytest.mark.parametrize("case", ["headers", "bytes"])
def test_a_server_that_crawls(monkeypatch, server, cache, case):
    """Each byte comes in time, and the last would come in days."""
    monkeypatch.setattr(transfer, "_WINDOW_SECONDS", 0.2)
    pieces = {"headers": b"HTTP/1.1 200 OK\r\nX: ", "bytes": answer_of(server)}
    with (
        raw_server(monkeypatch, server, pieces[case], then=b"x"),
        pytest.raises(DataError, match=r"fewer than 1,000 bytes a second.*Tried http.* 3 times"),
    ):
        fetch(cache)
    offer(monkeypatch, server)
    assert is_complete(fetch(cache))


def test_a_deadline(monkeypatch, server, cache):
    with (
        raw_server(monkeypatch, server, answer_of(server), server.content[:CUT], then=b"x"),
        pytest.raises(DataError, match=r"tiny was not downloaded before the deadline\. [\d,]+ bytes are kept"),
    ):
        download.fetch("tiny", cache, progress=False, deadline=0.5)
    assert left(cache) == {"set.tar.gz.part"}
    assert (cache / "set.tar.gz.part").read_bytes()[:100] == server.content[:100]


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf")])
def test_a_deadline_that_is_none(cache, deadline):
    with pytest.raises(ValueError, match=f"positive number of seconds, got {deadline}"):
        download.fetch("ptb", cache, deadline=deadline)
    assert not cache.exists()


ANSWERS = {
    "a length of 5,000 digits": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
    "a length in other digits": b"HTTP/1.1 200 OK\r\nContent-Length: 1\xb2\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
    "no HTTP": b"\x00\xff\x1b[2J\r\n\r\n",
    "a status that is no number": b"HTTP/1.1 abc OK\r\n\r\n",
    "a long header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1_000 + b"\r\n",
    "a redirection to no address": b"HTTP/1.1 302 Found\r\nLocation: http://[\r\n\r\n",
    "a redirection to a name that is none": b"HTTP/1.1 302 Found\r\nLocation: http://" + b"a" * 300 + b".b\r\n\r\n",
    "a redirection to a port that is none": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\n\r\n",
    "a redirection to a file": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "an encoding that is not used": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxxxx",
    "a reason for the terminal": b"HTTP/1.1 404 \x1b[2J\x07\r\nContent-Length: 0\r\n\r\n",
    "a reason for the terminal, of an error": b"HTTP/1.1 500 \x1b[2J\x07\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_are_nonsense(monkeypatch, server, cache, case):
    """One line that does not speak of a checksum, and nothing is left."""
    with raw_server(monkeypatch, server, ANSWERS[case]), pytest.raises(DataError) as error:
        fetch(cache)
    message = str(error.value)
    assert "checksum" not in message
    assert message.isprintable()
    assert len(message) < 1_000
    assert left(cache) <= {"set.tar.gz.part"}


ZEROS = [("set/data.bin", bytes(len(DATA))), GOOD[2]]


@pytest.mark.parametrize("members", [GOOD, ZEROS], ids=["for the archive", "for its files"])
def test_a_full_disk(monkeypatch, server, cache, members):
    """Neither half an archive nor half the files are taken for whole; with space again the same call goes on."""
    server.content = make_archive(members)
    offer(monkeypatch, server)
    with largest_file(100_000), pytest.raises(OSError, match="File too large"):
        fetch(cache)
    assert download.fetched("tiny", cache) is None
    assert (fetch(cache) / "data.bin").read_bytes() == members[0][1]


def test_an_unknown_name():
    with pytest.raises(
        DataError, match=r"no data set 'mnist' to fetch; those that can be fetched are cifar10, cifar100"
    ):
        download.fetch("mnist")


def test_two_fetches_at_a_time(monkeypatch, server, cache):
    offer(monkeypatch, server)
    cache.mkdir()
    with (cache / ".tiny.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="Another process is fetching tiny"):
            fetch(cache)
    assert is_complete(fetch(cache))


def test_a_cache_folder_that_cannot_be_made(monkeypatch, server, tmp_path):
    offer(monkeypatch, server)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=rf"{tmp_path / 'file'}.*PADAM_DATA_DIR"):
        fetch(tmp_path / "file" / "cache")


def test_which_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "system"))
    monkeypatch.delenv("PADAM_DATA_DIR", raising=False)
    assert download.cache_folder().name == "padam_optax"
    monkeypatch.setenv("PADAM_DATA_DIR", str(tmp_path / "variable"))
    assert download.cache_folder() == tmp_path / "variable"
    assert download.cache_folder(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder("~/argument") == tmp_path / "argument"
    monkeypatch.setenv("PADAM_DATA_DIR", "~nobody-of-this-name/x")
    with pytest.raises(
        DataError, match="PADAM_DATA_DIR: '~nobody-of-this-name/x' begins with the home folder of an unknown user"
    ):
        download.cache_folder()


def special(name: str, kind: bytes, link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


HOSTILE = {
    "path that leads out": ([("../outside", b"x"), *GOOD], "leads out of its folder"),
    "path that leads out in the middle": ([("set/../../outside", b"x"), *GOOD], "leads out of its folder"),
    "absolute path": ([("/outside", b"x"), *GOOD], "leads out of its folder"),
    "Windows path": ([("C:\\outside", b"x"), *GOOD], "leads out of its folder"),
    "symbolic link": ([special("set/data.bin", tarfile.SYMTYPE, "/outside"), *GOOD], "is a link"),
    "symbolic link to a folder": ([special("set", tarfile.SYMTYPE, ".."), *GOOD], "is a link"),
    "hard link": ([*GOOD, special("set/more", tarfile.LNKTYPE, "set/data.bin")], "is a link"),
    "device": ([*GOOD, special("set/device", tarfile.CHRTYPE)], "neither a file nor a folder"),
    "named pipe": ([special("set/data.bin", tarfile.FIFOTYPE)], "neither a file nor a folder"),
    "larger file": ([("set/data.bin", DATA + b"x"), GOOD[2]], "data.bin has 300,001 bytes, expected 300,000"),
    "smaller file": ([("set/data.bin", DATA[:-1]), GOOD[2]], "data.bin has 299,999 bytes, expected 300,000"),
    "file twice": ([GOOD[0], *GOOD], "holds .*data.bin twice"),
    "file missing": ([GOOD[0]], "lacks set/labels.txt"),
    "folder for a file": ([special("set/data.bin", tarfile.DIRTYPE), GOOD[2]], "lacks set/data.bin"),
    "name for the terminal": (
        [("../\x1b[2J" + 100_000 * "x", b""), *GOOD],
        r"member '\.\./\\x1b\[2Jx+ \.\.\.' leads out",
    ),
    "bomb": ([GOOD[0], ("set/zeros", bytes(50_000_000)), GOOD[2]], "unpacks to more than the expected 1,348,584 bytes"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives(monkeypatch, server, cache, case):
    members, message = HOSTILE[case]
    server.content = make_archive(members)
    offer(monkeypatch, server)
    with pytest.raises(DataError, match=message):
        fetch(cache)
    assert left(cache) == {"set.tar.gz"}
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]
    assert not pathlib.Path("/outside").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "no archive"])
def test_damaged_archives(monkeypatch, server, cache, damage):
    content = bytearray(server.content)
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    server.content = {"cut": content[:-1000], "flipped": content, "no archive": b"<html>"}[damage]
    offer(monkeypatch, server)
    with pytest.raises(DataError, match=r"set\.tar\.gz cannot be unpacked"):
        fetch(cache)
    assert left(cache) == {"set.tar.gz"}


def header(name: bytes, kind: bytes, size: bytes = b"00000000000\0", magic: bytes = b"ustar\x0000") -> bytes:
    """A header of tar's, with the checksum that it needs."""
    fields = name.ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0" + size + b"00000000000\0"
    rest = kind + bytes(100) + magic + bytes(247)
    total = sum(fields + 8 * b" " + rest)
    return (fields + b"%06o\0 " % total + rest).ljust(512, b"\0")


def pax(records: bytes, kind: bytes = b"x") -> bytes:
    block = header(b"pax", kind, b"%011o\0" % len(records))
    return block + records.ljust(-(-len(records) // 512) * 512, b"\0")


CRAFTED = {
    "names of names": 2_000 * (header(b"name", b"L", b"%011o\0" % 2) + b"a\0".ljust(512, b"\0")) + header(b"a", b"0"),
    "a size of 2^88": header(b"a", b"0", b"\x80" + b"\xff" * 11),
    "a negative size": header(b"a", b"0", b"\xff" * 12),
    "a name of 2^88 bytes": header(b"a", b"L", b"\x80" + b"\xff" * 11),
    "a name of 8 GB": header(b"a", b"L", b"77777777777\0"),
    "a size in words": pax(b"13 size=many\n") + header(b"a", b"0"),
    "a time without end": pax(b"13 mtime=inf\n") + header(b"a", b"0"),
    "a time of no number": pax(b"13 mtime=nan\n") + header(b"a", b"0"),
    "a length of 5,000 digits": pax(b"9" * 5_000 + b" size=1\n") + header(b"a", b"0"),
    "a size of 5,000 digits": pax(b"5011 size=" + b"9" * 5_000 + b"\n") + header(b"a", b"0"),
    "a name that is no text": pax(b"12 path=\xff\xfe\n") + header(b"a", b"0"),
    "an old sparse file": header(b"a", b"S", magic=b"ustar  \0"),
    "a sparse map in words": pax(b"22 GNU.sparse.map=a,b\n") + header(b"a", b"0"),
    "a sparse size in words": pax(b"25 GNU.sparse.size=words\n22 GNU.sparse.map=1,2\n") + header(b"a", b"0"),
    "global headers": 2_000 * pax(b"12 path=abc\n", b"g") + header(b"a", b"0"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_archives(monkeypatch, server, cache, case):
    """One line, whatever the headers say."""
    server.content = gzip.compress(CRAFTED[case] + bytes(1024))
    offer(monkeypatch, server)
    with pytest.raises(DataError, match=r"set\.tar\.gz") as error:
        fetch(cache)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1_000
    assert left(cache) == {"set.tar.gz"}


KILLED = """
import os, pathlib, signal, sys
from padam_optax.data import download, marker, sources
url, checksum, size, cache, members = sys.argv[1:]
download.SOURCES["tiny"] = sources.Source((sources.Download(url, checksum, int(size)),), "tiny-files", eval(members))
# All files are unpacked, the marker is about to be written.
marker.Marker.write = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
download.fetch("tiny", cache, progress=False)
"""


def test_a_killed_fetch_leaves_nothing_that_a_reader_takes(monkeypatch, server, cache):
    offer(monkeypatch, server)
    source = download.SOURCES["tiny"]
    arguments = (source.url, source.checksum, str(source.downloads[0].size), str(cache), repr(source.members))
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    assert left(cache) == {"set.tar.gz", ".tiny-files.unfinished"}
    assert download.fetched("tiny", cache) is None
    assert is_complete(fetch(cache))
    assert left(cache) == {"set.tar.gz", "tiny-files"}
