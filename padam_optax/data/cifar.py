"""CIFAR-10 in its official binary layout: records of one label byte and 3,072 image bytes, channel-major.

No pickle is read. https://www.cs.toronto.edu/~kriz/cifar.html describes the layout.
"""

import pathlib

import numpy as np

from padam_optax.data.images import DataError, ImageData, ImageSet, checksum

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{batch}.bin" for batch in range(1, 6))
TEST_FILE = "test_batch.bin"
CLASSES = 10
_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_RECORDS = 10_000

# Only what our own checksummed download unpacked may carry the data set's own name.
RESERVED_LABEL = "cifar10"


def read_cifar10(data_dir: str | pathlib.Path, label: str) -> ImageData:
    """Reads the five training files and the test file.

    Args:
      data_dir: The folder `cifar-10-batches-bin`, or the one that holds it.
      label: The name under which results on these files are reported; not "cifar10", which is kept for files that
        were downloaded and checked against the official checksums.

    Returns:
      50,000 training and 10,000 test images, (32, 32, 3), in the files' order.

    Raises:
      DataError: If the label is missing or reserved, or a file is missing, truncated or of another size, or holds a
        label above 9; the message names the file, what it holds and what was expected.
    """
    if not label:
        raise DataError("Name the data with --data-label (for example cifar10-jpeg): results are reported under it.")
    if label == RESERVED_LABEL:
        raise DataError(
            f"The label {RESERVED_LABEL!r} is kept for files that were downloaded and checked against the official"
            " checksums; name these files otherwise."
        )
    folder = pathlib.Path(data_dir)
    if (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    parts = [_read_file(folder / name) for name in (*TRAIN_FILES, TEST_FILE)]
    train = ImageSet(
        np.concatenate([part.images for part in parts[:-1]]), np.concatenate([part.labels for part in parts[:-1]])
    )
    return ImageData(train, parts[-1], label, checksum(parts))


def _read_file(path: pathlib.Path) -> ImageSet:
    if not path.is_file():
        expected = ", ".join((*TRAIN_FILES, TEST_FILE))
        raise DataError(f"{path} does not exist. Expected CIFAR-10's binary files: {expected}.")
    expected_size = _RECORDS * _RECORD
    size = path.stat().st_size
    if size != expected_size:
        state = "truncated" if size < expected_size else "too long"
        raise DataError(
            f"{path} is {state}: {size:,} bytes, expected {expected_size:,}"
            f" ({_RECORDS:,} records of {_RECORD:,} bytes)."
        )
    records = np.fromfile(path, np.uint8).reshape(_RECORDS, _RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        record = int(np.argmax(labels >= CLASSES))
        raise DataError(f"{path}: record {record} has the label {labels[record]}, expected 0 to {CLASSES - 1}.")
    images = records[:, 1:].reshape(-1, *_SHAPE).transpose(0, 2, 3, 1)
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int32))
