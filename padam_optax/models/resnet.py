"""Residual networks with post-activation basic blocks (He et al., 2016), for small images."""

import jax
import jax.numpy as jnp
from flax import nnx

from padam_optax.models.layers import BatchNorm, Conv, Linear


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions; the shortcut is a 1x1 convolution and a batch norm where the shape changes."""

    def __init__(self, in_features: int, features: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = Conv(in_features, features, stride=stride, rngs=rngs)
        self.norm1 = BatchNorm(features, rngs=rngs)
        self.conv2 = Conv(features, features, rngs=rngs)
        self.norm2 = BatchNorm(features, rngs=rngs)
        if stride != 1 or in_features != features:
            self.shortcut = Conv(in_features, features, 1, stride=stride, rngs=rngs)
            self.shortcut_norm = BatchNorm(features, rngs=rngs)
        else:
            self.shortcut = self.shortcut_norm = None

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        hidden = nnx.relu(self.norm1(self.conv1(images), train=train))
        hidden = self.norm2(self.conv2(hidden), train=train)
        if self.shortcut is not None and self.shortcut_norm is not None:
            images = self.shortcut_norm(self.shortcut(images), train=train)
        return nnx.relu(hidden + images)


class ResNet(nnx.Module):
    """A 3x3 stem, stages of basic blocks, the mean over pixels and a linear layer.

    Args:
      widths: Channels of each stage; the stem has those of the first.
      blocks: Blocks of each stage; every stage but the first halves the image.
      classes: Outputs.
      stem_stride: 1 for the CIFAR form of the paper, 2 for the mini recipe.
      rngs: Source of the keys for the parameters.
    """

    def __init__(
        self, widths: tuple[int, ...], blocks: tuple[int, ...], *, classes: int, stem_stride: int = 1, rngs: nnx.Rngs
    ):
        if len(widths) != len(blocks):
            raise ValueError(f"widths and blocks must have one entry a stage, got {widths} and {blocks}.")
        self.stem = Conv(3, widths[0], stride=stem_stride, rngs=rngs)
        self.stem_norm = BatchNorm(widths[0], rngs=rngs)
        layers = []
        features = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(BasicBlock(features, width, stride, rngs=rngs))
                features = width
        self.blocks = nnx.List(layers)
        self.head = Linear(features, classes, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Logits (N, classes) of `images` (N, H, W, 3)."""
        hidden = nnx.relu(self.stem_norm(self.stem(images), train=train))
        for block in self.blocks:
            hidden = block(hidden, train=train)
        return self.head(jnp.mean(hidden, axis=(1, 2)))


def resnet10_mini(*, classes: int, rngs: nnx.Rngs) -> ResNet:
    """ResNet-10 of widths 16, 32, 64, 128 with a stem of stride 2: 309,000 parameters, for a CPU core."""
    return ResNet((16, 32, 64, 128), (1, 1, 1, 1), classes=classes, stem_stride=2, rngs=rngs)
