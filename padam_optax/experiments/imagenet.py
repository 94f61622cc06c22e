"""ImageNet experiments: Table 2 and Figure 3 (a, b, d, e).

`imagenet-<model>-<optimizer>` with the models resnet18 and vgg16 (with batch normalisation) trains for 100 epochs at
batch 256, with the learning rate divided by 10 after epochs 30, 60 and 80. The paper gives only AdamW's normalised
decay (5e-2). No source gives the coupled decay of the other methods; 1e-4, usual for these networks, is assumed.

    padam run imagenet-resnet18-padam --data-dir DIR --data-label imagenet
"""

import itertools
from collections.abc import Iterator

from padam_optax.experiments import paper
from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment, ImageClassification

_MODELS = {"resnet18": "imagenet-resnet18", "vgg16": "imagenet-vgg16-bn"}


def _decay(optimizer: str) -> dict[str, float]:
    return {"normalized_weight_decay": 5e-2} if optimizer == "adamw" else {"weight_decay": 1e-4}


def _table_2() -> Iterator[Experiment]:
    for model, optimizer in itertools.product(_MODELS, PAPER_METHODS):
        yield Experiment(
            name=f"imagenet-{model}-{optimizer}",
            suite=f"imagenet-{model}",
            model=_MODELS[model],
            dataset="imagenet",
            optimizer=optimizer,
            hyperparameters={**METHODS[optimizer].settings, **_decay(optimizer)},
            epochs=100,
            milestones=(30, 60, 80),
            batch_size=256,
            task=ImageClassification(image_size=224),
            bias_correction="official",
            seeds=(0, 1, 2),
            assumed=() if optimizer == "adamw" else ("weight_decay",),
            paper=paper.results(f"imagenet-{model}", optimizer),
        )


EXPERIMENTS = tuple(_table_2())
