"""Partially adaptive momentum estimation (Padam) as composable Optax transformations.

Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks", IJCAI 2020.
This module needs jax and optax only; `padam_optax.experiments` and the command `padam` need the extra `experiments`.
`padam_optax.diagnostics` and `padam_optax.theory` are imported on first use.
"""

import importlib
import typing

from padam_optax.transforms.adabound import ScaleByAdaboundState, adabound, scale_by_adabound
from padam_optax.transforms.learning_rates import convert_learning_rate
from padam_optax.transforms.partial_adadelta import (
    ScaleByPartialAdadeltaState,
    partial_adadelta,
    scale_by_partial_adadelta,
)
from padam_optax.transforms.partial_adagrad import ScaleByPartialRssState, partial_adagrad, scale_by_partial_rss
from padam_optax.transforms.partial_adamax import ScaleByPartialAdamaxState, partial_adamax, scale_by_partial_adamax
from padam_optax.transforms.partial_amsgrad import (
    BiasCorrection,
    Rounding,
    ScaleByPartialAmsgradState,
    padam,
    padamw,
    scale_by_partial_amsgrad,
)
from padam_optax.transforms.partial_rmsprop import (
    ScaleByPartialRmsState,
    ScaleByPartialStddevState,
    partial_rmsprop,
    scale_by_partial_rms,
    scale_by_partial_stddev,
)
from padam_optax.transforms.sampled_iterate import SampledIterateState, sampled_iterate, with_sampled_iterate

if typing.TYPE_CHECKING:
    from padam_optax import diagnostics as diagnostics
    from padam_optax import theory as theory

__version__ = "0.1.0"

__all__ = [
    "BiasCorrection",
    "Rounding",
    "SampledIterateState",
    "ScaleByAdaboundState",
    "ScaleByPartialAdadeltaState",
    "ScaleByPartialAdamaxState",
    "ScaleByPartialAmsgradState",
    "ScaleByPartialRmsState",
    "ScaleByPartialRssState",
    "ScaleByPartialStddevState",
    "__version__",
    "adabound",
    "convert_learning_rate",
    "padam",
    "padamw",
    "partial_adadelta",
    "partial_adagrad",
    "partial_adamax",
    "partial_rmsprop",
    "sampled_iterate",
    "scale_by_adabound",
    "scale_by_partial_adadelta",
    "scale_by_partial_adamax",
    "scale_by_partial_amsgrad",
    "scale_by_partial_rms",
    "scale_by_partial_rss",
    "scale_by_partial_stddev",
    "with_sampled_iterate",
]

_LAZY_MODULES = ("diagnostics", "theory")


def __getattr__(name: str) -> typing.Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"padam_optax.{name}")
    raise AttributeError(f"module 'padam_optax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY_MODULES])
