"""What a run on the digits loses if it is killed or stopped, its checkpoints are damaged, or the disk is full.

    python benchmarks/robustness/faults.py [--kills 50] [--terminations 10] [--losses 10] [--seed 0] [--out FILE]

- killed: one run is started again after each SIGKILL and each SIGTERM. They come at random times within each of its
  phases (training, evaluating, writing a checkpoint, writing its metrics, reading a checkpoint, reading the data). Its
  end is compared bit by bit with that of a run that was never stopped.
- lost: the same for a run in two processes, one of which is killed. The other must end within two minutes, with a
  message. Then two processes start with different folders.
- damaged: each file of the newest checkpoint is truncated, emptied, altered (one bit) and deleted; then the same is
  done to both checkpoints.
- full: the size of files is limited, and a small tmpfs, if one can be mounted (as root), is filled up.

It prints a table, and writes the lines of each part when the part is done; the file keeps the lines of parts that are
not run. The exit code is 1 if anything was lost that should not be.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from watching import NAME, PHASES, End, Progress, Trial, epochs_to_repeat

from padam_optax.experiments import find
from padam_optax.records.store import RunDirectory
from padam_optax.runner.datasets import load_data
from padam_optax.runner.run import run
from padam_optax.training.checkpoint import CheckpointError, CheckpointWarning

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

# A start does these once; the others once an epoch.
ONCE = ("reading a checkpoint", "reading the data")
LONGEST_WAIT = 120


@dataclasses.dataclass
class Row:
    """A line of the table: how often a fault was tried, how often it ended as expected, and the outcomes.

    `epochs_repeated` is the largest number of epochs that one of them made the run train again.
    """

    fault: str
    where: str
    tried: int = 0
    as_expected: int = 0
    epochs_repeated: int = 0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)

    def count(self, expected: bool, outcome: str, epochs_repeated: int = 0) -> None:
        self.tried += 1
        self.as_expected += expected
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        self.epochs_repeated = max(self.epochs_repeated, epochs_repeated)

    def __str__(self) -> str:
        outcomes = "; ".join(f"{times} x {outcome}" for outcome, times in self.outcomes.items())
        found = f"{self.as_expected:3} of {self.tried:3} | {self.epochs_repeated}"
        return f"{self.fault:12} | {self.where:42} | {found} | {outcomes}"


def interrupt(process: subprocess.Popen[str], progress: Progress, phase: str, turn: int, delay: float, number: int):
    """Sends a signal `delay` seconds after the run began with `phase` for the `turn`-th time; what it did then."""
    while progress.times(phase) < turn and process.poll() is None:
        time.sleep(1e-4)
    time.sleep(delay)
    # The kill comes first, as asking takes time.
    process.send_signal(number)
    return progress.phase or "between these"


def kill(folder: pathlib.Path, scratch: pathlib.Path, kills: int, terminations: int, draw: random.Random) -> list[Row]:
    epochs = 4 * kills + 3 * terminations
    whole = Trial(folder / "never stopped", scratch, epochs)
    code, errors = whole.finish()
    assert code == 0, errors
    seconds = whole.seconds()
    trial = Trial(folder / "killed", scratch, epochs)
    rows: dict[tuple[signal.Signals, str], Row] = {}
    numbers = [signal.SIGKILL] * kills + [signal.SIGTERM] * terminations
    draw.shuffle(numbers)
    for turn, number in enumerate(numbers):
        phase = list(PHASES)[turn % len(PHASES)]
        # The first training is the one that compiles.
        wanted = 1 if phase in ONCE else draw.randint(2, 4)
        before = trial.directory.read()
        process = trial.start()
        did = interrupt(process, trial.progress, phase, wanted, draw.uniform(0, seconds[phase]), number)
        _, errors = process.communicate()
        row = rows.setdefault((number, did), Row(number.name, did))
        expected = 0 if number == signal.SIGTERM else -signal.SIGKILL
        repeated = 0 if trial.directory.read() == before else epochs_to_repeat(trial.directory)
        in_time = repeated == 0 if number == signal.SIGTERM else repeated <= 1
        outcome = "exit code 0" if process.returncode == 0 else f"exit code {process.returncode}"
        row.count(process.returncode == expected and in_time and "Traceback" not in errors, outcome, repeated)
        if process.returncode != expected:
            print(errors, file=sys.stderr)
        print(f"{turn + 1} of {len(numbers)}: {row}", flush=True)
    code, errors = trial.finish()
    end = Row("all of them", f"{len(numbers)} times in one run of {epochs} epochs")
    end.count(code == 0 and trial.end().equals(whole.end()), "bit-equal" if code == 0 else f"exit code {code}")
    return [*sorted(rows.values(), key=lambda row: (row.fault, row.where)), end]


def options_of_two() -> list[list[str]]:
    """How each of two processes learns of the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [["--coordinator", address, "--process", f"{number}/2"] for number in range(2)]


