"""CIFAR-100's binary files, the marker of a download, and the labels it stands for."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from padam_optax.data import cifar, download, marker
from padam_optax.data.images import DataError

FILES = {"train.bin": 50_000, "test.bin": 10_000}
RECORD = 2 + 3072


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, np.ndarray]:
    """Records in the official layout with random content, mapped from the files in their `filename`."""
    folder = tmp_path_factory.mktemp("cifar") / "cifar-100-binary"
    folder.mkdir()
    rng = np.random.default_rng(0)
    written = {}
    for name, count in FILES.items():
        records = np.memmap(folder / name, np.uint8, "w+", shape=(count, RECORD))
        records[:] = rng.integers(256, size=records.shape, dtype=np.uint8)
        records[:, 0] %= 20
        records[:, 1] %= 100
        records.flush()
        written[name] = records
    return written


@pytest.fixture
def folder(records, tmp_path) -> pathlib.Path:
    """A folder of links to the files, so that a test may replace one."""
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, content in records.items():
        (folder / name).symlink_to(content.filename)
    return folder


def mark(folder: pathlib.Path, name: str = "cifar100") -> None:
    """Leaves the marker that a download of the files in `folder` leaves."""
    source = download.SOURCES["cifar100"]
    files = {path.name: marker.sha256(path) for path in folder.iterdir()}
    marker.Marker(name, source.url, source.checksum, files).write(folder)


def replace(path: pathlib.Path, change) -> None:
    """Puts a changed copy of the file in the place of the link."""
    copy = path.with_suffix(".new")
    shutil.copyfile(path, copy)
    with copy.open("r+b") as file:
        change(file)
    copy.replace(path)


def put(position: int, value: int):
    def change(file):
        file.seek(position)
        file.write(bytes([value]))

    return change


def test_reads_fine_labels_and_pixels(folder, records):
    for data_dir in (folder, folder.parent):
        data = cifar.read_cifar100(data_dir, "cifar100-random")
        assert data.label == "cifar100-random"
        for images, content in ((data.train, records["train.bin"]), (data.test, records["test.bin"])):
            assert images.images.shape == (len(content), 32, 32, 3)
            assert images.images.dtype == np.uint8
            assert images.labels.dtype == np.int32
            np.testing.assert_array_equal(images.labels, content[:, 1])
        # A record is two labels and the rows of the red plane, of the green and of the blue.
        pixel = 2 + np.arange(3) * 1024 + 5 * 32 + 7
        np.testing.assert_array_equal(data.train.images[123, 5, 7], records["train.bin"][123, pixel])


def test_files_of_a_download_need_no_label(folder):
    unmarked = cifar.read_cifar100(folder, "cifar100-mine")
    mark(folder)
    for label in ("", "cifar100"):
        data = cifar.read_cifar100(folder, label)
        assert data.label == "cifar100"
        assert data.sha256 == unmarked.sha256


def test_an_altered_file_of_a_download(folder):
    mark(folder)
    # A pixel: nothing but the checksum can tell.
    replace(folder / "test.bin", lambda file: put(1_000_000, file.read()[1_000_000] ^ 1)(file))
    with pytest.raises(DataError, match=rf"{folder / 'test.bin'} was altered.*expected [0-9a-f]{{64}}"):
        cifar.read_cifar100(folder)


def test_a_truncated_file_of_a_download(folder):
    mark(folder)
    replace(folder / "train.bin", lambda file: file.truncate(1_000_000))
    with pytest.raises(DataError, match=rf"{folder / 'train.bin'} was altered"):
        cifar.read_cifar100(folder)


def test_a_missing_file_of_a_download(folder):
    mark(folder)
    (folder / "test.bin").unlink()
    with pytest.raises(DataError, match=rf"{folder / 'test.bin'} does not exist"):
        cifar.read_cifar100(folder)


@pytest.mark.parametrize("size", [153_699_999, 153_700_001, 150_050_000])
def test_a_wrong_size(folder, size):
    replace(folder / "train.bin", lambda file: file.truncate(size))
    with pytest.raises(DataError, match=rf"{folder / 'train.bin'} is .*{size:,} bytes, expected 153,700,000.*3,074"):
        cifar.read_cifar100(folder, "cifar100-mine")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [(0, 20, "coarse label 20, expected 0 to 19"), (1, 100, "fine label 100, expected 0 to 99")],
)
def test_a_label_out_of_range(folder, column, value, message):
    replace(folder / "test.bin", put(7 * RECORD + column, value))
    with pytest.raises(DataError, match=rf"{folder / 'test.bin'}: record 7 has the {message}"):
        cifar.read_cifar100(folder, "cifar100-mine")


READERS = {"cifar10": cifar.read_cifar10, "cifar100": cifar.read_cifar100}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("label", ["cifar10", "cifar100"])
def test_the_sets_own_names_are_for_downloads(tmp_path, reader, label):
    with pytest.raises(DataError, match=rf"The label '{label}' is kept for files that `padam data fetch {label}`"):
        READERS[reader](tmp_path, label)


@pytest.mark.parametrize("reader", READERS)
def test_other_files_need_a_label(tmp_path, reader):
    with pytest.raises(DataError, match="--data-label"):
        READERS[reader](tmp_path)


@pytest.mark.parametrize("label", ["mine", "cifar10"])
def test_a_download_has_one_name(folder, label):
    mark(folder)
    with pytest.raises(DataError, match=rf"{folder} holds cifar100.*leave out --data-label, given as '{label}'"):
        cifar.read_cifar100(folder, label)


def test_the_marker_of_another_set(folder):
    mark(folder, "cifar10")
    with pytest.raises(DataError, match=rf"{folder} holds cifar10.*expected cifar100"):
        cifar.read_cifar100(folder)


def test_a_marker_that_does_not_vouch_for_all_files(folder):
    mark(folder)
    path = folder / marker.FILE
    fields = json.loads(path.read_text())
    del fields["files"]["train.bin"]
    path.write_text(json.dumps(fields))
    with pytest.raises(DataError, match=rf"{path} has no checksum of train.bin"):
        cifar.read_cifar100(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"name": "cifar100", "url": "", "archive": "", "files": 1}'])
def test_a_damaged_marker(folder, content):
    (folder / marker.FILE).write_text(content)
    with pytest.raises(DataError, match=rf"{folder / marker.FILE} is not the marker"):
        cifar.read_cifar100(folder, "cifar100-mine")
