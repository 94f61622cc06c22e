"""The registry of data sets; reads, prepares and feeds them."""

import dataclasses
import functools
import json
import math
import pathlib
from collections.abc import Callable, Generator
from typing import Any, Literal, TypeAlias, TypeVar

import jax
import numpy as np

from padam_optax.data.cifar import read_cifar10, read_cifar100
from padam_optax.data.digits import read_digits
from padam_optax.data.download import fetched
from padam_optax.data.imagenet import ImageBatches, ImageFolder, eval_batches, scan_image_folder, train_batches
from padam_optax.data.images import DataError, ImageData, ImageSet, restrict
from padam_optax.data.ptb import TextData, columns, read_text, restrict_text
from padam_optax.data.pydoc import read_pydoc
from padam_optax.experiments.spec import Experiment, ImageClassification, LanguageModelling
from padam_optax.paths import expanded
from padam_optax.training.epoch import ResidentData, Source, StreamedData
from padam_optax.training.loop import Trainer

# The data of a run: a set that the device holds, or a folder that the host reads.
Data: TypeAlias = ImageData | ImageFolder | TextData
Arrays: TypeAlias = dict[str, np.ndarray]
UnknownWords: TypeAlias = Literal["raise", "replace"]

_EVAL_BATCH = 100
_Data = TypeVar("_Data", ImageData, TextData)


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A set of images, and how to prepare them.

    Attributes:
      read: Maps the folder of the files (None for fetched data, or for data that need none) and the label of results on
        them to the images.
      classes: Number of classes; None if the folder decides.
      scale: Value of a white pixel.
      mean: Mean a channel of the images divided by `scale`.
      std: Standard deviation a channel of these.
      top5: Whether the top-5 error is reported.
    """

    read: Callable[[pathlib.Path | None, str], ImageData | ImageFolder]
    classes: int | None
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top5: bool = False


@dataclasses.dataclass(frozen=True)
class TextDataset:
    """A text in three parts: training, validation and test.

    Attributes:
      read: Maps the folder, the label (both as for images) and the treatment of words that the training text lacks (see
        `data.ptb.read_text`) to the text.
    """

    read: Callable[[pathlib.Path | None, str, UnknownWords], TextData]


def _files(name: str, data_dir: pathlib.Path | None) -> pathlib.Path:
    """The given folder, or the folder of the fetched files."""
    folder = fetched(name) if data_dir is None else data_dir
    if folder is None:
        raise DataError(
            f"{name} is not here: download it with `padam data fetch {name}`, or name a folder that has its files with"
            " --data-dir."
        )
    return folder


def _scan_imagenet(data_dir: pathlib.Path | None, label: str) -> ImageFolder:
    if data_dir is None:
        raise DataError("imagenet needs --data-dir, the folder with train/<class>/*.JPEG and val/<class>/*.JPEG.")
    return scan_image_folder(data_dir, label)


def _packaged(name: str, source: str, read: Callable[[], _Data], data_dir: pathlib.Path | None, label: str) -> _Data:
    """The data set that a package holds; a folder or a label is refused."""
    for option, given in (("--data-dir", data_dir), ("--data-label", label)):
        if given:
            raise DataError(f"{name} comes with {source}: leave out {option}, given as {str(given)!r}.")
    return read()


DATASETS: dict[str, ImageDataset | TextDataset] = {
    # The statistics in the authors' scripts.
    "cifar10": ImageDataset(
        lambda data_dir, label: read_cifar10(_files("cifar10", data_dir), label),
        classes=10,
        scale=255.0,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2023, 0.1994, 0.2010),
    ),
    "cifar100": ImageDataset(
        lambda data_dir, label: read_cifar100(_files("cifar100", data_dir), label),
        classes=100,
        scale=255.0,
        mean=(0.507, 0.487, 0.441),
        std=(0.267, 0.256, 0.276),
    ),
    "imagenet": ImageDataset(
        _scan_imagenet, classes=None, scale=255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), top5=True
    ),
    "digits": ImageDataset(
        lambda data_dir, label: _packaged("digits", "scikit-learn", read_digits, data_dir, label),
        classes=10,
        scale=16.0,
        mean=(0.0,),
        std=(1.0,),
    ),
    "ptb": TextDataset(lambda data_dir, label, unknown: read_text(_files("ptb", data_dir), label, unknown=unknown)),
    "pydoc": TextDataset(lambda data_dir, label, unknown: _packaged("pydoc", "Python", read_pydoc, data_dir, label)),
}


def load_data(
    experiment: Experiment,
    data_dir: str | pathlib.Path | None,
    data_label: str,
    *,
    unknown_words: UnknownWords = "raise",
) -> Data:
    """Reads the experiment's data set, or the part of it that the experiment uses.

    Args:
      experiment: Names the data set and the part of it.
      data_dir: Folder of its files; None for fetched ones.
      data_label: Name under which results on these files are reported.
      unknown_words: What to do with words of a held-out text that the training text lacks; see `ptb.read_text`.

    Raises:
      DataError: If the files are missing or damaged, or a set needs a folder or label and none is given.
      KeyError: If there is no such data set; the message names the known ones.
    """
    folder = None if data_dir is None else str(expanded(data_dir))
    task = experiment.task
    if isinstance(task, LanguageModelling):
        text = _read_text(experiment.dataset, folder, data_label, unknown_words)
        return restrict_text(text, experiment.train_examples, task.vocabulary)
    images = _read_images(experiment.dataset, folder, data_label)
    if isinstance(images, ImageData):
        return restrict(images, experiment.train_examples, task.held_out)
    if experiment.train_examples is not None or task.held_out is not None:
        raise DataError(f"{experiment.dataset} is read from a folder; to use a part of it, make a smaller folder.")
    return images


@functools.lru_cache(maxsize=2)
def _read_images(name: str, data_dir: str | None, label: str) -> ImageData | ImageFolder:
    return _dataset(name, ImageDataset).read(None if data_dir is None else pathlib.Path(data_dir), label)


@functools.lru_cache(maxsize=2)
def _read_text(name: str, data_dir: str | None, label: str, unknown_words: UnknownWords) -> TextData:
    return _dataset(name, TextDataset).read(None if data_dir is None else pathlib.Path(data_dir), label, unknown_words)


_Kind = TypeVar("_Kind", ImageDataset, TextDataset)


def _dataset(name: str, kind: type[_Kind]) -> _Kind:
    found = DATASETS.get(name)
    if not isinstance(found, kind):
        known = ", ".join(each for each, dataset in DATASETS.items() if isinstance(dataset, kind))
        what = "images" if kind is ImageDataset else "text"
        raise KeyError(f"There is no data set of {what} called {name!r}; there are {known}.")
    return found


def image_dataset(experiment: Experiment) -> ImageDataset:
    """The registered data set of the experiment's images."""
    return _dataset(experiment.dataset, ImageDataset)


