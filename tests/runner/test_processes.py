"""Runs that change their devices, and two processes that train together: one record, stopped and lost together."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import pytest
from two_processes import ROOT, coordinator, pair

from padam_optax.cli.devices import choose_devices, ending_together
from padam_optax.experiments import find
from padam_optax.records.files import StoreError
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import load_data
from padam_optax.runner.run import run
from padam_optax.training import processes

SPEC = find("digits-padam").with_epochs(12)
# Environment of the other processes, most of whose time is compiling.
SETTINGS = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

# Stops within the second epoch or after it.
ON_EIGHT_DEVICES = """
import sys
from padam_optax.experiments import find
from padam_optax.runner.datasets import load_data
from padam_optax.cli.devices import choose_devices
from padam_optax.runner.run import run

spec, lines = find("digits-padam").with_epochs(12), []
placement = choose_devices(8, shard_optimizer=True)
data = load_data(spec, None, "")
run(spec, 0, data, sys.argv[1], placement=placement, on_epoch=lines.append, should_stop=lambda: bool(lines))
"""


TALKING = """
import sys
from padam_optax.cli.devices import choose_devices, ending_together
from padam_optax.training import processes
from padam_optax.training.processes import agreed

processes._PATIENCE_SECONDS = 10
choose_devices(coordinator=sys.argv[1], process=sys.argv[2])
with ending_together(lambda message: print("lost:", message, file=sys.stderr, flush=True)):
    agreed(0)
    print("together", flush=True)
    while True:
        agreed(0)
"""


def train_together(out: pathlib.Path) -> list[subprocess.Popen]:
    """`padam run` in two processes, once they have recorded an epoch."""
    address = coordinator()
    arguments = ["-m", "padam_optax", "run", SPEC.name, "--epochs", SPEC.epochs, "--out", out, "--coordinator", address]
    both = pair(lambda number: [*arguments, "--process", f"{number}/2"], **SETTINGS)
    for line in both[0].stderr:
        if ": epoch" in line:
            break
    return both


@pytest.fixture(scope="module")
def data():
    return load_data(SPEC, None, "")


@pytest.fixture(scope="module")
def never_stopped(data, tmp_path_factory):
    return run(SPEC, 0, data, tmp_path_factory.mktemp("whole"), checkpoint_every=0)


@pytest.fixture(scope="module")
def on_eight_devices(tmp_path_factory) -> pathlib.Path:
    """Records of a run that was stopped on 8 devices, with a checkpoint whose optimizer is in 8 parts."""
    out = tmp_path_factory.mktemp("eight")
    environment = os.environ | SETTINGS | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    subprocess.run([sys.executable, "-c", ON_EIGHT_DEVICES, out], cwd=ROOT, env=environment, check=True)
    record = RunDirectory(out, SPEC.name, 0).read()
    assert 1 <= record.epochs <= 2
    assert record.device.count == 8
    return out


def assert_close(record, expected) -> None:
    """In float32: sums in another order, over 84 steps."""
    assert [line["epoch"] for line in record.metrics] == [line["epoch"] for line in expected.metrics]
    for one, other in zip(record.metrics, expected.metrics, strict=True):
        for name in ("train_loss", "test_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_eight_devices_then_one(on_eight_devices, never_stopped, data, tmp_path):
    out = shutil.copytree(on_eight_devices, tmp_path / "out")
    done = RunDirectory(out, SPEC.name, 0).read().epochs
    lines = []
    record = run(SPEC, 0, data, out, on_epoch=lines.append)
    assert lines[0]["epoch"] == done + 1
    assert record.device.count == 1
    assert_close(record, never_stopped)


def test_eight_devices_then_two_processes_then_one(on_eight_devices, never_stopped, data, tmp_path):
    """SIGTERM to one of the two stops both, with one checkpoint; the record is the first's alone."""
    out = shutil.copytree(on_eight_devices, tmp_path / "out")
    both = train_together(out)
    both[1].terminate()
    (output, errors), (silence, _) = (process.communicate() for process in both)
    assert [process.returncode for process in both] == [0, 0], errors
    assert "Stopped by another process" in output
    # Gloo's own word aside.
    assert [line for line in silence.splitlines() if "[Gloo]" not in line] == []
    stopped = RunDirectory(out, SPEC.name, 0).read()
    assert 2 <= stopped.epochs < SPEC.epochs
    assert (stopped.device.count, stopped.device.processes) == (2, 2)
    lines = []
    record = run(SPEC, 0, data, out, on_epoch=lines.append)
    assert lines[0]["epoch"] == stopped.epochs + 1
    assert_close(record, never_stopped)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_other(lost):
    """`padam run` says so within `ending_together`. Without it, SIGTERM ends a process: JAX does not listen for it."""
    address = coordinator()
    both = pair(lambda number: ["-c", TALKING, address, f"{number}/2"])
    for process in both:
        while "together" not in process.stdout.readline():
            assert process.poll() is None
    both[lost].terminate()
    _, errors = both[1 - lost].communicate(timeout=120)
    assert both[lost].wait() == -signal.SIGTERM
    # JAX's own end may come first where process 0, which it counts on, is lost.
    ours = both[1 - lost].returncode == 3 and "lost: " in errors
    assert ours or (both[1 - lost].returncode == -signal.SIGABRT and "another task died" in errors)


