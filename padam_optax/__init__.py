"""Partially adaptive momentum estimation (Padam) as composable Optax transformations.

Chen et al., "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks", IJCAI 2020.
This module needs jax and optax only; `padam_optax.experiments` and the command `padam` need the extra `experiments`.
"""

from padam_optax._adabound import ScaleByAdaboundState, adabound, scale_by_adabound
from padam_optax._iterate_sampling import SampledIterateState, sampled_iterate, with_sampled_iterate
from padam_optax._partial_amsgrad import (
    ScaleByPartialAmsgradState,
    padam,
    padamw,
    scale_by_partial_amsgrad,
)
from padam_optax._partial_family import (
    ScaleByPartialAdadeltaState,
    ScaleByPartialAdamaxState,
    ScaleByPartialRmsState,
    ScaleByPartialRssState,
    ScaleByPartialStddevState,
    partial_adadelta,
    partial_adagrad,
    partial_adamax,
    partial_rmsprop,
    scale_by_partial_adadelta,
    scale_by_partial_adamax,
    scale_by_partial_rms,
    scale_by_partial_rss,
    scale_by_partial_stddev,
)

__version__ = "0.1.0"

__all__ = [
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
