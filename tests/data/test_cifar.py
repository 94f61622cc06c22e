"""CIFAR-10's binary files: hand-made ones of full size, and the real images where they are at hand."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from padam_optax.data.cifar import CIFAR10, read_cifar10, read_cifar100
from padam_optax.data.images import DataError, ImageData, ImageSet, checksum, restrict
from padam_optax.runner.datasets import DATASETS

RECORD = 3073
SIZE = 10_000 * RECORD


def write(path: pathlib.Path, size: int = SIZE, values: dict[int, int] | None = None) -> None:
    """A (sparse) file of zeros but for single bytes at the given offsets."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, value in (values or {}).items():
            file.seek(offset)
            file.write(bytes([value]))


def pixel(record: int, channel: int, row: int, column: int) -> int:
    """Offset of a byte by the official description: label, then red, green and blue plane, row by row."""
    return record * RECORD + 1 + channel * 1024 + row * 32 + column


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> pathlib.Path:
    """File k holds black images of class 0, but record 0 is of class k and the last record has pixels set to k."""
    folder = tmp_path_factory.mktemp("cifar") / CIFAR10.folder
    folder.mkdir()
    for number, name in enumerate((*CIFAR10.train_files, CIFAR10.test_file), start=1):
        last = {pixel(9_999, 0, 3, 4): number, pixel(9_999, 1, 5, 6): 10 + number, pixel(9_999, 2, 31, 0): 20 + number}
        write(folder / name, values={0: number, **last})
    return folder


@pytest.fixture(scope="module")
def data(files) -> ImageData:
    return read_cifar10(files, "hand-made")


def test_shapes(data):
    for part, count in ((data.train, 50_000), (data.test, 10_000)):
        assert (part.images.shape, part.images.dtype) == ((count, 32, 32, 3), np.uint8)
        assert (part.labels.shape, part.labels.dtype) == ((count,), np.int32)
    assert data.label == "hand-made"


def test_labels_and_order_of_files(data):
    assert data.train.labels[::10_000].tolist() == [1, 2, 3, 4, 5]
    assert data.test.labels[0] == 6
    assert np.count_nonzero(data.train.labels) == 5
    assert np.count_nonzero(data.test.labels) == 1


@pytest.mark.parametrize("number", range(1, 7))
def test_rows_columns_channels(data, number):
    image = data.test.images[-1] if number == 6 else data.train.images[number * 10_000 - 1]
    expected = np.zeros((32, 32, 3))
    expected[3, 4, 0], expected[5, 6, 1], expected[31, 0, 2] = number, 10 + number, 20 + number
    np.testing.assert_array_equal(image, expected)


def test_other_pixels_are_black(data):
    assert np.count_nonzero(data.train.images) == 5 * 3
    assert np.count_nonzero(data.test.images) == 3


@pytest.mark.parametrize(
    ("read", "folder", "test_file"),
    [(read_cifar10, "cifar-10-batches-py", "test_batch"), (read_cifar100, "cifar-100-python", "test")],
)
@pytest.mark.parametrize("given", ["", "above"])
def test_the_version_for_python_is_named(tmp_path, read, folder, test_file, given):
    """As torchvision leaves it; no pickle is opened."""
    path = tmp_path / folder
    path.mkdir()
    (path / test_file).write_bytes(b"a pickle")
    for label in ("", "mine"):
        with pytest.raises(DataError, match=rf"^{path} is .* not read\. `padam data fetch cifar100?` .*--data-dir"):
            read(tmp_path if given else path, label)


def test_folder_above(files, data):
    assert read_cifar10(files.parent, "hand-made").sha256 == data.sha256