# Prints the addresses that it listens on, as Linux has them: the host in hexadecimal digits, then the port.
LISTENING = """
import os, pathlib, sys
from padam_optax.training import processes

processes.start(sys.argv[1], 0, 1)
own = {os.readlink(path) for path in pathlib.Path("/proc/self/fd").iterdir() if path.is_symlink()}
for table in ("tcp", "tcp6"):
    for line in pathlib.Path("/proc/net", table).read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in own:
            print(words[1])
"""


@pytest.mark.skipif(not pathlib.Path("/proc/net/tcp").exists(), reason="Linux says who listens where")
def test_process_0_listens_where_it_was_told_to():
    """JAX's default is all addresses of the host."""
    address = coordinator()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", LISTENING, address], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    listening = result.stdout.split()
    assert f"0100007F:{int(address.rpartition(':')[2]):04X}" in [line[-13:] for line in listening]
    # 127.0.0.1, also as an address of IPv6.
    assert {line.rpartition(":")[0] for line in listening} <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_process_0_may_listen_elsewhere(monkeypatch):
    """Where the others know it by an address that its host does not have."""
    given = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **settings: given.update(settings))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", coordinator())
    processes.start("203.0.113.1:1234", 0, 2)
    assert given["coordinator_bind_address"] == os.environ["JAX_COORDINATOR_BIND_ADDRESS"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("here", "must be HOST:PORT"),
        (":1234", "must be HOST:PORT"),
        ("here:0", "must be HOST:PORT"),
        ("here:65536", "must be HOST:PORT"),
        ("here:" + 5_000 * "9", "must be HOST:PORT"),
        ("here:x", "must be HOST:PORT"),
        ("203.0.113.1:1234", "cannot listen there .*JAX_COORDINATOR_BIND_ADDRESS"),
        ("no-such-host.invalid:1234", "cannot listen there"),
        ("." * 100 + ":1234", "cannot listen there"),
    ],
)
def test_where_no_process_can_listen(monkeypatch, address, words):
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(ValueError, match=words):
        choose_devices(coordinator=address, process="0/2")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"process": "0/2"}, "need each other"),
        ({"coordinator": "here:1"}, "need each other"),
        ({"coordinator": "here:1", "process": "2/2"}, "'2/2'"),
        ({"coordinator": "here:1", "process": "first"}, "'first'"),
        ({"devices": jax.local_device_count() + 1}, "devices must be from 1 to"),
    ],
)
def test_what_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        choose_devices(**options)


def test_one_process_keeps_its_errors():
    with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"), ending_together(print):
        raise jax.errors.JaxRuntimeError("out of memory")


@pytest.mark.parametrize("shared", [True, False])
def test_a_folder_that_not_all_see(monkeypatch, tmp_path, shared):
    """As process 0 sees it, and as one does that sees the same folder or one of its own."""
    own = tmp_path / "own"
    seen_by_other = []

    def at_the_barrier(place):
        (token,) = own.iterdir()
        seen_by_other.append(((own if shared else tmp_path) / token.name).exists())

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "agreed", lambda value: value)
    monkeypatch.setattr(processes, "wait_for_all", at_the_barrier)
    monkeypatch.setattr(processes, "anywhere", lambda flag: flag or not seen_by_other[0])
    assert processes.is_shared(own) == shared
    assert list(own.iterdir()) == []
    # The other one never sees the file of process 0.
    monkeypatch.setattr(processes, "_SIGHT_SECONDS", 0)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(processes, "wait_for_all", lambda place: None)
    assert not processes.is_shared(own)
    assert list(own.iterdir()) == []


def test_a_folder_that_not_all_see_is_refused(monkeypatch, data, tmp_path):
    monkeypatch.setattr(processes, "is_shared", lambda folder: False)
    with pytest.raises(StoreError, match=f"{tmp_path} is not one folder for all processes"):
        run(SPEC, 0, data, tmp_path)
