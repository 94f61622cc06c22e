"""Experiments on scikit-learn's digits, which need no download.

    padam demo

trains a small network on them, `digits-mini-<optimizer>`, in under 3 minutes on two CPU cores. The digits are too easy
and the training too short to tell the methods' generalisation apart: the methods differ in how far they have come in
40 epochs.

The settings were chosen on a held-out fifth of the training images (see `tuning`); the records of the search and of the
runs are in benchmarks/records. `digits-<optimizer>` has the settings from before this choice, the paper's for images.
"""

from typing import Any

from padam_optax.experiments import tuning

_SHARED: dict[str, Any] = {"model": "small-cnn", "dataset": "digits", "epochs": 40, "milestones": (20, 30)}

# Chosen on held-out training images, see `tuning`.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.1334, "momentum": 0.9},
    "adam": {"learning_rate": 0.01265, "b2": 0.99},
    "amsgrad": {"learning_rate": 0.01265, "b2": 0.99},
    "adamw": {"learning_rate": 0.04001, "normalized_weight_decay": 0.25},
    "yogi": {"learning_rate": 0.04001, "b2": 0.99},
    "adabound": {"learning_rate": 0.0225, "final_learning_rate": 0.1},
    "padam": {"learning_rate": 0.1265, "p": 0.25},
    "padam-reference": {"learning_rate": 0.007114, "p": 0.25},
}

DIGITS = tuning.recipe("digits", tuning.IMAGES, {}, **_SHARED)
MINI = tuning.recipe("digits-mini", tuning.IMAGES, MINI_CHOICES, **_SHARED)

EXPERIMENTS = (*DIGITS, *MINI)
