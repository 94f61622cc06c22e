"""Flax NNX networks, images as NHWC. A model is called `model(images, train=...)` and knows no data set or loss."""
