"""Language models on the help texts that every Python ships: a demonstration without a download.

    padam demo --task language

trains a small LSTM at the settings of `ptb-mini`, in under 4 minutes on two CPU cores. The text differs from one
version of Python to the next: the perplexities are never a result.
"""

import dataclasses

from padam_optax.experiments import ptb

EXPERIMENTS = tuple(
    dataclasses.replace(
        spec,
        name=f"pydoc-{spec.optimizer}",
        suite="pydoc",
        dataset="pydoc",
        epochs=8,
        milestones=(4, 6),
        seeds=(0, 1, 2),
        train_examples=40_000,
        model_options={**spec.model_options, "embedding": 64, "hidden": 64},
    ).with_task(vocabulary=1_000)
    for spec in ptb.MINI
)
