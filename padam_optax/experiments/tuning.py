"""How the settings of our own recipes are chosen: the search space of every method, as it was before the first trial.

Every method gets `TRIALS` trials, at half the epochs, each with `SEEDS`, scored on examples held out from training
(images: the last fifth of the training images; text: the validation text). What has the best mean is the recipe's, and
is trained on the whole with seeds that the search never saw.

A space has two axes. The learning rates of the trials divide three decades evenly on a logarithmic scale; the values of
the second hyper-parameter take turns, so that each meets rates from all of the range. Everything else is the paper's.

    >>> [trial["p"] for trial in trials("padam", {"p": 0.125})][:4]
    [0.0625, 0.125, 0.25, 0.0625]

`benchmarks/studies/tune.py` trains them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.spec import Experiment, ImageClassification

# No run of a result has one of these.
SEEDS = (1000, 1001)
TRIALS = 12
HELD_OUT = 0.2

# The suites that have searches, each with that of the same experiments at the settings before any choice.
UNTUNED: Mapping[str, str] = {
    "digits-mini": "digits",
    "cifar10-mini": "cifar10-mini-untuned",
    "ptb-mini": "ptb-mini-untuned",
    "ptb-transformer-mini": "ptb-transformer-mini-untuned",
}


@dataclasses.dataclass(frozen=True)
class Space:
    """What the trials of a method choose from.

    Attributes:
      rates: Lowest and highest learning rate; the trials' lie at the middles of as many equal shares of the logarithm.
      second: The other hyper-parameter.
      values: What it takes, in turn; multiples of the suite's default if `relative`.
      relative: See `values`.
    """

    rates: tuple[float, float]
    second: str
    values: tuple[float, ...]
    relative: bool = False


_ADAPTIVE = (3e-4, 3e-1)
_B2 = ("b2", (0.99, 0.999))
_P = ("p", (1 / 16, 1 / 8, 1 / 4))
_AROUND = (0.1, 1.0, 10.0)
SPACES: Mapping[str, Space] = {
    "sgdm": Space((1e-2, 1e1), "momentum", (0.8, 0.9, 0.95)),
    "adam": Space(_ADAPTIVE, *_B2),
    "amsgrad": Space(_ADAPTIVE, *_B2),
    "adamw": Space(_ADAPTIVE, "normalized_weight_decay", _AROUND, relative=True),
    "yogi": Space((3e-3, 3.0), *_B2),
    "adabound": Space(_ADAPTIVE, "final_learning_rate", _AROUND, relative=True),
    "padam": Space((3e-2, 3e1), *_P),
    "padam-reference": Space(_ADAPTIVE, *_P),
}


# The settings for images before any choice: the paper's, or the library's.
IMAGES: Mapping[str, Mapping[str, float]] = {method: METHODS[method].settings for method in SPACES}


def recipe(
    suite: str, settings: Mapping[str, Mapping[str, float]], choices: Mapping[str, Mapping[str, float]], **shared: Any
) -> tuple[Experiment, ...]:
    """The experiments of a suite, one for each method of `SPACES`, with five seeds.

    Args:
      suite: Its name.
      settings: Those of each method before any choice.
      choices: What was chosen instead, by method; none for the suite before any choice.
      **shared: What all have in common: further fields of `Experiment`.
    """
    return tuple(
        Experiment(
            name=f"{suite}-{method}",
            suite=suite,
            optimizer=method,
            hyperparameters={**settings[method], **(choices[method] if choices else {})},
            seeds=(0, 1, 2, 3, 4),
            **shared,
        )
        for method in SPACES
    )


def trials(method: str, defaults: Mapping[str, float]) -> list[dict[str, float]]:
    """The settings of a method's trials, of rising learning rate.

    Args:
      method: A key of `SPACES`.
      defaults: The suite's settings of the method before any choice, which relative values are multiples of.

    Raises:
      KeyError: If no space is written down for the method.
    """
    space = SPACES[method]
    low, high = space.rates
    unit = defaults[space.second] if space.relative else 1.0
    return [
        {
            "learning_rate": _rounded(low * (high / low) ** ((place + 0.5) / TRIALS)),
            space.second: _rounded(unit * space.values[place % len(space.values)]),
        }
        for place in range(TRIALS)
    ]


def _rounded(value: float) -> float:
    """To four digits, so that it can be written down."""
    return float(f"{value:.4g}")


def shortened(experiment: Experiment) -> Experiment:
    """A recipe as its trials are trained: half the epochs, on what is not held out."""
    shorter = dataclasses.replace(experiment.with_epochs(experiment.epochs // 2), seeds=SEEDS)
    return shorter.with_task(held_out=HELD_OUT) if isinstance(shorter.task, ImageClassification) else shorter
