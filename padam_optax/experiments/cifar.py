"""CIFAR experiments: the paper's (Tables 1 and 4, Figures 1, 2 and 4), and smaller ones for a CPU core.

`cifar10-<model>-<optimizer>` and `cifar100-<model>-<optimizer>` with the models vgg16, resnet18 and wrn16-4 are the
cells of Tables 1 and 4 and the curves of Figures 2 and 4. `cifar10-resnet18-padam-p1_16` and its siblings are the
curves of Figure 1. They do everything that the authors' scripts do beyond the paper's text: see `ImageClassification`.
200 epochs of ResNet-18 are 33.4 PFLOP.

    padam run cifar10-resnet18-padam --data-dir DIR

`cifar10-mini-<optimizer>` is a recipe for a CPU core, not the paper's: 5,000 training images, flips only, all 10,000
test images, ResNet-10 of widths 16 to 128, 20 epochs. The settings were chosen on a held-out fifth of the training set
(see `tuning`); `cifar10-mini-untuned-<optimizer>` has the paper's settings for images. The records of the search and of
the runs are in benchmarks/records. A run takes about a minute and a half on one core:

    padam run cifar10-mini-padam --data-dir DIR --data-label NAME
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from padam_optax.experiments import paper, tuning
from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment, ImageClassification

_DATASETS = ("cifar10", "cifar100")
_MODELS = ("vgg16", "resnet18", "wrn16-4")

# The set in section 5. Figure 1's legend is not in the paper's text; this package takes it to have these values.
P_VALUES = {"p2_5": 2 / 5, "p1_4": 1 / 4, "p1_5": 1 / 5, "p1_8": 1 / 8, "p1_16": 1 / 16}


def _tables() -> Iterator[Experiment]:
    for dataset, model, optimizer in itertools.product(_DATASETS, _MODELS, PAPER_METHODS):
        yield Experiment(
            name=f"{dataset}-{model}-{optimizer}",
            suite=f"{dataset}-{model}",
            model=model,
            dataset=dataset,
            optimizer=optimizer,
            hyperparameters=METHODS[optimizer].settings,
            epochs=200,
            milestones=(100, 150),
            task=ImageClassification(
                augmentation=("crop", "flip"), keep_last_batch=True, statistics_updates=2, reestimate_statistics=True
            ),
            # PyTorch's default at the time of the paper; the authors' wide network starts the scales at 1.
            model_options={} if model == "wrn16-4" else {"norm_scale_init": "uniform"},
            bias_correction="official",
            seeds=(0, 1, 2),
            paper=paper.results(f"{dataset}-{model}", optimizer),
        )


TABLES = tuple(_tables())


def _figure_1() -> Iterator[Experiment]:
    """ResNet-18 with each p on both data sets; p = 1/8 is the tables' cell."""
    for cell in TABLES:
        if cell.model == "resnet18" and cell.optimizer == "padam":
            for label, p in P_VALUES.items():
                if p != cell.hyperparameters["p"]:
                    yield dataclasses.replace(
                        cell,
                        name=f"{cell.name}-{label}",
                        hyperparameters={**cell.hyperparameters, "p": p},
                        variant_of=cell.name,
                        assumed=("p",),
                        paper=(),
                    )


FIGURE_1 = tuple(_figure_1())

# Chosen on held-out training images, see `tuning`.
MINI_CHOICES: dict[str, dict[str, float]] = {
    "sgdm": {"learning_rate": 0.07499, "momentum": 0.8},
    "adam": {"learning_rate": 0.004001, "b2": 0.99},
    "amsgrad": {"learning_rate": 0.004001, "b2": 0.99},
    "adamw": {"learning_rate": 0.004001, "normalized_weight_decay": 0.025},
    "yogi": {"learning_rate": 0.004001, "b2": 0.99},
    "adabound": {"learning_rate": 0.004001, "final_learning_rate": 0.1},
    "padam": {"learning_rate": 0.225, "p": 0.0625},
    "padam-reference": {"learning_rate": 0.004001, "p": 0.125},
}

_MINI: dict[str, Any] = {
    "model": "resnet10-mini",
    "dataset": "cifar10",
    "epochs": 20,
    "milestones": (10, 15),
    "task": ImageClassification(augmentation=("flip",)),
    "train_examples": 5_000,
}
MINI = tuning.recipe("cifar10-mini", tuning.IMAGES, MINI_CHOICES, **_MINI)
UNTUNED = tuning.recipe("cifar10-mini-untuned", tuning.IMAGES, {}, **_MINI)

EXPERIMENTS = (*TABLES, *FIGURE_1, *MINI, *UNTUNED)
