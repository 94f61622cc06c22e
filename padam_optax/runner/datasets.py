"""The data sets of the experiments: how each is read, prepared and fed."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Generator
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from padam_optax.data.cifar import read_cifar10, read_cifar100
from padam_optax.data.digits import read_digits
from padam_optax.data.download import fetch, fetched
from padam_optax.data.imagenet import ImageBatches, ImageFolder, eval_batches, scan_image_folder, train_batches
from padam_optax.data.images import DataError, ImageData, ImageSet, restrict
from padam_optax.data.ptb import TextData, columns, read_text, restrict_text
from padam_optax.data.pydoc import read_pydoc
from padam_optax.experiments.spec import Experiment
from padam_optax.training.epoch import ResidentData, Source, StreamedData
from padam_optax.training.loop import Trainer

__all__ = ["DATASETS", "Data", "Dataset", "fetch", "load_data", "make_source"]

# What a run trains on: a set that the device holds, or a folder that the host reads.
Data: TypeAlias = ImageData | ImageFolder | TextData
Arrays: TypeAlias = dict[str, np.ndarray]

_EVAL_BATCH = 100


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How a set of images is prepared.

    Attributes:
      classes: Number of classes; None if the folder decides.
      scale: Value of a white pixel.
      mean: Mean a channel of the images divided by `scale`.
      std: Standard deviation a channel of the same.
      top5: Whether the top-5 error is reported.
    """

    classes: int | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top5: bool = False


DATASETS = {
    # The statistics in the authors' scripts.
    "cifar10": Dataset(10, 255.0, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Dataset(100, 255.0, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "imagenet": Dataset(None, 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), top5=True),
    "digits": Dataset(10, 16.0, (0.0,), (1.0,)),
}


def load_data(
    experiment: Experiment,
    data_dir: str | pathlib.Path | None,
    data_label: str,
    *,
    unknown_words: Literal["raise", "replace"] = "raise",
) -> Data:
    """Reads the experiment's data set and takes its part of it.

    Args:
      experiment: Names the data set, and which part of it is wanted.
      data_dir: Folder of its files; None for what was fetched.
      data_label: Name under which results on these files are reported.
      unknown_words: What to do with words of a held-out text that the training text lacks; see `ptb.read_text`.

    Raises:
      DataError: If the files are missing or damaged, or no folder or label is given for a set that needs one.
    """
    data = _read(experiment.dataset, None if data_dir is None else str(data_dir), data_label, unknown_words)
    if isinstance(data, ImageData):
        return restrict(data, experiment.train_examples, experiment.held_out)
    if isinstance(data, TextData):
        language = experiment.language
        assert language is not None, "an experiment on text describes its language model"
        return restrict_text(data, experiment.train_examples, language.vocabulary)
    if experiment.train_examples is not None or experiment.held_out is not None:
        raise DataError(f"{experiment.dataset} is read from a folder; take a part of it by making a smaller folder.")
    return data


@functools.lru_cache(maxsize=2)
def _read(dataset: str, data_dir: str | None, label: str, unknown_words: Literal["raise", "replace"]) -> Data:
    if dataset == "digits":
        return read_digits()
    if dataset == "pydoc":
        return read_pydoc()
    if dataset == "imagenet":
        if data_dir is None:
            raise DataError("imagenet needs --data-dir, the folder with train/<class>/*.JPEG and val/<class>/*.JPEG.")
        return scan_image_folder(data_dir, label)
    folder = fetched(dataset) if data_dir is None else data_dir
    if folder is None:
        raise DataError(
            f"{dataset} is not here: `padam data fetch {dataset}` downloads it, and --data-dir takes a folder that has"
            " its files."
        )
    if dataset == "ptb":
        return read_text(folder, label, unknown=unknown_words)
    return {"cifar10": read_cifar10, "cifar100": read_cifar100}[dataset](folder, label)


def class_count(experiment: Experiment, data: Data) -> int:
    """Classes of the experiment's data; for text, words."""
    if isinstance(data, TextData):
        return len(data.vocabulary)
    classes = DATASETS[experiment.dataset].classes
    if classes is not None:
        return classes
    assert isinstance(data, ImageFolder)
    return len(data.classes)


def make_source(experiment: Experiment, data: Data, trainer: Trainer, seed: int, workers: int = 0) -> Source:
    """How `data` reaches `trainer`.

    Args:
      experiment: What is trained.
      data: Its data.
      trainer: Its trainer.
      seed: Of the order, the crops and the flips, where the host makes them.
      workers: Processes that decode images, where the host does.

    Raises:
      ValueError: If the experiment asks of a folder what only a set on the device can do, or its batches cannot be
        divided evenly among the devices.
    """
    if not isinstance(data, ImageFolder):
        return ResidentData(trainer, *arrays(experiment, data))
    if experiment.reestimate_statistics or experiment.keep_last_batch or experiment.augmentation:
        raise ValueError(
            f"{experiment.name}: reestimate_statistics, keep_last_batch and augmentation are for data on the device."
        )
    size = experiment.image_size
    assert size is not None, "an experiment on a folder names its image size"

    devices, processes = trainer.placement.devices, jax.process_count()
    if experiment.batch_size % devices:
        raise ValueError(
            f"{experiment.name}: a batch of {experiment.batch_size} cannot be divided evenly among {devices} devices,"
            " as data from a folder must be; use fewer with --devices."
        )
    train_share = experiment.batch_size // processes
    a_device = -(-_EVAL_BATCH * processes // devices)
    test_share = a_device * devices // processes

    def open_train() -> _Positions:
        return _Positions(train_batches(data, batch_size=train_share, seed=seed, size=size, worker_count=workers))

    def open_test() -> Generator[tuple[dict[str, Any], np.ndarray]]:
        padded: dict[str, Any] = {}
        steps = math.ceil(math.ceil(len(data.test) / processes) / test_share)
        with eval_batches(data, batch_size=test_share, size=size, worker_count=workers) as batches:
            for batch in batches:
                count = len(batch["labels"])
                # Always the same shape: one program.
                padded = {
                    name: np.concatenate([array, np.repeat(array[-1:], test_share - count, axis=0)])
                    for name, array in batch.items()
                }
                yield padded, np.arange(test_share) < count
                steps -= 1
        # A process whose share is smaller by one image may have a batch less: all take equally many.
        if steps:
            yield padded, np.zeros(test_share, bool)

    return StreamedData(
        trainer,
        open_train,
        open_test,
        batch_size=experiment.batch_size,
        steps_per_epoch=len(data.train) // experiment.batch_size,
        test_examples=len(data.test),
    )


class _Positions:
    """Batches whose position is text."""

    def __init__(self, batches: ImageBatches):
        self._batches = batches

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._batches)

    def get_position(self) -> str:
        return json.dumps(self._batches.get_state())

    def set_position(self, position: str) -> None:
        self._batches.set_state(json.loads(position))


def arrays(experiment: Experiment, data: ImageData | TextData) -> tuple[Arrays, dict[str, Arrays]]:
    """The training data, and what is held out from training by name, as the experiment's trainer takes them."""
    if isinstance(data, ImageData):
        return _images(data.train), {"test": _images(data.test)}
    language = experiment.language
    assert language is not None, "an experiment on text describes its language model"
    held_out = zip(("valid", "test"), (data.valid, data.test), language.eval_columns, strict=True)
    return (
        {"tokens": columns(data.train, experiment.batch_size)},
        {name: {"tokens": columns(tokens, count)} for name, tokens, count in held_out},
    )


def _images(images: ImageSet) -> Arrays:
    return {"images": images.images, "labels": images.labels}
