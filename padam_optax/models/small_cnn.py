"""The demonstration's network: two convolutions and one hidden layer."""

import jax
from flax import nnx

from padam_optax.models.layers import Conv, Linear, cast_input


class SmallCNN(nnx.Module):
    """Two 3x3 convolutions (the second with stride 2), one hidden layer, for 8x8 images of one channel.

    Args:
      classes: Outputs.
      dtype: Dtype of activations and kernels, float32 or bfloat16; by default the images', float32 at least.
      rngs: Source of the keys for the parameters.
    """

    def __init__(self, *, classes: int, dtype: jax.typing.DTypeLike | None = None, rngs: nnx.Rngs):
        self.conv1 = Conv(1, 16, rngs=rngs)
        self.conv2 = Conv(16, 32, stride=2, rngs=rngs)
        self.hidden = Linear(4 * 4 * 32, 64, dtype=dtype, rngs=rngs)
        self.head = Linear(64, classes, rngs=rngs)
        self.dtype = dtype

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Logits (N, classes), float32 at least, of `images` (N, 8, 8, 1); neither `train` nor `key` is used."""
        del train, key
        hidden = nnx.relu(self.conv2(nnx.relu(self.conv1(cast_input(images, self.dtype)))))
        return self.head(nnx.relu(self.hidden(hidden.reshape(hidden.shape[0], -1))))
