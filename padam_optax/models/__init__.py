"""Flax NNX networks, images as NHWC, called `model(images, train=..., key=...)`. They know no data set or loss."""
