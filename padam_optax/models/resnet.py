"""Residual networks with post-activation basic blocks (He et al., 2016), for small images and for ImageNet."""

import functools

import jax
from flax import nnx

from padam_optax.models.layers import (
    BatchNorm,
    Conv,
    Initializer,
    Linear,
    NormScale,
    cast_input,
    fan_in_uniform,
    fan_out_normal,
    mean_over_pixels,
    norm_scale_initializer,
)
from padam_optax.models.pooling import max_pool


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions; the shortcut is a 1x1 convolution and a batch norm where the shape changes."""

    def __init__(
        self,
        in_features: int,
        features: int,
        stride: int,
        *,
        kernel_init: Initializer = fan_in_uniform,
        norm_scale_init: NormScale = "ones",
        rngs: nnx.Rngs,
    ):
        conv = functools.partial(Conv, kernel_init=kernel_init, rngs=rngs)
        norm = functools.partial(BatchNorm, features, scale_init=norm_scale_initializer(norm_scale_init), rngs=rngs)
        self.conv1 = conv(in_features, features, stride=stride)
        self.norm1 = norm()
        self.conv2 = conv(features, features)
        self.norm2 = norm()
        if stride != 1 or in_features != features:
            self.shortcut = conv(in_features, features, 1, stride=stride)
            self.shortcut_norm = norm()
        else:
            self.shortcut = self.shortcut_norm = None

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        hidden = nnx.relu(self.norm1(self.conv1(images), train=train))
        hidden = self.norm2(self.conv2(hidden), train=train)
        if self.shortcut is not None and self.shortcut_norm is not None:
            images = self.shortcut_norm(self.shortcut(images), train=train)
        return nnx.relu(hidden + images)


class ResNet(nnx.Module):
    """A stem, stages of basic blocks, the mean over pixels and a linear layer.

    Args:
      widths: Channels of each stage; the stem has as many as the first.
      blocks: Blocks of each stage; every stage but the first halves the image.
      classes: Outputs.
      stem_size: Height and width of the stem's kernel.
      stem_stride: 1 for the paper's CIFAR form, 2 for ImageNet's and the mini recipe.
      stem_pool: Whether the stem ends with a 3x3 max pool of stride 2 and padding 1.
      kernel_init: Initializer of every convolution; by default PyTorch's. The linear layer always has PyTorch's.
      norm_scale_init: How the batch norms' scales start, "ones" or "uniform" (U(0, 1), PyTorch's up to 1.1).
      dtype: Dtype of activations and kernels, float32 or bfloat16; by default that of the images, float32 at least.
        Parameters, batch statistics and values computed from these two stay float32.
      rngs: Source of the keys for the parameters.

    Raises:
      ValueError: If `widths` and `blocks` differ in length, or `norm_scale_init` is neither of the two.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        *,
        classes: int,
        stem_size: int = 3,
        stem_stride: int = 1,
        stem_pool: bool = False,
        kernel_init: Initializer = fan_in_uniform,
        norm_scale_init: NormScale = "ones",
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        if len(widths) != len(blocks):
            raise ValueError(f"widths and blocks must have one entry a stage, got {widths} and {blocks}.")
        self.stem = Conv(3, widths[0], stem_size, stride=stem_stride, kernel_init=kernel_init, rngs=rngs)
        self.stem_norm = BatchNorm(widths[0], scale_init=norm_scale_initializer(norm_scale_init), rngs=rngs)
        layers = []
        features = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(
                    BasicBlock(
                        features, width, stride, kernel_init=kernel_init, norm_scale_init=norm_scale_init, rngs=rngs
                    )
                )
                features = width
        self.blocks = nnx.List(layers)
        self.head = Linear(features, classes, rngs=rngs)
        self.stem_pool = stem_pool
        self.dtype = dtype

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Logits (N, classes), float32 at least, of `images` (N, H, W, 3); `key` is not used."""
        del key
        hidden = nnx.relu(self.stem_norm(self.stem(cast_input(images, self.dtype)), train=train))
        if self.stem_pool:
            hidden = max_pool(hidden, 3, 2, 1)
        for block in self.blocks:
            hidden = block(hidden, train=train)
        return self.head(mean_over_pixels(hidden))


def resnet10_mini(*, classes: int, dtype: jax.typing.DTypeLike | None = None, rngs: nnx.Rngs) -> ResNet:
    """ResNet-10 of widths 16, 32, 64, 128 with a stem of stride 2: 309,000 parameters, for a CPU core."""
    return ResNet((16, 32, 64, 128), (1, 1, 1, 1), classes=classes, stem_stride=2, dtype=dtype, rngs=rngs)


def resnet18(
    *,
    classes: int,
    norm_scale_init: NormScale = "ones",
    dtype: jax.typing.DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> ResNet:
    """ResNet-18 in the paper's CIFAR form, `ResNet18` of the authors' `models/resnet.py`: 11,173,962 parameters.

    That count is for 10 classes (11,220,132 for 100). Images of 32x32 reach the mean at 4x4. It is initialised with
    PyTorch's defaults, as in their code. For the arguments see `ResNet`.
    """
    return ResNet(
        (64, 128, 256, 512), (2, 2, 2, 2), classes=classes, norm_scale_init=norm_scale_init, dtype=dtype, rngs=rngs
    )


def imagenet_resnet18(*, classes: int, dtype: jax.typing.DTypeLike | None = None, rngs: nnx.Rngs) -> ResNet:
    """ResNet-18 in ImageNet's form, `torchvision.models.resnet18`: 11,689,512 parameters with 1,000 classes.

    It has a 7x7 stem of stride 2 and a max pool: images of 224x224 reach the mean at 7x7, those of 64x64 at 2x2. It is
    initialised as in torchvision: kernels N(0, 2/(h*w*out)), scales 1, the linear layer by PyTorch's default. For the
    arguments see `ResNet`.
    """
    return ResNet(
        (64, 128, 256, 512),
        (2, 2, 2, 2),
        classes=classes,
        stem_size=7,
        stem_stride=2,
        stem_pool=True,
        kernel_init=fan_out_normal,
        dtype=dtype,
        rngs=rngs,
    )
