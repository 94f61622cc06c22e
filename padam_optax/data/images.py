"""The image sets that every reader of images returns."""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np


class DataError(Exception):
    """The data is missing, damaged or not the requested one; the message names the file and what was expected."""


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Labelled images.

    Attributes:
      images: (N, height, width, channels), uint8.
      labels: (N,), int32, from 0.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def slice(self, start: int, stop: int) -> "ImageSet":
        """The images from `start` to `stop`."""
        return ImageSet(self.images[start:stop], self.labels[start:stop])


@dataclasses.dataclass(frozen=True)
class ImageData:
    """A training and a test set, the name under which results on them are reported, and a checksum of their content."""

    train: ImageSet
    test: ImageSet
    label: str
    sha256: str


def checksum(sets: Iterable[ImageSet]) -> str:
    """SHA-256 of the labels and pixels in order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in sets:
        digest.update(part.labels.tobytes())
        digest.update(part.images.tobytes())
    return digest.hexdigest()


def restrict(data: ImageData, train_examples: int | None, held_out: float | None) -> ImageData:
    """The first `train_examples` training images (all if None); with `held_out`, their last share is the test set.

    The readers' order is fixed and mixes the classes, so the first images are a random subset.

    Raises:
      DataError: If there are fewer training images than asked for.
    """
    train, test = data.train, data.test
    if train_examples is not None:
        if len(train) < train_examples:
            raise DataError(f"{data.label} has {len(train)} training images; {train_examples} were asked for.")
        train = train.slice(0, train_examples)
    if held_out is not None:
        kept = len(train) - round(held_out * len(train))
        train, test = train.slice(0, kept), train.slice(kept, len(train))
    return dataclasses.replace(data, train=train, test=test)
