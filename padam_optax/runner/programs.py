"""From an experiment to what is compiled: the network, the input's preparation, the schedule, the optimizer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from padam_optax.data.augment import normalize, random_crop, random_flip
from padam_optax.experiments.methods import Hyperparameters, make_optimizer
from padam_optax.experiments.spec import Experiment
from padam_optax.models.awd_lstm import AwdLstm, Dropouts
from padam_optax.models.resnet import imagenet_resnet18, resnet10_mini, resnet18
from padam_optax.models.small_cnn import SmallCNN
from padam_optax.models.vgg import imagenet_vgg16_bn, vgg16
from padam_optax.models.wide_resnet import wrn16_4
from padam_optax.runner.datasets import DATASETS
from padam_optax.training.batches import Batches, Shuffled, Windows
from padam_optax.training.loop import Trainer, free_programs
from padam_optax.training.placement import ONE_DEVICE, Placement
from padam_optax.training.tasks import Classification, LanguageModelling, Task

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


# How many trainers keep their compiled programs.
_MOST_TRAINERS = 8


@dataclasses.dataclass(frozen=True)
class Program:
    """An experiment as its compiled program sees it: equal for runs that differ in traced values only."""

    experiment: Experiment = dataclasses.field(compare=False)
    classes: int
    train_examples: int
    placement: Placement
    static: tuple[Any, ...]


def trainer_for(
    experiment: Experiment, train_examples: int, classes: int, placement: Placement = ONE_DEVICE
) -> Trainer:
    """The trainer of `experiment` on so many training images of so many classes, or tokens of so many words.

    Experiments that differ only in the values of hyper-parameters and in seeds share one, and so its compiled programs.
    """
    fields = (field.name for field in dataclasses.fields(experiment) if field.name not in _NOT_COMPILED)
    static = (tuple(experiment.hyperparameters), *(getattr(experiment, name) for name in fields))
    return _trainer(Program(experiment, classes, train_examples, placement, static))


@functools.cache
def _trainer(program: Program) -> Trainer:
    if _trainer.cache_info().currsize == _MOST_TRAINERS:
        _trainer.cache_clear()
        free_programs()
    experiment = program.experiment
    task, batches, steps = (_image_parts if experiment.language is None else _text_parts)(program)

    def rate_factor(epoch: int | jax.Array) -> jax.Array:
        passed = jnp.sum(epoch >= jnp.asarray(experiment.milestones, jnp.int32))
        return jnp.asarray(experiment.factor) ** passed

    def optimizer(hyperparameters: Hyperparameters, factor: jax.Array) -> optax.GradientTransformation:
        made = make_optimizer(
            experiment.optimizer,
            hyperparameters,
            lambda count: factor,
            round(steps * experiment.epochs),
            bias_correction=experiment.bias_correction,
            decay_everything=experiment.decay_everything,
            moment_dtype=experiment.moment_dtype,
            allow_unproven_p=experiment.allow_unproven_p,
        )
        if experiment.language is None:
            return made
        return optax.chain(optax.clip_by_global_norm(experiment.language.gradient_clip), made)

    return Trainer(
        task, optimizer, rate_factor, batches, program.placement, reestimate=experiment.reestimate_statistics
    )


def _image_parts(program: Program) -> tuple[Task, Batches, float]:
    """Task, batches, and steps of an epoch."""
    experiment = program.experiment
    dataset = DATASETS[experiment.dataset]

    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        for index, name in enumerate(experiment.augmentation):
            images = AUGMENTATIONS[name](jax.random.fold_in(key, index), images)
        return images

    task = Classification(
        build=lambda rngs: build_model(experiment, program.classes, rngs),
        augment=augment,
        preprocess=lambda images: normalize(images, dataset.mean, dataset.std, dataset.scale),
        top5=dataset.top5,
        statistics_updates=experiment.statistics_updates,
    )
    batches = Shuffled(experiment.batch_size, keep_last=experiment.keep_last_batch)
    return task, batches, batches.all_steps(program.train_examples)


def _text_parts(program: Program) -> tuple[Task, Batches, float]:
    """Task, batches, and steps of an epoch, on average."""
    experiment, language = program.experiment, program.experiment.language
    assert language is not None
    task = LanguageModelling(
        build=lambda rngs: build_language_model(experiment, program.classes, rngs),
        columns=experiment.batch_size,
        activation=language.activation_regularization,
        temporal=language.temporal_regularization,
    )
    batches = Windows(language.window, random=language.random_window)
    return task, batches, batches.mean_steps(program.train_examples // experiment.batch_size)


def build_language_model(experiment: Experiment, vocabulary: int, rngs: nnx.Rngs) -> AwdLstm:
    """The experiment's network with initial parameters."""
    language = experiment.language
    assert language is not None
    return AwdLstm(
        vocabulary=vocabulary,
        embedding=language.embedding,
        hidden=language.hidden,
        layers=language.layers,
        dropouts=Dropouts(
            words=language.word_dropout,
            input=language.input_dropout,
            between=language.between_dropout,
            output=language.output_dropout,
            weights=language.weight_dropout,
        ),
        dtype=None if experiment.compute_dtype == "float32" else jnp.dtype(experiment.compute_dtype),
        rngs=rngs,
    )


def build_model(experiment: Experiment, classes: int, rngs: nnx.Rngs) -> nnx.Module:
    """The experiment's network with initial parameters."""
    options: dict[str, Any] = {}
    if experiment.norm_scale_init != "ones":
        options["norm_scale_init"] = experiment.norm_scale_init
    if experiment.compute_dtype != "float32":
        options["dtype"] = jnp.dtype(experiment.compute_dtype)
    return MODELS[experiment.model](classes=classes, rngs=rngs, **options)
