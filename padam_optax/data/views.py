"""The views of an image file for training and evaluation: decoded, cropped, resized, in 8-bit RGB.

Memory is bounded: images of more than `MOST_PIXELS` are refused, each process decodes large ones one at a time, and a
long image needs no larger array than a square one.
"""

import contextlib
import math
import pathlib
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from padam_optax.data.images import DataError

if TYPE_CHECKING:
    from PIL import Image

# From here on Pillow warns of decompression bombs: 1 GiB / 4 / 3.
MOST_PIXELS = 89_478_485
# Larger images take turns. One of MOST_PIXELS takes up to 1 GB.
_LARGE_PIXELS = 1 << 24
_LARGE = threading.Lock()

# One training image of ImageNet, n02105855_2933.JPEG, is a PNG.
_FORMATS = ("JPEG", "PNG")
_CROP_AREA = (0.08, 1.0)
_CROP_RATIO = (3 / 4, 4 / 3)
_CROP_TRIES = 10
# The shorter side of a resized evaluation image, relative to the size of the crop.
_EVAL_MARGIN = 256 / 224
# Only the middle of a longer image than this is resized: the crop uses less than a square of it.
_LONGEST_RATIO = 16


def train_view(path: pathlib.Path, rng: np.random.Generator, size: int) -> np.ndarray:
    """A random part of an image, mirrored half of the time.

    Args:
      path: A JPEG or PNG file.
      rng: Random generator for the part.
      size: Height and width of the view in pixels.

    Returns:
      (size, size, 3), uint8.

    Raises:
      DataError: If the file is not a readable image, or has more than `MOST_PIXELS`.
    """
    with _decoded(path) as image:
        left, top, width, height = _random_crop(rng, *image.size)
        image = _resize(_to_rgb(image.crop((left, top, left + width, top + height))), size, size)
    pixels = np.asarray(image)
    return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def eval_view(path: pathlib.Path, size: int) -> np.ndarray:
    """The centre of an image whose shorter side was resized to 256/224 of `size`.

    Args:
      path: A JPEG or PNG file.
      size: Height and width of the view in pixels.

    Returns:
      (size, size, 3), uint8.

    Raises:
      DataError: If the file is not a readable image, or has more than `MOST_PIXELS`.
    """
    short = round(size * _EVAL_MARGIN)
    with _decoded(path) as image:
        image = _to_rgb(_middle(image))
        width, height = (max(short, int(short * side / min(image.size))) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = _resize(image, width, height).crop((left, top, left + size, top + size))
    return np.asarray(image)


@contextlib.contextmanager
def _decoded(path: pathlib.Path) -> Generator["Image.Image"]:
    """The image in the mode of its file. Only one large image is open at a time."""
    from PIL import Image

    with contextlib.ExitStack() as held:
        try:
            image = held.enter_context(Image.open(path, formats=_FORMATS))
            pixels = math.prod(image.size)
            if pixels > MOST_PIXELS:
                raise _TooLargeError
            if pixels > _LARGE_PIXELS:
                held.enter_context(_LARGE)
            image.load()
        except (_TooLargeError, Image.DecompressionBombError):
            message = (
                f"{path} has more than {MOST_PIXELS:,} pixels, the most that padam decodes: make the image smaller."
            )
            raise DataError(message) from None
        # Pillow's decoders raise many kinds of errors on damaged files, struct.error and SyntaxError among them.
        except Exception as error:
            raise DataError(f"{path} cannot be read: {error}. Expected a JPEG image.") from error
        yield image


class _TooLargeError(Exception):
    """An image has more than `MOST_PIXELS`."""


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip all values above 255. For 16-bit colours, too, it uses the upper byte.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def _middle(image: "Image.Image") -> "Image.Image":
    """The part of a long image that the centre crop can use; its centre stays between the same pixels."""
    sides = [min(side, _LONGEST_RATIO * min(image.size) + side % 2) for side in image.size]
    left, top = ((side - kept) // 2 for side, kept in zip(image.size, sides, strict=True))
    return image if sides == list(image.size) else image.crop((left, top, left + sides[0], top + sides[1]))


def _random_crop(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of a random part of an image, with a random area and ratio of sides."""
    for _ in range(_CROP_TRIES):
        area = width * height * rng.uniform(_CROP_AREA[0], _CROP_AREA[1])
        ratio = math.exp(rng.uniform(math.log(_CROP_RATIO[0]), math.log(_CROP_RATIO[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(rng.integers(width - crop_width + 1))
            return left, int(rng.integers(height - crop_height + 1)), crop_width, crop_height
    # A very long image gives the largest part in its centre with an allowed ratio.
    crop_width = min(width, round(height * _CROP_RATIO[1]))
    crop_height = min(height, round(width / _CROP_RATIO[0]))
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _resize(image: "Image.Image", width: int, height: int) -> "Image.Image":
    from PIL import Image

    return image.resize((width, height), Image.Resampling.BILINEAR)
