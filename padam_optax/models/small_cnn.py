"""The demonstration's network: two convolutions and one hidden layer."""

import jax
from flax import nnx

from padam_optax.models.layers import Conv, Linear


class SmallCNN(nnx.Module):
    """Two 3x3 convolutions (the second with stride 2), one hidden layer, for 8x8 images of one channel.

    Args:
      classes: Outputs.
      rngs: Source of the keys for the parameters.
    """

    def __init__(self, *, classes: int, rngs: nnx.Rngs):
        self.conv1 = Conv(1, 16, rngs=rngs)
        self.conv2 = Conv(16, 32, stride=2, rngs=rngs)
        self.hidden = Linear(4 * 4 * 32, 64, rngs=rngs)
        self.head = Linear(64, classes, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Logits (N, classes) of `images` (N, 8, 8, 1)."""
        del train
        hidden = nnx.relu(self.conv2(nnx.relu(self.conv1(images))))
        return self.head(nnx.relu(self.hidden(hidden.reshape(hidden.shape[0], -1))))
