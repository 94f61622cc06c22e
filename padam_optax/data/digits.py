"""The handwritten digits that scikit-learn ships: 1,797 images of 8x8 pixels, no download."""

import numpy as np

from padam_optax.data.images import ImageData, ImageSet, checksum

LABEL = "digits"
CLASSES = 10
_TRAIN_EXAMPLES = 1_000


def read_digits() -> ImageData:
    """Reads the digits in a fixed random order: 1,000 training and 797 test images, (8, 8, 1), values 0 to 16.

    Raises:
      ImportError: If scikit-learn is not installed; the message says how to install it.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise ImportError('The digits need scikit-learn: pip install "padam_optax[experiments]".') from None

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images = images.reshape(-1, 8, 8, 1).astype(np.uint8)[order]
    labels = labels.astype(np.int32)[order]
    train = ImageSet(images[:_TRAIN_EXAMPLES], labels[:_TRAIN_EXAMPLES])
    test = ImageSet(images[_TRAIN_EXAMPLES:], labels[_TRAIN_EXAMPLES:])
    return ImageData(train, test, LABEL, checksum([train, test]))
