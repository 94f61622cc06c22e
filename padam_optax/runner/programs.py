"""Builds an experiment's trainer: the network, the preparation of its input, the schedule, the optimizer."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from padam_optax.data.augment import normalize, random_crop, random_flip
from padam_optax.experiments.methods import Hyperparameters, MethodContext, make_optimizer, matrices
from padam_optax.experiments.spec import Experiment, ImageClassification, LanguageModelling, Role, static
from padam_optax.models.awd_lstm import awd_lstm
from padam_optax.models.resnet import imagenet_resnet18, resnet10_mini, resnet18
from padam_optax.models.small_cnn import SmallCNN
from padam_optax.models.transformer import Transformer
from padam_optax.models.vgg import imagenet_vgg16_bn, vgg16
from padam_optax.models.wide_resnet import wrn16_4
from padam_optax.runner.datasets import image_dataset
from padam_optax.training.batches import Batches, Shuffled, Windows
from padam_optax.training.loop import Trainer, free_programs
from padam_optax.training.placement import ONE_DEVICE, Placement
from padam_optax.training.tasks import Classification, Task
from padam_optax.training.tasks import LanguageModelling as LanguageModellingTask

# Builders of networks, called `build(classes=..., rngs=..., **model_options)`, for text with `vocabulary` instead of
# `classes`. If the experiment computes in another dtype than float32, they get it as `dtype`.
MODELS: dict[str, Callable[..., nnx.Module]] = {
    "resnet10-mini": resnet10_mini,
    "small-cnn": SmallCNN,
    "vgg16": vgg16,
    "resnet18": resnet18,
    "wrn16-4": wrn16_4,
    "imagenet-resnet18": imagenet_resnet18,
    "imagenet-vgg16-bn": imagenet_vgg16_bn,
    "awd-lstm": awd_lstm,
    "transformer": Transformer,
}
AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"crop": random_crop, "flip": random_flip}


# The number of trainers that keep their compiled programs.
_MOST_TRAINERS = 8


@dataclasses.dataclass(frozen=True)
class Program:
    """What determines an experiment's compiled program: equal for runs that differ only in traced values."""

    experiment: Experiment = dataclasses.field(compare=False)
    classes: int
    train_examples: int
    placement: Placement
    static: tuple[Any, ...]


def trainer_for(
    experiment: Experiment, train_examples: int, classes: int, placement: Placement = ONE_DEVICE
) -> Trainer:
    """The trainer of `experiment` on this number of images and classes, or of tokens and words.

    Experiments that differ only in hyper-parameters' values and in seeds share a trainer and its compiled programs.
    """
    fields = tuple(static({**experiment.fields(Role.PROGRAM), "task": type(experiment.task)}))
    return _trainer(
        Program(experiment, classes, train_examples, placement, (tuple(experiment.hyperparameters), fields))
    )


@functools.cache
def _trainer(program: Program) -> Trainer:
    if _trainer.cache_info().currsize == _MOST_TRAINERS:
        _trainer.cache_clear()
        free_programs()
    experiment = program.experiment
    language = experiment.task if isinstance(experiment.task, LanguageModelling) else None
    task, batches, steps = _image_parts(program) if language is None else _text_parts(program, language)

    def optimizer(hyperparameters: Hyperparameters, factor: jax.Array) -> optax.GradientTransformation:
        context = MethodContext(
            factor=factor,
            total_updates=round(steps * experiment.epochs),
            decays=None if experiment.decay_everything else matrices,
            bias_correction=experiment.bias_correction,
            moment_dtype=experiment.moment_dtype,
            allow_unproven_p=experiment.allow_unproven_p,
            group=experiment.group,
        )
        made = make_optimizer(experiment.optimizer, hyperparameters, context)
        return made if language is None else optax.chain(optax.clip_by_global_norm(language.gradient_clip), made)

    reestimate = isinstance(experiment.task, ImageClassification) and experiment.task.reestimate_statistics
    return Trainer(task, optimizer, experiment.rate_factor, batches, program.placement, reestimate=reestimate)


def _image_parts(program: Program) -> tuple[Task, Batches, float]:
    """Task, batches, and number of steps of an epoch."""
    experiment, settings = program.experiment, program.experiment.task
    assert not isinstance(settings, LanguageModelling)
    dataset = image_dataset(experiment)

    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        for index, name in enumerate(settings.augmentation):
            images = AUGMENTATIONS[name](jax.random.fold_in(key, index), images)
        return images

    task = Classification(
        build=lambda rngs: build_model(experiment, program.classes, rngs),
        augment=augment,
        preprocess=lambda images: normalize(images, dataset.mean, dataset.std, dataset.scale),
        top5=dataset.top5,
        statistics_updates=settings.statistics_updates,
    )
    batches = Shuffled(experiment.batch_size, keep_last=settings.keep_last_batch)
    return task, batches, batches.all_steps(program.train_examples)


def _text_parts(program: Program, language: LanguageModelling) -> tuple[Task, Batches, float]:
    """Task, batches, and mean number of steps of an epoch."""
    experiment = program.experiment
    task = LanguageModellingTask(
        build=lambda rngs: build_model(experiment, program.classes, rngs),
        columns=experiment.batch_size,
        activation=language.activation_regularization,
        temporal=language.temporal_regularization,
    )
    batches = Windows(language.window, random=language.random_window)
    return task, batches, batches.mean_steps(program.train_examples // experiment.batch_size)


def build_model(experiment: Experiment, classes: int, rngs: nnx.Rngs) -> Any:
    """The experiment's network with initial parameters.

    Raises:
      KeyError: If there is no such model; the message names the known ones.
    """
    if experiment.model not in MODELS:
        raise KeyError(f"There is no model called {experiment.model!r}; there are {', '.join(MODELS)}.")
    options = dict(experiment.model_options)
    if experiment.compute_dtype != "float32":
        options["dtype"] = jnp.dtype(experiment.compute_dtype)
    options["vocabulary" if isinstance(experiment.task, LanguageModelling) else "classes"] = classes
    return MODELS[experiment.model](rngs=rngs, **options)
