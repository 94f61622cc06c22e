"""Records that are not what they should be, made from a good one: each place of it with each value that is wrong."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from padam_optax.experiments import find
from padam_optax.records.record import DataSource, Device, Record, SharedProgram

DEEP = "@deep@"
MISSING = object()
WRONG = {
    "null": None,
    "text": "x",
    "a number as text": "1",
    "number": 0.5,
    "true": True,
    "negative": -1,
    "400 digits": int("9" * 400),
    "1e308": 1e308,
    "nan": float("nan"),
    "list": [],
    "object": {},
    "nested": DEEP,
    "half of a pair": "a\ud800",
    "missing": MISSING,
}


def good() -> dict[str, Any]:
    """A packed run of one epoch, as JSON has it."""
    spec = dataclasses.replace(find("digits-padam").with_epochs(1), trial=("p",), variant_of="digits-padam")
    record = Record(
        spec,
        0,
        DataSource("digits", 1000, 797, "sum"),
        Device("abacus", "cpu", 1),
        {"jax": "1"},
        SharedProgram("mapped", 1),
    )
    measured = {"train_loss": 0.5, "test_error": 0.1, "learning_rate": 0.1, "seconds": 1.0}
    rates = {"quantiles": {"0.5": 0.1}, "threshold": 1e-4, "share_below": 0.5}
    line = {"epoch": 1, **measured, "examples_per_second": None, "effective_rates": rates}
    row = {"run": f"{spec.name}/seed-0", "config": record.config(), "metrics": [line]}
    return json.loads(json.dumps(row))


def _places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    if path:
        yield path
    for name, entry in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from _places(entry, (*path, name))


def malformed() -> Iterator[tuple[str, str]]:
    """Each variant: what is wrong where, and the line of a packed file."""
    for path in _places(good()):
        for name, wrong in WRONG.items():
            row = copy.deepcopy(good())
            place: Any = row
            for part in path[:-1]:
                place = place[part]
            if wrong is MISSING:
                del place[path[-1]]
            else:
                place[path[-1]] = wrong
            # Beyond what Python's own recursion takes.
            yield f"{'.'.join(map(str, path))} {name}", json.dumps(row).replace(f'"{DEEP}"', "[" * 900 + "]" * 900)
