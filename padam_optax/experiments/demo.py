"""The demonstration: the seven optimizers on scikit-learn's digits, at the paper's settings for images.

    padam demo

takes under 3 minutes on two CPU cores. The digits are too easy and the training too short to tell the methods'
generalisation apart: what differs is how far each has come in 40 epochs.
"""

from padam_optax.experiments.cifar import PAPER_SETTINGS
from padam_optax.experiments.spec import OPTIMIZERS, Experiment

EXPERIMENTS = tuple(
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
