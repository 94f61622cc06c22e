"""The recorded runs of the repository, each file read once however many tests look at it."""

import functools
import pathlib

from padam_optax.records.record import Record
from padam_optax.records.store import read_all

ROOT = pathlib.Path(__file__).parents[2]
RECORDED = ROOT / "benchmarks" / "records"
RESULTS_PAGE = ROOT / "benchmarks" / "reports" / "results.md"
_LOG = pathlib.Path(__file__).parent / "data" / "records"


@functools.cache
def recorded(suite: str) -> list[Record]:
    """The runs of a suite or a study, such as `cifar10-mini` or `effective-rates`; tests only look at them."""
    (file,) = RECORDED.rglob(f"{suite}.jsonl")
    return read_all(file)


@functools.cache
def log() -> list[Record]:
    """A small log: runs of `fake_records.SMALL`, some diverged, stopped, shortened or on other data."""
    return read_all(_LOG)
