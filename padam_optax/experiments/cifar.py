"""CIFAR-10 experiments.

`cifar10-mini-<optimizer>` is our recipe for a CPU core, not the paper's: 5,000 training images, flips only, all 10,000
test images, ResNet-10 of widths 16 to 128. Every method fits its training set, so that the test accuracy shows how it
generalises. p and the learning rates were chosen on a held-out fifth of the training images at half the epochs; the
records of that search and of the runs are in benchmarks/reproduction. A run takes about three minutes on one core:

    padam run cifar10-mini-padam --data-dir DIR --data-label NAME
"""

from padam_optax.experiments.spec import OPTIMIZERS, Experiment

# Section 5, "For image classification experiments": rates, b1, b2, p, Yogi's eps, AdaBound's final rate, AdamW's
# normalised decay. eps and gamma are the authors' codes' defaults, weight decay 5e-4 their scripts'.
_SECOND_MOMENT = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
PAPER_SETTINGS: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "adam": {"learning_rate": 1e-3, **_SECOND_MOMENT, "b2": 0.99, "weight_decay": 5e-4},
    "amsgrad": {"learning_rate": 1e-3, **_SECOND_MOMENT, "b2": 0.99, "weight_decay": 5e-4},
    "adamw": {"learning_rate": 1e-3, **_SECOND_MOMENT, "normalized_weight_decay": 2.5e-2},
    "yogi": {"learning_rate": 1e-3, **_SECOND_MOMENT, "eps": 1e-3, "weight_decay": 5e-4},
    "adabound": {
        "learning_rate": 1e-3,
        **_SECOND_MOMENT,
        "final_learning_rate": 0.1,
        "gamma": 1e-3,
        "weight_decay": 5e-4,
    },
    "padam": {"learning_rate": 0.1, **_SECOND_MOMENT, "p": 0.125, "weight_decay": 5e-4},
}

# Chosen on held-out training images; everything else is as in the paper.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.3162},
    "adam": {"learning_rate": 1e-2},
    "amsgrad": {"learning_rate": 1e-2},
    "adamw": {"learning_rate": 1e-2},
    "yogi": {"learning_rate": 0.03162},
    "adabound": {"learning_rate": 1e-2},
    "padam": {"learning_rate": 0.3162, "p": 0.25},
}

EXPERIMENTS = tuple(
    Experiment(
        name=f"cifar10-mini-{optimizer}",
        model="resnet10-mini",
        dataset="cifar10",
        optimizer=optimizer,
        hyperparameters={**PAPER_SETTINGS[optimizer], **MINI_CHOICES[optimizer]},
        epochs=40,
        milestones=(20, 30),
        augmentation=("flip",),
        seeds=(0, 1, 2, 3, 4),
        train_examples=5_000,
    )
    for optimizer in OPTIMIZERS
)
