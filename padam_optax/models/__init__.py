"""Flax NNX networks, called as `model(images, train=..., key=...)` on NHWC images. They know no data set or loss."""

import importlib.util

if importlib.util.find_spec("flax") is None:
    raise ImportError('The networks need Flax: pip install "padam_optax[experiments]".')
