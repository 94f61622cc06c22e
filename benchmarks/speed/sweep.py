"""Time of a sweep of K configurations over the time of K single runs in processes, start and compilation included.

    python benchmarks/speed/sweep.py [--kinds digits,cifar10-mini,ptb-mini] [--cifar-dir DIR --cifar-label NAME] \
        [--ptb-dir DIR] [--modes vectorized,mapped] [--out FILE]

- digits: the demonstration's CNN, 40 epochs, K in 1, 4, 16, 64;
- cifar10-mini, ptb-mini: two epochs, K in 1, 4.

Single runs are `padam run`, timed `--singles` times, and their median is multiplied by K: all K would take hours.
Sweeps are `padam sweep` over K learning rates. The default mode in `padam_optax/runner/sweep.py` follows from these
results. Run it on an idle machine.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import write


def seconds(*arguments: str) -> float:
    """Wall-clock time of the command `padam` with these arguments."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "padam_optax", *arguments, "--out", out]
        subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def rates(count: int) -> str:
    """So many learning rates near each other, so that no run diverges."""
    return ",".join(f"{0.05 * (1 + place / count):.6g}" for place in range(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default="digits")
    parser.add_argument("--modes", default="vectorized,mapped")
    parser.add_argument("--counts", type=int, nargs="*", help="K; by default those above")
    parser.add_argument("--singles", type=int, default=3, help="single runs that are timed")
    parser.add_argument("--cifar-dir")
    parser.add_argument("--cifar-label", default="")
    parser.add_argument("--ptb-dir")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()

    kinds = {
        "digits": ([], "40", (1, 4, 16, 64)),
        "cifar10-mini": (["--data-dir", arguments.cifar_dir, "--data-label", arguments.cifar_label], "2", (1, 4)),
        "ptb-mini": (["--data-dir", arguments.ptb_dir], "2", (1, 4)),
    }
    rows = []
    for kind in arguments.kinds.split(","):
        data, epochs, counts = kinds[kind]
        common = [f"{kind}-padam", "--epochs", epochs, *data]
        single = statistics.median(seconds("run", *common, "--checkpoint-every", "0") for _ in range(arguments.singles))
        for mode in arguments.modes.split(","):
            for count in arguments.counts or counts:
                # As `padam run`: all training images, and the test set.
                images = [] if kind == "ptb-mini" else ["--held-out", "0"]
                lanes = ["--learning-rate", rates(count), "--mode", mode, "--batch-configs", str(count)]
                took = seconds("sweep", *common, *images, *lanes)
                row = {
                    "kind": kind,
                    "mode": mode,
                    "configurations": count,
                    "sweep_seconds": took,
                    "single_run_seconds": single,
                    "ratio": took / (count * single),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    if arguments.out is not None:
        write(arguments.out, singles=arguments.singles, rows=rows)


if __name__ == "__main__":
    main()
