"""scikit-learn's digits, which need no download: a demonstration, and the same with settings chosen on them.

    padam demo

trains a small network on them at the paper's settings for images, in under 3 minutes on two CPU cores. The digits are
too easy and the training too short to tell the methods' generalisation apart: what differs is how far each has come in
40 epochs.

`digits-mini-<optimizer>` is the demonstration with learning rates and p chosen on a held-out fifth of the training
images at half the epochs, as for the other recipes for a CPU core; the records of the search and of the runs are in
benchmarks/records.
"""

import dataclasses

from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.spec import Experiment
from padam_optax.experiments.tuning import SPACES

DIGITS = tuple(
    Experiment(
        name=f"digits-{optimizer}",
        suite="digits",
        model="small-cnn",
        dataset="digits",
        optimizer=optimizer,
        hyperparameters=METHODS[optimizer].settings,
        epochs=40,
        milestones=(20, 30),
        seeds=(0, 1, 2, 3, 4),
    )
    for optimizer in SPACES
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
    "padam-reference": {},
}

MINI = tuple(
    dataclasses.replace(
        spec,
        name=f"digits-mini-{spec.optimizer}",
        suite="digits-mini",
        hyperparameters={**spec.hyperparameters, **MINI_CHOICES[spec.optimizer]},
    )
    for spec in DIGITS
)

EXPERIMENTS = (*DIGITS, *MINI)
