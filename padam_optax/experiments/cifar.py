"""CIFAR-10 experiments.

`cifar10-mini-<optimizer>` is our recipe for a CPU core, not the paper's: 5,000 training images, flips only, all 10,000
test images, ResNet-10 of widths 16 to 128. Every method fits its training set, so that the test accuracy shows how it
generalises. p and the learning rates were chosen on a held-out fifth of the training images at half the epochs; the
records of that search and of the runs are in benchmarks/reproduction. A run takes about three minutes on one core:

    padam run cifar10-mini-padam --data-dir DIR --data-label NAME
"""

from padam_optax.experiments.optimizers import OPTIMIZERS, PAPER_IMAGE_SETTINGS
from padam_optax.experiments.spec import Experiment

# Chosen on held-out training images; everything else is as in the paper.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.1},
    "adam": {"learning_rate": 1e-3},
    "amsgrad": {"learning_rate": 1e-3},
    "adamw": {"learning_rate": 1e-3},
    "yogi": {"learning_rate": 1e-3},
    "adabound": {"learning_rate": 1e-3},
    "padam": {"learning_rate": 0.1, "p": 0.125},
}

EXPERIMENTS = tuple(
    Experiment(
        name=f"cifar10-mini-{optimizer}",
        model="resnet10-mini",
        dataset="cifar10",
        optimizer=optimizer,
        hyperparameters={**PAPER_IMAGE_SETTINGS[optimizer], **MINI_CHOICES[optimizer]},
        epochs=40,
        milestones=(20, 30),
        augmentation=("flip",),
        seeds=(0, 1, 2, 3, 4),
        train_examples=5_000,
    )
    for optimizer in OPTIMIZERS
)
