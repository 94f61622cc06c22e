"""Language models on the help texts that every Python ships: a demonstration without a download.

    padam demo --task language
    padam demo --task transformer

The first trains a small LSTM at the settings of `ptb-mini`, the second a small transformer at those of
`ptb-transformer-mini`, each in under 4 minutes on two CPU cores. The text differs from one version of Python to the
next: the perplexities are never a result.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from padam_optax.experiments import ptb
from padam_optax.experiments.spec import Experiment


def _shortened(
    recipe: tuple[Experiment, ...], suite: str, sizes: dict[str, int], **changed: Any
) -> Iterator[Experiment]:
    for spec in recipe:
        yield dataclasses.replace(
            spec,
            name=f"{suite}-{spec.optimizer}",
            suite=suite,
            dataset="pydoc",
            train_examples=40_000,
            model_options={**spec.model_options, **sizes},
            **changed,
        ).with_task(vocabulary=1_000)


LSTM = tuple(
    _shortened(ptb.MINI, "pydoc", {"embedding": 64, "hidden": 64}, seeds=(0, 1, 2), epochs=8, milestones=(4, 6))
)
TRANSFORMER = tuple(
    _shortened(ptb.TRANSFORMER, "pydoc-transformer", {"features": 32}, seeds=(0, 1), epochs=4, milestones=(3,))
)
EXPERIMENTS = (*LSTM, *TRANSFORMER)