def class_count(experiment: Experiment, data: Data) -> int:
    """Number of classes of the experiment's data; for text, of words."""
    if isinstance(data, TextData):
        return len(data.vocabulary)
    classes = image_dataset(experiment).classes
    if classes is not None:
        return classes
    assert isinstance(data, ImageFolder)
    return len(data.classes)


def make_source(experiment: Experiment, data: Data, trainer: Trainer, seed: int, workers: int = 0) -> Source:
    """Makes the source that feeds `data` to `trainer`.

    Args:
      experiment: What to train.
      data: Its data.
      trainer: Its trainer.
      seed: Decides the order, the crops and the flips, if the host makes them.
      workers: Processes that decode images, if the host decodes them.

    Raises:
      ValueError: If the data are a folder, but the experiment needs a set on the device, or its batches cannot be
        divided evenly among the devices.
    """
    task = experiment.task
    if isinstance(data, TextData):
        return _text_source(experiment, data, trainer)
    if isinstance(data, ImageData):
        return ResidentData(trainer, *arrays(experiment, data))
    assert isinstance(task, ImageClassification), "a folder of images is for image classification"
    if task.reestimate_statistics or task.keep_last_batch or task.augmentation:
        raise ValueError(
            f"{experiment.name}: reestimate_statistics, keep_last_batch and augmentation are for data on the device."
        )
    size = task.image_size
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
                # Every batch has the same shape, so that one program serves all.
                padded = {
                    name: np.concatenate([array, np.repeat(array[-1:], test_share - count, axis=0)])
                    for name, array in batch.items()
                }
                yield padded, np.arange(test_share) < count
                steps -= 1
        # A process whose share is smaller by one image may have one batch less; all must take equally many.
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


def _text_source(experiment: Experiment, data: TextData, trainer: Trainer) -> Source:
    """Evaluates the test text in the validation text's number of columns each epoch, and in its own at the end."""
    assert isinstance(experiment.task, LanguageModelling), "a text is for language modelling"
    train, held_out = arrays(experiment, data)
    each_epoch, at_end = experiment.task.eval_columns
    if each_epoch == at_end:
        return ResidentData(trainer, train, held_out)
    # One column takes 82,430 steps on the Penn Treebank, too many each epoch for a number that few tables need.
    curve = {"tokens": columns(data.test, each_epoch)}
    return ResidentData(trainer, train, held_out | {"test": curve}, {"final_test": held_out["test"]})


class _Positions:
    """Batches whose position is a string."""

    def __init__(self, batches: ImageBatches):
        self._batches = batches

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._batches)

    def get_position(self) -> str:
        return json.dumps(self._batches.get_state())

    def set_position(self, position: str) -> None:
        self._batches.set_state(json.loads(position))


def arrays(experiment: Experiment, data: ImageData | TextData) -> tuple[Arrays, dict[str, Arrays]]:
    """The training data, and the held-out sets by name, as the experiment's trainer takes them.

    Held-out texts have the numbers of columns of the experiment's `eval_columns`.
    """
    if isinstance(data, ImageData):
        return _images(data.train), {"test": _images(data.test)}
    task = experiment.task
    assert isinstance(task, LanguageModelling), "a text is for language modelling"
    held_out = zip(("valid", "test"), (data.valid, data.test), task.eval_columns, strict=True)
    return (
        {"tokens": columns(data.train, experiment.batch_size)},
        {name: {"tokens": columns(tokens, count)} for name, tokens, count in held_out},
    )


def _images(images: ImageSet) -> Arrays:
    return {"images": images.images, "labels": images.labels}
