"""Reads values of hyper-parameters as a shell command gives them, forms their product, and limits them and seeds."""

import dataclasses
import fractions
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from padam_optax.experiments.spec import Experiment

# More than this is taken for a slip of the pen: the whole grid is listed before anything is trained.
MOST_VALUES = 10_000
MOST_CONFIGURATIONS = 100_000
MOST_SEEDS = 10_000
MOST_JOBS = 64
# The seed is an int32 of the compiled program.
LARGEST_SEED = 2**31 - 1
_FORMS = "numbers or fractions, separated by commas (1/16,1/8,0.25), or FROM:TO:log:COUNT or FROM:TO:lin:COUNT"


def parse_values(text: str) -> tuple[float, ...]:
    """Reads `1/16,1/8,.25` or `1e-3:1e1:log:5`, ends included.

    Raises:
      ValueError: If the text cannot be read, has no value, a value twice, or more than 10,000 values; the message names
        the forms.
    """
    values = tuple(itertools.chain(*(_part(part.strip(), text) for part in text.split(","))))
    if len(values) > MOST_VALUES:
        raise ValueError(f"{text[:80]!r} has {len(values):,} values; {MOST_VALUES:,} are allowed.")
    if len(set(values)) < len(values):
        raise ValueError(f"{text!r} has a value twice.")
    return values


def _part(part: str, text: str) -> list[float]:
    pieces = part.split(":")
    if len(pieces) == 1:
        return [_number(part, text)]
    if len(pieces) != 4 or pieces[2] not in ("log", "lin") or not pieces[3].isdecimal():
        raise ValueError(f"{part!r} is not a range; expected {_FORMS}, with a COUNT of 2 or more.")
    # Python refuses to read thousands of digits.
    count = int(pieces[3][:20])
    if not 2 <= count <= MOST_VALUES:
        raise ValueError(f"The COUNT of {part[:80]!r} must be from 2 to {MOST_VALUES:,}.")
    first, last = _number(pieces[0], text), _number(pieces[1], text)
    shares = [place / (count - 1) for place in range(count)]
    if pieces[2] == "lin":
        return [rounded(first + (last - first) * share) for share in shares]
    if first <= 0 or last <= 0:
        raise ValueError(f"{part!r}: the ends of a logarithmic range must be above 0.")
    return [rounded(first * (last / first) ** share) for share in shares]


def _number(part: str, text: str) -> float:
    try:
        value = float(fractions.Fraction(part)) if "/" in part else float(part)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{part!r} in {text!r} is not a number; expected {_FORMS}.") from None
    if not math.isfinite(value):
        raise ValueError(f"{part!r} in {text!r} must be finite.")
    return value


def rounded(value: float) -> float:
    """Rounds to four significant digits, so that names and tables hold the exact value."""
    return float(f"{value:.4g}")


class Range(NamedTuple):
    """All numbers from `low` to `high`, for a search to choose from; on a logarithmic scale if `log`."""

    low: float
    high: float
    log: bool


def parse_space(text: str) -> Range | tuple[float, ...]:
    """Reads `1e-3:1e1:log` or `0:1/2:lin` as a range, and what `parse_values` reads as values.

    Raises:
      ValueError: If the text cannot be read; the message names the forms.
    """
    pieces = text.split(":")
    if len(pieces) != 3:
        return parse_values(text)
    low, high = _number(pieces[0], text), _number(pieces[1], text)
    if pieces[2] not in ("log", "lin") or low >= high or (pieces[2] == "log" and low <= 0):
        raise ValueError(
            f"{text!r} is not a range; expected LOW:HIGH:log or LOW:HIGH:lin, LOW below HIGH and, for log, above 0."
        )
    return Range(low, high, pieces[2] == "log")


def product(experiment: Experiment, values: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values; those of the last name change fastest.

    Raises:
      ValueError: If there is no value, the experiment lacks a hyper-parameter of such a name, a value is out of its
        bounds, or there are more than 100,000 combinations; the message says what is allowed.
    """
    if not values or not all(values.values()):
        raise ValueError("The grid is empty: give values for one hyper-parameter or more.")
    for name, given in values.items():
        check_values(experiment, name, given)
    count = math.prod(map(len, values.values()))
    if count > MOST_CONFIGURATIONS:
        raise ValueError(f"The grid has {count:,} configurations; {MOST_CONFIGURATIONS:,} are allowed.")
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


def check_values(experiment: Experiment, name: str, values: Iterable[float]) -> None:
    """Raises a ValueError if the experiment has no such hyper-parameter or a value is out of its bounds."""
    if name not in experiment.hyperparameters:
        raise ValueError(f"{experiment.name} has no {name!r}; it has {', '.join(experiment.hyperparameters)}.")
    for value in values:
        for allowed, names, holds in (
            ("in [0, 1/2]", ("p",), 0 <= value <= 0.5),
            ("in [0, 1)", ("b1", "b2", "momentum"), 0 <= value < 1),
            ("0 or more", (), value >= 0),
        ):
            if (name in names or not names) and not holds:
                raise ValueError(f"{name} must be {allowed}, got {value:g}.")


def check_seeds(seeds: Iterable[int]) -> None:
    """Raises a ValueError if a seed is out of its bounds."""
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"A seed must be from 0 to {LARGEST_SEED}, got {seed}.")


def trial_of(experiment: Experiment, chosen: Mapping[str, float]) -> Experiment:
    """The experiment with other values of some hyper-parameters, for a run of a search or a sweep.

    Its name holds them, such as `ptb-mini-padam@learning_rate=0.1,p=0.25`.
    """
    return dataclasses.replace(
        experiment,
        name=f"{experiment.name}@{','.join(f'{name}={value:g}' for name, value in chosen.items())}",
        hyperparameters={**experiment.hyperparameters, **chosen},
        variant_of=experiment.name,
        trial=tuple(chosen),
        paper=(),
    )
