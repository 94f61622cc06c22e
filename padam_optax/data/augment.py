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
