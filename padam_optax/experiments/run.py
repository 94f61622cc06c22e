"""Runs one experiment: composes model, data and optimizer, trains, records."""

import dataclasses
import functools
import importlib.metadata
import os
import pathlib
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from padam_optax.data.augment import normalize, random_flip
from padam_optax.data.cifar import read_cifar10
from padam_optax.data.digits import read_digits
from padam_optax.data.images import DataError, ImageData, ImageSet, restrict
from padam_optax.experiments.optimizers import make_optimizer
from padam_optax.experiments.records import Record, RunDirectory
from padam_optax.experiments.spec import Experiment
from padam_optax.models.resnet import resnet10_mini
from padam_optax.models.small_cnn import SmallCNN
from padam_optax.training.checkpoint import Checkpoints
from padam_optax.training.loop import Trainer
from padam_optax.training.tasks import Classification

MODELS: dict[str, Callable[..., nnx.Module]] = {"resnet10-mini": resnet10_mini, "small-cnn": SmallCNN}
AUGMENTATIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {"flip": random_flip}


@dataclasses.dataclass(frozen=True)
class _Dataset:
    """How a data set is prepared: classes, the value of a white pixel, mean and deviation a channel."""

    classes: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


DATASETS = {
    # The statistics in the authors' script.
    "cifar10": _Dataset(10, 255.0, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "digits": _Dataset(10, 16.0, (0.0,), (1.0,)),
}


def load_data(experiment: Experiment, data_dir: str | pathlib.Path | None, data_label: str) -> ImageData:
    """Reads the experiment's data set and takes its part of it.

    Raises:
      DataError: If the files are missing or damaged, or no folder or label is given for a set that needs one.
    """
    if experiment.dataset == "digits":
        data = read_digits()
    elif data_dir is None:
        raise DataError(f"{experiment.name} needs --data-dir, the folder with CIFAR-10's binary files.")
    else:
        data = _read_cifar10(str(data_dir), data_label)
    return restrict(data, experiment.train_examples, experiment.held_out)


@functools.lru_cache(maxsize=1)
def _read_cifar10(data_dir: str, label: str) -> ImageData:
    return read_cifar10(data_dir, label)


def run(
    experiment: Experiment,
    seed: int,
    data: ImageData,
    out: str | pathlib.Path,
    *,
    resume: bool = True,
    checkpoint_every: int = 5,
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None,
) -> Record:
    """Trains one experiment with one seed and records it under `out`.

    On resuming, in this order: a finished run with the same configuration is returned as it is; one with a checkpoint
    goes on from it, bit-equal on CPU to a run never stopped; anything else starts anew.

    Args:
      experiment: What to run.
      seed: Of the initial parameters, the shuffling and the augmentation.
      data: As `load_data` returns it.
      out: Folder of all records; the run's is `<out>/<name>/seed-<seed>`.
      resume: Whether to go on from what is there; otherwise it is replaced.
      checkpoint_every: Epochs between checkpoints; 0 writes none.
      on_epoch: Called with each line of the metrics once it is recorded.

    Returns:
      The record. A loss that is NaN or infinite ends the run; its last line then holds `diverged_step`.

    Raises:
      ValueError: If the folder holds a run of another configuration and `resume` is on.
      DataError: If the training images do not fill one batch.
    """
    if len(data.train) < experiment.batch_size:
        raise DataError(f"{len(data.train)} training images do not fill one batch of {experiment.batch_size}.")
    directory = RunDirectory(out, experiment.name, seed)
    config = _config(experiment, seed, data)
    record = directory.read() if resume else None
    if record is not None:
        _check_same(directory.path, record.config, config)
        if record.finished:
            return record

    steps = len(data.train) // experiment.batch_size
    trainer = _trainer(_program(experiment, steps))
    hyperparameters = {name: jnp.asarray(value) for name, value in experiment.hyperparameters.items()}
    traced_seed = jnp.asarray(seed, jnp.int32)
    state = trainer.init(traced_seed, hyperparameters)
    with Checkpoints(directory.checkpoints) if checkpoint_every else _NoCheckpoints() as checkpoints:
        if record is not None:
            state = checkpoints.restore(state) or state
        directory.start(config, int(state.epoch))
        train, test = _on_device(data.train), _on_device(data.test)
        for epoch in range(int(state.epoch) + 1, experiment.epochs + 1):
            start = time.perf_counter()
            state, trained = trainer.train_epoch(state, traced_seed, hyperparameters, train)
            trained = jax.device_get(trained)
            seconds = time.perf_counter() - start
            nonfinite = int(trained.pop("nonfinite_step"))
            if nonfinite >= 0:
                line = {"epoch": epoch, "diverged_step": (epoch - 1) * steps + nonfinite}
                directory.append(line)
                on_epoch(line)
                break
            tested = jax.device_get(trainer.evaluate(state, test))
            line = {
                "epoch": epoch,
                **{f"train_{name}": float(value) for name, value in trained.items()},
                **{f"test_{name}": float(value) for name, value in tested.items()},
                "learning_rate": _rate(experiment, epoch),
                "seconds": round(time.perf_counter() - start, 4),
                "examples_per_second": round(steps * experiment.batch_size / seconds, 1),
            }
            # The checkpoint comes first: metrics beyond it are cut on resuming, never the other way round.
            if checkpoint_every and (epoch % checkpoint_every == 0 or epoch == experiment.epochs):
                checkpoints.save(state)
            directory.append(line)
            on_epoch(line)
    record = directory.read()
    assert record is not None
    return record


@dataclasses.dataclass(frozen=True)
class _Program:
    """What a compiled program depends on. Hyper-parameters and seeds are its arguments."""

    model: str
    dataset: str
    optimizer: str
    hyperparameters: tuple[str, ...]
    batch_size: int
    steps: int
    epochs: int
    milestones: tuple[int, ...]
    factor: float
    augmentation: tuple[str, ...]


def _program(experiment: Experiment, steps: int) -> _Program:
    return _Program(
        experiment.model,
        experiment.dataset,
        experiment.optimizer,
        tuple(experiment.hyperparameters),
        experiment.batch_size,
        steps,
        experiment.epochs,
        experiment.milestones,
        experiment.factor,
        experiment.augmentation,
    )


@functools.lru_cache(maxsize=8)
def _trainer(program: _Program) -> Trainer:
    dataset = DATASETS[program.dataset]
    build = functools.partial(MODELS[program.model], classes=dataset.classes)

    def augment(key: jax.Array, images: jax.Array) -> jax.Array:
        for index, name in enumerate(program.augmentation):
            images = AUGMENTATIONS[name](jax.random.fold_in(key, index), images)
        return images

    def schedule(count: jax.typing.ArrayLike) -> jax.Array:
        boundaries = jnp.asarray([milestone * program.steps for milestone in program.milestones], jnp.int32)
        return jnp.asarray(program.factor) ** jnp.sum(jnp.asarray(count) >= boundaries)

    return Trainer(
        task=Classification(
            build=lambda rngs: build(rngs=rngs),
            augment=augment,
            preprocess=lambda images: normalize(images, dataset.mean, dataset.std, dataset.scale),
        ),
        make_optimizer=lambda hyperparameters: make_optimizer(
            program.optimizer, hyperparameters, schedule, program.steps * program.epochs
        ),
        batch_size=program.batch_size,
    )


class _NoCheckpoints:
    """In place of `Checkpoints` where none are wanted."""

    def __enter__(self) -> "_NoCheckpoints":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def restore(self, like: Any) -> None:
        return None

    def save(self, state: Any) -> None:
        pass


def _on_device(images: ImageSet) -> dict[str, jax.Array]:
    return {"images": jnp.asarray(images.images), "labels": jnp.asarray(images.labels)}


def _rate(experiment: Experiment, epoch: int) -> float:
    """The learning rate in `epoch`, counted from 1."""
    passed = sum(epoch > milestone for milestone in experiment.milestones)
    return experiment.hyperparameters["learning_rate"] * experiment.factor**passed


def _config(experiment: Experiment, seed: int, data: ImageData) -> dict[str, Any]:
    specification = dataclasses.asdict(
        dataclasses.replace(experiment, hyperparameters=dict(experiment.hyperparameters))
    )
    packages = ("padam_optax", "jax", "jaxlib", "optax", "flax", "numpy")
    device = jax.devices()[0]
    return {
        "experiment": specification,
        "seed": seed,
        "data": {
            "label": data.label,
            "train_examples": len(data.train),
            "test_examples": len(data.test),
            "sha256": data.sha256,
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "device": {"platform": device.platform, "kind": device.device_kind, "cpu_count": os.cpu_count()},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        import padam_optax

        return padam_optax.__version__ if package == "padam_optax" else "unknown"


def _check_same(path: pathlib.Path, recorded: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuses to go on with a run that was started differently."""
    for part in ("experiment", "seed", "data"):
        # Through JSON's eyes: a tuple is written as a list.
        wanted = _as_json(config[part])
        if recorded[part] != wanted:
            names = [key for key in wanted if recorded[part].get(key) != wanted[key]] if part != "seed" else []
            raise ValueError(
                f"{path} holds a run with another {part} ({', '.join(names) or part} differ);"
                " choose another --out, or replace it with --no-resume."
            )


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(entry) for key, entry in value.items()}
    return [_as_json(entry) for entry in value] if isinstance(value, tuple | list) else value
