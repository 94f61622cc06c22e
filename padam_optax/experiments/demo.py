"""Two demonstrations on data that need no download: the seven optimizers on images and on a text.

    padam demo

trains a small network on scikit-learn's digits, at the paper's settings for images, in under 3 minutes on two CPU
cores. The digits are too easy and the training too short to tell the methods' generalisation apart: what differs is how
far each has come in 40 epochs.

    padam demo --task language

trains a small LSTM on the help texts that every Python ships, at the settings of `ptb-mini`, in under 4 minutes. The
text differs from one version of Python to the next: the perplexities are never a result.
"""

import dataclasses

from padam_optax.experiments import ptb
from padam_optax.experiments.cifar import PAPER_SETTINGS
from padam_optax.experiments.spec import OPTIMIZERS, Experiment

DIGITS = tuple(
    Experiment(
        name=f"digits-{optimizer}",
        model="small-cnn",
        dataset="digits",
        optimizer=optimizer,
        hyperparameters=PAPER_SETTINGS[optimizer],
        epochs=40,
        milestones=(20, 30),
        seeds=(0, 1, 2, 3, 4),
    )
    for optimizer in OPTIMIZERS
)

LANGUAGE = tuple(
    dataclasses.replace(
        spec,
        name=f"pydoc-{spec.optimizer}",
        dataset="pydoc",
        epochs=8,
        milestones=(4, 6),
        seeds=(0, 1, 2),
        train_examples=40_000,
        language=dataclasses.replace(spec.language, embedding=64, hidden=64, vocabulary=1_000),
    )
    for spec in ptb.MINI
    if spec.language is not None
)

EXPERIMENTS = (*DIGITS, *LANGUAGE)
