"""Augmentation and normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from padam_optax.data.augment import normalize, random_flip


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4_096, 2, 3, 2), dtype=np.uint8)


def flipped(before: np.ndarray, after: jax.Array) -> np.ndarray:
    """Which images are mirrored; all others must be as they were."""
    after = np.asarray(after)
    kept = (after == before).all((1, 2, 3))
    mirrored = (after == before[:, :, ::-1]).all((1, 2, 3))
    assert (kept | mirrored).all()
    return ~kept


def test_flip_mirrors_half(images):
    result = random_flip(jax.random.key(0), images)
    assert result.dtype == images.dtype
    share = flipped(images, result).mean()
    assert abs(share - 0.5) < 4 * 0.5 / len(images) ** 0.5


def test_flip_depends_on_the_key_alone(images):
    first, again, other = (flipped(images, jax.jit(random_flip)(jax.random.key(key), images)) for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(("x64", "dtype", "tolerance"), [(False, jnp.float32, 1e-6), (True, jnp.float64, 1e-14)])
def test_normalize(images, x64, dtype, tolerance):
    mean, std, scale = (0.25, 0.5), (0.2, 0.3), 255.0
    with jax.enable_x64(x64):
        result = normalize(jnp.asarray(images), mean, std, scale)
        assert result.dtype == dtype
        expected = (images.astype(np.float64) / scale - np.array(mean)) / np.array(std)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance * 4)


def test_normalize_extremes():
    """White and black of a channel with the statistics of CIFAR-10's red."""
    pixels = jnp.array([0, 255], jnp.uint8).reshape(2, 1, 1, 1)
    result = normalize(pixels, (0.4914,), (0.2023,), 255.0)
    np.testing.assert_allclose(result.ravel(), [-2.429066, 2.514088], atol=1e-6)
