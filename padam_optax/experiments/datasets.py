"""The data sets of the experiments: how each is read and prepared."""

import dataclasses
import functools
import pathlib

from padam_optax.data.cifar import read_cifar10, read_cifar100
from padam_optax.data.digits import read_digits
from padam_optax.data.download import fetch, fetched
from padam_optax.data.images import DataError, ImageData, restrict
from padam_optax.experiments.spec import Experiment

__all__ = ["DATASETS", "Dataset", "ImageData", "fetch", "load_data"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """How a data set is prepared.

    Attributes:
      classes: Number of classes.
      scale: Value of a white pixel.
      mean: Mean a channel of the images divided by `scale`.
      std: Standard deviation a channel of the same.
      top5: Whether the top-5 error is reported.
    """

    classes: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top5: bool = False


DATASETS = {
    # The statistics in the authors' scripts.
    "cifar10": Dataset(10, 255.0, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": Dataset(100, 255.0, (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
    "imagenet": Dataset(1000, 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), top5=True),
    "digits": Dataset(10, 16.0, (0.0,), (1.0,)),
}


def load_data(experiment: Experiment, data_dir: str | pathlib.Path | None, data_label: str) -> ImageData:
    """Reads the experiment's data set and takes its part of it.

    Raises:
      DataError: If the files are missing or damaged, or no folder or label is given for a set that needs one.
    """
    return restrict(
        _read(experiment.dataset, data_dir and str(data_dir), data_label),
        experiment.train_examples,
        experiment.held_out,
    )


@functools.lru_cache(maxsize=2)
def _read(dataset: str, data_dir: str | None, label: str) -> ImageData:
    if dataset == "digits":
        return read_digits()
    folder = fetched(dataset) if data_dir is None else data_dir
    if folder is None:
        raise DataError(
            f"{dataset} is not here: `padam data fetch {dataset}` downloads it, and --data-dir takes a folder that has"
            " its binary files."
        )
    return {"cifar10": read_cifar10, "cifar100": read_cifar100}[dataset](folder, label)
