"""Wide residual networks as in the authors' code: post-activation blocks, and a stem as wide as the first stage."""

import jax
from flax import nnx

from padam_optax.models.layers import fan_out_normal
from padam_optax.models.resnet import ResNet


def wrn16_4(*, classes: int, dtype: jax.typing.DTypeLike | None = None, rngs: nnx.Rngs) -> ResNet:
    """WRN-16-4, `WideResNet(16, 4)` of the authors' `models/wideresnet.py`: 2,777,674 parameters with 10 classes.

    It has 2,800,804 parameters with 100 classes, and three stages of two basic blocks, 64, 128 and 256 wide. It is a
    `ResNet`, unlike the network of Zagoruyko and Komodakis (2016), whose blocks normalise before they convolve. The
    stem has 64 channels rather than 16, so the first stage projects nothing. There is no dropout, and no norm before
    the mean. It is initialised as in the authors' code: kernels N(0, 2/(h*w*out)), scales 1, the linear layer by
    PyTorch's default.

    Args:
      classes: Outputs.
      dtype: Dtype of activations and kernels, as for `ResNet`.
      rngs: Source of the keys for the parameters.
    """
    return ResNet((64, 128, 256), (2, 2, 2), classes=classes, kernel_init=fan_out_normal, dtype=dtype, rngs=rngs)
