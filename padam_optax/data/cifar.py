"""CIFAR-10 and CIFAR-100 in their official binary layout: records of label bytes and 3,072 image bytes, channel-major.

No pickle is read. https://www.cs.toronto.edu/~kriz/cifar.html describes the layout.
"""

import dataclasses
import pathlib

import numpy as np

from padam_optax.data.images import DataError, ImageData, ImageSet, checksum
from padam_optax.data.marker import checked_label
from padam_optax.paths import expanded

_SHAPE = (3, 32, 32)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files and records of one of the two sets.

    Attributes:
      name: The data set's name, also the label of a set that `padam data fetch` unpacked.
      title: The data set's name in messages.
      folder: The folder in the official archive.
      train_files: The training files in order; each holds `train_records` records.
      test_file: The test file, of 10,000 records.
      labels: The name and number of classes of each label byte of a record, in order. The last one is the class.
      python_folder: The folder of the version for Python, which is not read: its files are pickles.
      python_test_file: The test file in that folder.
    """

    name: str
    title: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    train_records: int
    labels: tuple[tuple[str, int], ...]
    python_folder: str
    python_test_file: str
    test_records: int = 10_000

    @property
    def record_bytes(self) -> int:
        """Bytes of a record."""
        return len(self.labels) + int(np.prod(_SHAPE))

    @property
    def records(self) -> dict[str, int]:
        """The number of records of each file, by its name, in order."""
        return {**dict.fromkeys(self.train_files, self.train_records), self.test_file: self.test_records}


CIFAR10 = Layout(
    name="cifar10",
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{batch}.bin" for batch in range(1, 6)),
    test_file="test_batch.bin",
    train_records=10_000,
    labels=(("label", 10),),
    python_folder="cifar-10-batches-py",
    python_test_file="test_batch",
)
CIFAR100 = Layout(
    name="cifar100",
    title="CIFAR-100",
    folder="cifar-100-binary",
    train_files=("train.bin",),
    test_file="test.bin",
    train_records=50_000,
    labels=(("coarse label", 20), ("fine label", 100)),
    python_folder="cifar-100-python",
    python_test_file="test",
)


def read_cifar10(data_dir: str | pathlib.Path, label: str = "") -> ImageData:
    """Reads CIFAR-10's five training files and its test file.

    Args:
      data_dir: The folder `cifar-10-batches-bin`, or its parent.
      label: The name under which results on these files are reported. A folder made by `padam data fetch cifar10` is
        called "cifar10" and needs no label. Any other folder needs a label, which may not be a data set's own name.

    Returns:
      50,000 training and 10,000 test images, (32, 32, 3), in the files' order, labels 0 to 9.

    Raises:
      DataError: If the label is missing, reserved or contradicts the marker of the download; if a file is missing,
        truncated or of another size, holds a label above 9, or changed after the download. The message names the file,
        what it holds and what was expected.
    """
    return _read(CIFAR10, data_dir, label)


def read_cifar100(data_dir: str | pathlib.Path, label: str = "") -> ImageData:
    """Reads CIFAR-100's `train.bin` and `test.bin` with their fine labels.

    Args:
      data_dir: The folder `cifar-100-binary`, or its parent.
      label: As for `read_cifar10`; a folder made by `padam data fetch cifar100` is called "cifar100".

    Returns:
      50,000 training and 10,000 test images, (32, 32, 3), in the files' order, labels 0 to 99.

    Raises:
      DataError: As `read_cifar10`, for a coarse label above 19 or a fine label above 99.
    """
    return _read(CIFAR100, data_dir, label)


def _read(layout: Layout, data_dir: str | pathlib.Path, label: str) -> ImageData:
    folder = expanded(data_dir)
    if (folder / layout.folder).is_dir():
        folder = folder / layout.folder
    _refuse_python(layout, folder)
    label = checked_label(folder, layout.name, label, layout.records)
    *train, test = [_read_file(layout, folder / name, records) for name, records in layout.records.items()]
    joined = ImageSet(np.concatenate([part.images for part in train]), np.concatenate([part.labels for part in train]))
    return ImageData(joined, test, label, checksum([*train, test]))


def _refuse_python(layout: Layout, folder: pathlib.Path) -> None:
    """Raises DataError for the version for Python, which other tools download, such as torchvision."""
    if (folder / layout.test_file).exists():
        return
    for found in (folder / layout.python_folder, folder):
        if (found / layout.python_test_file).is_file():
            raise DataError(
                f"{found} is {layout.title}'s version for Python: pickles, which padam does not read. `padam data fetch"
                f" {layout.name}` downloads the binary version; --data-dir takes a folder {layout.folder}."
            )


def _read_file(layout: Layout, path: pathlib.Path, records: int) -> ImageSet:
    if not path.is_file():
        expected = ", ".join(layout.records)
        raise DataError(f"{path} does not exist. Expected {layout.title}'s binary files: {expected}.")
    expected_size = records * layout.record_bytes
    size = path.stat().st_size
    if size != expected_size:
        state = "truncated" if size < expected_size else "too long"
        raise DataError(
            f"{path} is {state}: {size:,} bytes, expected {expected_size:,}"
            f" ({records:,} records of {layout.record_bytes:,} bytes)."
        )
    content = np.fromfile(path, np.uint8).reshape(records, layout.record_bytes)
    for column, (kind, classes) in enumerate(layout.labels):
        labels = content[:, column]
        if labels.max() >= classes:
            record = int(np.argmax(labels >= classes))
            raise DataError(f"{path}: record {record} has the {kind} {labels[record]}, expected 0 to {classes - 1}.")
    classes = content[:, len(layout.labels) - 1]
    images = content[:, len(layout.labels) :].reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)
    return ImageSet(np.ascontiguousarray(images), classes.astype(np.int32))
