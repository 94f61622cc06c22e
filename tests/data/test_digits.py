"""The digits of scikit-learn as this package splits them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from padam_optax.data.digits import LABEL, read_digits
from padam_optax.data.images import ImageData, checksum


@pytest.fixture(scope="module")
def data() -> ImageData:
    return read_digits()


def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[float, ...]]:
    return sorted(map(tuple, np.column_stack([labels, images.reshape(len(labels), 64)]).tolist()))


def test_sizes(data):
    assert data.label == LABEL == "digits"
    for part, count in ((data.train, 1_000), (data.test, 797)):
        assert len(part) == count
        assert (part.images.shape, part.images.dtype) == ((count, 8, 8, 1), np.uint8)
        assert (part.labels.shape, part.labels.dtype) == ((count,), np.int32)
        assert part.images.max() == 16
        assert np.unique(part.labels).tolist() == list(range(10))


def test_split_is_disjoint_and_complete(data):
    images, labels = load_digits(return_X_y=True)
    together = rows(data.train.images, data.train.labels) + rows(data.test.images, data.test.labels)
    assert sorted(together) == rows(images, labels)


def test_order_is_fixed(data):
    """The checksum that runs record: another order or split is another data set."""
    assert data.sha256 == "708721a18095c30d8a712360fa1a1741b9bd964a342521cf44d7121b29f48fea"
    assert data.sha256 == checksum([data.train, data.test]) == read_digits().sha256


def test_classes_are_mixed(data):
    """Each class has about 100 of the 1,000 training images."""
    counts = np.bincount(data.train.labels)
    assert counts.min() > 80
    assert counts.max() < 120
