"""The recorded runs of the repository, each file read once however many tests look at it."""

import functools
import pathlib

from padam_optax.records.record import Record
from padam_optax.records.store import read_all

ROOT = pathlib.Path(__file__).parents[2]
RECORDED = ROOT / "benchmarks" / "reproduction"
RESULTS_PAGE = RECORDED / "results" / "results.md"
_EFFECTIVE_RATES = ROOT / "benchmarks" / "results" / "effective-rates"
_LOG = pathlib.Path(__file__).parent / "data" / "records"


@functools.cache
def recorded(suite: str) -> list[Record]:
    """The runs of a suite, such as `cifar10-mini` or `cifar10-mini-tuning`; tests only look at them."""
    return read_all(_EFFECTIVE_RATES if suite == "effective-rates" else RECORDED / suite)


@functools.cache
def log() -> list[Record]:
    """A small log: runs of `fake_records.SMALL`, some diverged, stopped, shortened or on other data."""
    return read_all(_LOG)
