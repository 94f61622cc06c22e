"""Augmentation and normalisation of image batches inside the compiled step."""

import jax
import jax.numpy as jnp


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each of `images` (N, H, W, C) left to right with probability 1/2."""
    flips = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(flips, images[:, :, ::-1], images)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], scale: float) -> jax.Array:
    """`(images / scale - mean) / std` in the default float dtype; mean and std have one entry a channel."""
    values = images.astype(jnp.result_type(float)) / scale
    return (values - jnp.asarray(mean)) / jnp.asarray(std)


def random_crop(key: jax.Array, images: jax.Array, padding: int = 4) -> jax.Array:
    """Pads each of `images` (N, H, W, C) with zeros on all sides and cuts an H x W window at a random place."""
    count, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = jax.random.randint(key, (count, 2), 0, 2 * padding + 1)

    def cut(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))

    return jax.vmap(cut)(padded, offsets)