def finish_both(both: list[Trial]) -> list[tuple[int, str]]:
    """Exit code and standard error of each."""
    started = [trial.start(*options) for trial, options in zip(both, options_of_two(), strict=True)]
    errors = [process.communicate()[1] for process in started]
    return [(process.returncode, error) for process, error in zip(started, errors, strict=True)]


def says_why(code: int, errors: str) -> str | None:
    """How a process ended whose partner was lost, or None if its user would not know why."""
    if "Traceback" in errors:
        return None
    ours = [line for line in errors.splitlines() if line.startswith("Error: ")]
    if len(ours) == 1 and code in (2, 3):
        return f"exit code {code}, one line of error"
    if code == -signal.SIGABRT and "another task died" in errors:
        return "aborted, JAX's own message"
    return None


def lose(folder: pathlib.Path, scratch: pathlib.Path, losses: int, draw: random.Random) -> list[Row]:
    epochs = 4 * losses
    whole = [Trial(folder / "never stopped", scratch, epochs, number) for number in range(2)]
    for code, errors in finish_both(whole):
        assert code == 0, errors
    seconds = [trial.seconds() for trial in whole]
    both = [Trial(folder / "lost", scratch, epochs, number) for number in range(2)]
    rows = [Row("SIGKILL", f"process {number} of two") for number in range(2)]
    slowest = 0.0
    for turn in range(losses):
        lost = turn % 2
        # Only process 0 writes metrics.
        phase = draw.choice([name for name in PHASES if name in seconds[lost]])
        wanted = 1 if phase in ONCE else draw.randint(2, 4)
        started = [trial.start(*options) for trial, options in zip(both, options_of_two(), strict=True)]
        did = interrupt(
            started[lost],
            both[lost].progress,
            phase,
            wanted,
            draw.uniform(0, seconds[lost][phase]),
            signal.SIGKILL,
        )
        began = time.perf_counter()
        try:
            _, errors = started[1 - lost].communicate(timeout=LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            started[1 - lost].kill()
            _, errors = started[1 - lost].communicate()
        slowest = max(slowest, time.perf_counter() - began)
        started[lost].communicate()
        said = says_why(started[1 - lost].returncode, errors)
        repeated = epochs_to_repeat(both[0].directory)
        rows[lost].count(said is not None and repeated <= 1, f"{said or '?'} ({did})", repeated)
        if said is None:
            print(errors, file=sys.stderr)
        print(f"{turn + 1} of {losses}: {rows[lost]}", flush=True)
    ends = finish_both(both)
    last = Row("all of them", f"{losses} times in one run of {epochs} epochs in two processes")
    equal = [code for code, _ in ends] == [0, 0] and both[0].end().equals(whole[0].end())
    last.count(equal and slowest < LONGEST_WAIT, f"{'bit-equal' if equal else '?'}, none waited over {slowest:.0f} s")
    apart = Row("two folders", "--out not shared by two processes")
    ends = finish_both([Trial(folder / f"alone {number}", scratch, epochs, number) for number in range(2)])
    refused = all(is_one_error(*end) and "is not one folder" in end[1] for end in ends)
    apart.count(refused, "one line of error from each" if refused else "?")
    return [*rows, last, apart]


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def alter(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {"truncated": truncate, "emptied": empty, "altered": alter, "deleted": pathlib.Path.unlink}


def damage(folder: pathlib.Path) -> list[Row]:
    spec = find(NAME).with_epochs(5)
    data = load_data(spec, None, "")
    run(spec, 0, data, folder / "whole", checkpoint_every=1)
    whole = End.of(RunDirectory(folder / "whole", NAME, 0), 5)

    def stop(line: dict[str, Any]) -> None:
        if line["epoch"] == 4:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        run(spec, 0, data, folder / "stopped", checkpoint_every=1, on_epoch=stop)
    directory = RunDirectory(folder / "stopped", NAME, 0)
    before, newest = sorted(directory.checkpoints.iterdir(), key=lambda path: int(path.name))
    files = sorted(path.relative_to(newest) for path in newest.rglob("*") if path.is_file())
    rows: dict[tuple[str, str], Row] = {}
    for file in files:
        for name, function in DAMAGES.items():
            # The names of files of values are random.
            kind = re.sub("[0-9a-f]{32}", "*", str(file))
            row = rows.setdefault((name, kind), Row(name, kind))
            out = folder / "damaged"
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(folder / "stopped", out)
            copied = RunDirectory(out, NAME, 0)
            function(copied.checkpoints / newest.name / file)
            lines: list[dict[str, Any]] = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run(spec, 0, data, out, checkpoint_every=1, on_epoch=lines.append)
            told = [str(warning.message) for warning in caught if warning.category is CheckpointWarning]
            both = [str(copied.checkpoints / path.name) for path in (before, newest)]
            named = len(told) == 1 and all(path in told[0] for path in both)
            equal = End.of(copied, 5).equals(whole)
            # A process may have been killed before it wrote the checksums: such a checkpoint is used, with a warning.
            unseen = kind == "checksums.json" and name == "deleted" and len(told) == 1 and lines[0]["epoch"] == 5
            outcome = "used, being whole" if unseen else "the one before used" if named else "?"
            row.count(equal and (unseen or named), outcome, 4 - lines[0]["epoch"] + 1)
    row = Row("both damaged", "values")
    for name, function in DAMAGES.items():
        out = folder / "damaged"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(folder / "stopped", out)
        copied = RunDirectory(out, NAME, 0)
        for checkpoint in copied.checkpoints.iterdir():
            function(max(checkpoint.rglob("*"), key=lambda path: path.stat().st_size))
        record = copied.read()
        try:
            run(spec, 0, data, out, checkpoint_every=1)
            row.count(False, name)
        except CheckpointError as error:
            row.count(record == copied.read() and "--no-resume" in str(error), "refused, the record left as it was")
    return [*by_kind(rows), row]


def by_kind(rows: dict[tuple[str, str], Row]) -> list[Row]:
    """One row for a kind of file, whatever the damage."""
    merged: dict[str, Row] = {}
    for (_, kind), row in rows.items():
        total = merged.setdefault(kind, Row("damaged", kind))
        total.tried += row.tried
        total.as_expected += row.as_expected
        total.epochs_repeated = max(total.epochs_repeated, row.epochs_repeated)
        for outcome, times in row.outcomes.items():
            total.outcomes[outcome] = total.outcomes.get(outcome, 0) + times
    return list(merged.values())


def is_one_error(code: int, errors: str) -> bool:
    lines = [line for line in errors.splitlines() if line.strip()]
    return code == 2 and sum(line.startswith("Error: ") for line in lines) == 1 and "Traceback" not in errors


def fill_up(folder: pathlib.Path, scratch: pathlib.Path) -> list[Row]:
    epochs = 4
    whole = Trial(folder / "never stopped", scratch, epochs)
    assert whole.finish()[0] == 0
    rows = []
    for limit in (0, 100, 400, 1_000, 20_000, 200_000):
        row = Row("disk full", f"no file above {limit:,} bytes")
        trial = Trial(folder / f"limit {limit}", scratch, epochs)
        code, errors = trial.finish(limit=limit)
        trial.directory.read()
        again, _ = trial.finish()
        equal = again == 0 and trial.end().equals(whole.end())
        row.count(is_one_error(code, errors) and equal, "one line of error, then bit-equal" if equal else "?")
        rows.append(row)
    mounted = folder / "tmpfs"
    mounted.mkdir()
    row = Row("disk full", "tmpfs of 4 MB filled by another file")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mounted], capture_output=True).returncode:
        row.outcomes["not tried: no tmpfs could be mounted"] = 1
        return [*rows, row]
    try:
        for left in (0, 100_000, 700_000, 1_300_000):
            trial = Trial(mounted / str(left), scratch, epochs)
            free = shutil.disk_usage(mounted).free
            (mounted / "another").write_bytes(bytes(max(0, free - left)))
            code, errors = trial.finish()
            record = trial.directory.read()
            (mounted / "another").unlink()
            again, _ = trial.finish()
            equal = again == 0 and trial.end().equals(whole.end())
            at = 0 if record is None else record.epochs
            row.count(is_one_error(code, errors) and equal, f"error after epoch {at}, then bit-equal" if equal else "?")
            shutil.rmtree(mounted / str(left))
    finally:
        subprocess.run(["umount", mounted], check=True)
    return [*rows, row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs")
    parser.add_argument("--terminations", type=int, default=10, help="SIGTERMs")
    parser.add_argument("--losses", type=int, default=10, help="SIGKILLs of one of two processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="killed,lost,damaged,full")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()
    found: dict[str, list[Row]] = {}
    out: pathlib.Path | None = arguments.out
    recorded = json.loads(out.read_text())["parts"] if out is not None and out.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        scratch = folder / "scratch"
        parts: dict[str, Callable[[], list[Row]]] = {
            "killed": lambda: kill(
                folder / "kills", scratch, arguments.kills, arguments.terminations, random.Random(arguments.seed)
            ),
            "lost": lambda: lose(folder / "losses", scratch, arguments.losses, random.Random(arguments.seed)),
            "damaged": lambda: damage(folder / "damages"),
            "full": lambda: fill_up(folder / "full", scratch),
        }
        for part in arguments.parts.split(","):
            found[part] = parts[part]()
            if out is not None:
                recorded[part] = [dataclasses.asdict(row) for row in found[part]]
                write(out, seed=arguments.seed, parts={name: recorded[name] for name in parts if name in recorded})
    rows = [row for part in found.values() for row in part]
    print("fault, where | ended as expected | most epochs repeated | outcomes", *rows, sep="\n")
    if any(row.as_expected < row.tried for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
