"""Shared by the benchmarks: measures the time of a call, and writes a result with its machine."""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def median_seconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call that returns when its work is done; the first call is not counted."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def study_arguments(description: str) -> argparse.ArgumentParser:
    """The options that studies share: where the result and its picture go, and a short trial."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    parser.add_argument("--picture", type=pathlib.Path, help="draw it as a PNG")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to try the script")
    return parser


def write(path: pathlib.Path, **result: Any) -> None:
    """Writes a result as JSON, with the versions and the device."""
    device = jax.devices()[0]
    described = {
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "machine": platform.processor() or platform.machine(),
            "cpu_count": os.cpu_count(),
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**described, **result}, indent=2) + "\n")
