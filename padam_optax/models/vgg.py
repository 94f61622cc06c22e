"""VGG-16 with batch norm (Simonyan and Zisserman, 2015), for CIFAR and for ImageNet."""

import jax
from flax import nnx

from padam_optax.models.layers import (
    BatchNorm,
    Conv,
    Initializer,
    Linear,
    NormScale,
    cast_input,
    dropout,
    fan_in_uniform,
    fan_out_normal,
    norm_scale_initializer,
)
from padam_optax.models.pooling import adaptive_average_pool, max_pool

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # Width and convolutions; a max pool ends each.


class ConvNorm(nnx.Module):
    """A 3x3 convolution with bias, a batch norm and a ReLU."""

    def __init__(
        self,
        in_features: int,
        features: int,
        *,
        kernel_init: Initializer,
        bias_init: Initializer | None,
        norm_scale_init: NormScale,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(in_features, features, use_bias=True, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs)
        self.norm = BatchNorm(features, scale_init=norm_scale_initializer(norm_scale_init), rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return nnx.relu(self.norm(self.conv(images), train=train))


class VGGFeatures(nnx.Module):
    """Thirteen convolutions in five stages, each ended by a 2x2 max pool: (N, H, W, 3) to (N, H/32, W/32, 512).

    Args:
      kernel_init: Initializer of the kernels; by default PyTorch's.
      bias_init: Initializer of the convolutions' biases; by default PyTorch's.
      norm_scale_init: How the batch norms' scales start, "ones" or "uniform" (U(0, 1), PyTorch's up to 1.1).
      rngs: Source of the keys for the parameters.

    Raises:
      ValueError: If `norm_scale_init` is neither of the two.
    """

    def __init__(
        self,
        *,
        kernel_init: Initializer = fan_in_uniform,
        bias_init: Initializer | None = None,
        norm_scale_init: NormScale = "ones",
        rngs: nnx.Rngs,
    ):
        stages = []
        features = 3
        for width, convolutions in _STAGES:
            layers = []
            for _ in range(convolutions):
                layers.append(
                    ConvNorm(
                        features,
                        width,
                        kernel_init=kernel_init,
                        bias_init=bias_init,
                        norm_scale_init=norm_scale_init,
                        rngs=rngs,
                    )
                )
                features = width
            stages.append(nnx.List(layers))
        self.stages = nnx.List(stages)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        for stage in self.stages:
            for layer in stage:
                images = layer(images, train=train)
            images = max_pool(images, 2, 2)
        return images


class VGG(nnx.Module):
    """The CIFAR form: `VGGFeatures`, which reduces 32x32 images to one pixel, and one linear layer.

    Args:
      classes: Outputs.
      norm_scale_init: How the batch norms' scales start, "ones" or "uniform" (U(0, 1), PyTorch's up to 1.1).
      dtype: Dtype of activations and kernels, float32 or bfloat16; by default that of the images, float32 at least.
        Parameters, batch statistics and values computed from these two stay float32.
      rngs: Source of the keys for the parameters.

    Raises:
      ValueError: If `norm_scale_init` is neither of the two.
    """

    def __init__(
        self,
        *,
        classes: int,
        norm_scale_init: NormScale = "ones",
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.features = VGGFeatures(norm_scale_init=norm_scale_init, rngs=rngs)
        self.head = Linear(_STAGES[-1][0], classes, rngs=rngs)
        self.dtype = dtype

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Logits (N, classes), float32 at least, of `images` (N, 32, 32, 3); `key` is not used.

        Raises:
          ValueError: If the images are not reduced to one pixel.
        """
        del key
        hidden = self.features(cast_input(images, self.dtype), train=train)
        if hidden.shape[1:3] != (1, 1):
            raise ValueError(f"images must be (N, 32, 32, 3) for VGG's CIFAR form, got {images.shape}.")
        hidden = hidden[:, 0, 0]
        return self.head(hidden)


class ImageNetVGG(nnx.Module):
    """ImageNet's form: `VGGFeatures`, an adaptive average pool to 7x7, and three linear layers with dropout.

    Args:
      classes: Outputs.
      hidden_features: Size of both hidden layers.
      dropout_rate: Rate of dropout in both hidden layers.
      dtype: Dtype of activations and kernels, as for `VGG`.
      rngs: Source of the keys for the parameters.
    """

    def __init__(
        self,
        *,
        classes: int,
        hidden_features: int = 4096,
        dropout_rate: float = 0.5,
        dtype: jax.typing.DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        def linear(in_features: int, out_features: int, dtype: jax.typing.DTypeLike | None = None) -> Linear:
            return Linear(
                in_features,
                out_features,
                kernel_init=nnx.initializers.normal(0.01),
                bias_init=nnx.initializers.zeros,
                dtype=dtype,
                rngs=rngs,
            )

        self.features = VGGFeatures(kernel_init=fan_out_normal, bias_init=nnx.initializers.zeros, rngs=rngs)
        self.hidden1 = linear(7 * 7 * _STAGES[-1][0], hidden_features, dtype)
        self.hidden2 = linear(hidden_features, hidden_features, dtype)
        self.head = linear(hidden_features, classes)
        self.dropout_rate = dropout_rate
        self.dtype = dtype

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        """Logits (N, classes), float32 at least, of `images` (N, H, W, 3), H and W 32 or more.

        The first linear layer reads pixels row by row, channels innermost (PyTorch's: channels outermost).

        Raises:
          ValueError: If `train` is true and there is no `key` for the dropout.
        """
        hidden = adaptive_average_pool(self.features(cast_input(images, self.dtype), train=train), 7)
        hidden = nnx.relu(self.hidden1(hidden.reshape(hidden.shape[0], -1)))
        if not train:
            return self.head(nnx.relu(self.hidden2(hidden)))
        if key is None:
            raise ValueError(
                "key must be a jax.random key if train is true, because the dropout draws from it; got None."
            )
        first, second = jax.random.split(key)
        hidden = dropout(hidden, self.dropout_rate, first)
        return self.head(dropout(nnx.relu(self.hidden2(hidden)), self.dropout_rate, second))


def vgg16(
    *,
    classes: int,
    norm_scale_init: NormScale = "ones",
    dtype: jax.typing.DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> VGG:
    """VGG-16 in the paper's CIFAR form, `VGG('VGG16')` of the authors' `models/vgg.py`: 14,728,266 parameters.

    That count is for 10 classes (14,774,436 for 100). Their code has one linear layer where the paper's text has two.
    It is initialised with PyTorch's defaults, as in their code. For the arguments see `VGG`.
    """
    return VGG(classes=classes, norm_scale_init=norm_scale_init, dtype=dtype, rngs=rngs)


def imagenet_vgg16_bn(*, classes: int, dtype: jax.typing.DTypeLike | None = None, rngs: nnx.Rngs) -> ImageNetVGG:
    """VGG-16 in ImageNet's form, `torchvision.models.vgg16_bn`: 138,365,992 parameters with 1,000 classes.

    It is initialised as in torchvision: convolutions N(0, 2/(h*w*out)), linear layers N(0, 0.01^2), biases 0, scales 1.
    Training needs a key. For the arguments see `ImageNetVGG`.
    """
    return ImageNetVGG(classes=classes, dtype=dtype, rngs=rngs)