@pytest.mark.parametrize(
    ("name", "size", "values", "words"),
    [
        (CIFAR10.train_files[0], None, {}, ["does not exist", "Expected", *CIFAR10.train_files, CIFAR10.test_file]),
        (CIFAR10.test_file, None, {}, ["does not exist", "Expected", *CIFAR10.train_files, CIFAR10.test_file]),
        (CIFAR10.train_files[1], SIZE - 1, {}, ["truncated", "30,729,999", "expected 30,730,000"]),
        (CIFAR10.train_files[0], 0, {}, ["truncated", "0 bytes", "expected 30,730,000"]),
        (CIFAR10.train_files[0], SIZE + RECORD, {}, ["too long", "30,733,073", "expected 30,730,000"]),
        (CIFAR10.train_files[0], SIZE, {7 * RECORD: 10}, ["record 7", "label 10", "expected 0 to 9"]),
        (CIFAR10.test_file, SIZE, {9_999 * RECORD: 255}, ["record 9999", "label 255", "expected 0 to 9"]),
    ],
    ids=["missing", "missing test file", "truncated", "empty", "too long", "label", "last label"],
)
def test_damaged_file(files, tmp_path, name, size, values, words):
    for other in files.iterdir():
        if other.name != name:
            (tmp_path / other.name).symlink_to(other)
    if size is not None:
        write(tmp_path / name, size, values)
    with pytest.raises(DataError) as caught:
        read_cifar10(tmp_path, "hand-made")
    assert [word for word in (str(tmp_path / name), *words) if word not in str(caught.value)] == []


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"data_batch_1\.bin does not exist"):
        read_cifar10(tmp_path / "nowhere", "hand-made")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("", "--data-label"),
        *(
            (label, "checksums")
            for label in ("cifar10", "CIFAR10", "cifar-10", " cifar10", "CIFAR 100", "\uff23ifar\uff11\uff10")
        ),
    ],
)
def test_label_must_be_the_users_own(files, label, words):
    with pytest.raises(DataError, match=words):
        read_cifar10(files, label)


def numbered(count: int) -> ImageSet:
    labels = np.arange(count, dtype=np.int32)
    return ImageSet(np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (count, 2, 2, 1)), labels)


@pytest.mark.parametrize(
    ("examples", "held_out", "train", "test"),
    [
        (None, None, range(20), range(100, 105)),
        (7, None, range(7), range(100, 105)),
        (20, None, range(20), range(100, 105)),
        (10, 0.2, range(8), range(8, 10)),
        (None, 0.25, range(15), range(15, 20)),
    ],
)
def test_restrict(examples, held_out, train, test):
    last = ImageSet(numbered(105).images[100:], numbered(105).labels[100:])
    data = restrict(ImageData(numbered(20), last, "some", "sum"), examples, held_out)
    assert (data.label, data.sha256) == ("some", "sum")
    for part, expected in ((data.train, train), (data.test, test)):
        assert len(part) == len(expected)
        np.testing.assert_array_equal(part.labels, expected)
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], expected)


def test_restrict_to_more_than_there_are():
    with pytest.raises(DataError, match="some has 20 training images; 21 were asked for"):
        restrict(ImageData(numbered(20), numbered(5), "some", "sum"), 21, None)


def test_checksum_sees_pixels_labels_and_order():
    images, labels = np.zeros((3, 2, 2, 1), np.uint8), np.arange(3, dtype=np.int32)
    other_images, other_labels = images.copy(), labels.copy()
    other_images[2, 1, 1, 0], other_labels[2] = 1, 1
    variants = [
        [ImageSet(images, labels)],
        [ImageSet(other_images, labels)],
        [ImageSet(images, other_labels)],
        [ImageSet(images, labels[::-1])],
        [ImageSet(images, labels), ImageSet(images, labels)],
    ]
    assert len({checksum(variant) for variant in variants}) == len(variants)
    assert checksum(variants[0]) == checksum([ImageSet(images.copy(), labels.copy())])


@pytest.fixture(scope="module")
def photographs(shared_data, tmp_path_factory) -> ImageData:
    """All 60,000 images, compressed as JPEG, written in the official layout."""
    folder = tmp_path_factory.mktemp("photographs")
    command = [sys.executable, shared_data("make_cifar10_bin.py"), shared_data("cifar10-jpeg.tar.xz"), folder]
    subprocess.run(command, check=True)
    data = read_cifar10(folder, "cifar10-jpeg")
    shutil.rmtree(folder)
    return data


def test_real_classes(photographs):
    assert np.bincount(photographs.train.labels).tolist() == [5_000] * 10
    assert np.bincount(photographs.test.labels).tolist() == [1_000] * 10


def test_real_statistics(photographs):
    """The authors' means are those of the training pixels, their deviations the mean ones of single images."""
    images, dataset = photographs.train.images, DATASETS["cifar10"]
    np.testing.assert_allclose(images.mean((0, 1, 2)) / 255, dataset.mean, atol=2e-3)
    np.testing.assert_allclose(images[::10].std((1, 2)).mean(0) / 255, dataset.std, atol=4e-3)


def test_first_images_mix_the_classes(photographs):
    counts = np.bincount(restrict(photographs, 5_000, None).train.labels)
    assert counts.min() > 400
    assert counts.max() < 600
