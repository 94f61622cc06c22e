"""From an experiment to what is compiled: the network, the input's preparation, the schedule, the optimizer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from padam_optax.data.augment import normalize, random_crop, random_flip
from padam_optax.experiments.datasets import DATASETS
from padam_optax.experiments.optimizers import make_optimizer
from padam_optax.experiments.spec import Experiment
from padam_optax.models.resnet import imagenet_resnet18, resnet10_mini, resnet18
from padam_optax.models.small_cnn import SmallCNN
from padam_optax.models.vgg import imagenet_vgg16_bn, vgg16
from padam_optax.models.wide_resnet import wrn16_4
from padam_optax.training.loop import Trainer
from padam_optax.training.tasks import Classification

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "resnet10-mini": resnet10_mini,
    "small-cnn": SmallCNN,
    "vgg16": vgg16,
    "resnet18": resnet18,
    "wrn16-4": wrn16_4,
    "imagenet-resnet18": imagenet_resnet18,
    "imagenet-vgg16-bn": imagenet_vgg16_bn,
}
AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"crop": random_crop, "flip": random_flip}

# What no compiled program depends on, or only as an argument.
_NOT_COMPILED = ("name", "hyperparameters", "seeds", "train_examples", "held_out", "assumed", "paper")


@dataclasses.dataclass(frozen=True)
class Program:
    """An experiment as its compiled program sees it: equal for runs that differ in traced values only."""

    experiment: Experiment = dataclasses.field(compare=False)
    classes: int
    steps_per_epoch: int
    static: tuple[Any, ...]


def trainer_for(experiment: Experiment, train_examples: int, classes: int) -> Trainer:
    """The trainer of `experiment` on so many training images of so many classes.

    Experiments that differ only in the values of hyper-parameters and in seeds share one, and so its compiled programs.
    """
    keep = experiment.keep_last_batch
    steps = -(-train_examples // experiment.batch_size) if keep else train_examples // experiment.batch_size
    fields = (field.name for field in dataclasses.fields(experiment) if field.name not in _NOT_COMPILED)
    static = (tuple(experiment.hyperparameters), *(getattr(experiment, name) for name in fields))
    return _trainer(Program(experiment, classes, steps, static))


@functools.lru_cache(maxsize=8)
def _trainer(program: Program) -> Trainer:
    experiment = program.experiment
    dataset = DATASETS[experiment.dataset]
    total_updates = program.steps_per_epoch * experiment.epochs

    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        for index, name in enumerate(experiment.augmentation):
            images = AUGMENTATIONS[name](jax.random.fold_in(key, index), images)
        return images

    def rate_factor(epoch: jax.Array) -> jax.Array:
        passed = jnp.sum(epoch >= jnp.asarray(experiment.milestones, jnp.int32))
        return jnp.asarray(experiment.factor) ** passed

    return Trainer(
        task=Classification(
            build=lambda rngs: build_model(experiment, program.classes, rngs),
            augment=augment,
            preprocess=lambda images: normalize(images, dataset.mean, dataset.std, dataset.scale),
            top5=dataset.top5,
            statistics_updates=experiment.statistics_updates,
        ),
        make_optimizer=lambda hyperparameters, factor: make_optimizer(
            experiment.optimizer,
            hyperparameters,
            lambda count: factor,
            total_updates,
            bias_correction=experiment.bias_correction,
            decay_everything=experiment.decay_everything,
        ),
        rate_factor=rate_factor,
        batch_size=experiment.batch_size,
        keep_last_batch=experiment.keep_last_batch,
    )


def build_model(experiment: Experiment, classes: int, rngs: nnx.Rngs) -> nnx.Module:
    """The experiment's network with initial parameters."""
    options: dict[str, Any] = {}
    if experiment.norm_scale_init != "ones":
        options["norm_scale_init"] = experiment.norm_scale_init
    if experiment.compute_dtype != "float32":
        options["dtype"] = jnp.dtype(experiment.compute_dtype)
    return MODELS[experiment.model](classes=classes, rngs=rngs, **options)
