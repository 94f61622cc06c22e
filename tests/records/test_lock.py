"""Folders that one process writes to at a time."""

import errno
import fcntl
import subprocess
import sys

import pytest

from padam_optax.records.files import StoreError
from padam_optax.records.lock import locked

HOLDS = """
import pathlib, sys, time
from padam_optax.records.lock import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_another_process_is_refused_until_the_first_ends(tmp_path):
    """However it ends: it is killed here, which leaves the file behind."""
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLDS, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreError) as caught, locked(folder):
            pass
        process.kill()
    assert f"{folder} is in use by process {process.pid} on " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (folder / ".lock").exists()
    with locked(folder):
        pass


def test_another_call_is_refused(tmp_path):
    with locked(tmp_path):
        with pytest.raises(StoreError, match="is in use by process"), locked(tmp_path):
            pass
        with locked(tmp_path, "one"), locked(tmp_path, "other"):
            pass
    with locked(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path):
    elsewhere = tmp_path / "notes.txt"
    elsewhere.write_text("mine")
    (tmp_path / ".lock").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="could not be written"), locked(tmp_path):
        pass
    assert elsewhere.read_text() == "mine"


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path), locked(tmp_path):
        (tmp_path / "written").write_text("twice")
    assert (tmp_path / "written").read_text() == "twice"
