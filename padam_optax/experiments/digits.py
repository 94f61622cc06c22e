"""Experiments on data that need no download: two demonstrations, and the digits with settings chosen on them.

    padam demo

trains a small network on scikit-learn's digits, at the paper's settings for images, in under 3 minutes on two CPU
cores. The digits are too easy and the training too short to tell the methods' generalisation apart: what differs is how
far each has come in 40 epochs.

    padam demo --task language

trains a small LSTM on the help texts that every Python ships, at the settings of `ptb-mini`, in under 4 minutes. The
text differs from one version of Python to the next: the perplexities are never a result.

`digits-mini-<optimizer>` is the demonstration on the digits with learning rates and p chosen on a held-out fifth of the
training images at half the epochs, as for the other recipes for a CPU core; the records of the search and of the runs
are in benchmarks/reproduction.
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

# Chosen on held-out training images; everything else is as in the paper.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.3162},
    "adam": {"learning_rate": 0.03162},
    "amsgrad": {"learning_rate": 0.03162},
    "adamw": {"learning_rate": 0.03162},
    "yogi": {"learning_rate": 0.1},
    "adabound": {"learning_rate": 0.1},
    "padam": {"learning_rate": 10.0, "p": 0.0625},
}

MINI = tuple(
    dataclasses.replace(
        spec,
        name=f"digits-mini-{spec.optimizer}",
        hyperparameters={**spec.hyperparameters, **MINI_CHOICES[spec.optimizer]},
    )
    for spec in DIGITS
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

EXPERIMENTS = (*DIGITS, *MINI, *LANGUAGE)
