"""Layers by PyTorch's conventions, and the sizes of the networks."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from padam_optax.models.layers import BatchNorm, Conv, Linear, fan_in_uniform
from padam_optax.models.resnet import ResNet, resnet10_mini
from padam_optax.models.small_cnn import SmallCNN


def ones(key, shape, dtype):
    return jnp.ones(shape, dtype)


def count(model: nnx.Module, kind: type) -> int:
    return sum(array.size for array in jax.tree.leaves(nnx.state(model, kind)))


@pytest.mark.parametrize(
    ("size", "kernel_size", "stride", "expected"),
    [
        (3, 3, 1, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
        (4, 3, 2, [[4, 6], [6, 9]]),
        (5, 3, 2, [[4, 6, 4], [6, 9, 6], [4, 6, 4]]),
        (4, 1, 2, [[1, 1], [1, 1]]),
        (2, 5, 1, [[4, 4], [4, 4]]),
    ],
)
def test_conv_pads_both_sides(size, kernel_size, stride, expected):
    """Ones on ones count the pixels that a window covers; Flax's 'SAME' covers 9 first and 4 last at stride 2."""
    conv = Conv(1, 1, kernel_size, stride=stride, kernel_init=ones, rngs=nnx.Rngs(0))
    output = jax.jit(conv.__call__)(jnp.ones((1, size, size, 1)))
    np.testing.assert_array_equal(output[0, :, :, 0], expected)


def test_conv_keeps_the_inputs_dtype():
    conv = Conv(2, 3, rngs=nnx.Rngs(0))
    assert conv.kernel[...].dtype == jnp.float32
    assert conv(jnp.ones((1, 4, 4, 2), jnp.bfloat16)).dtype == jnp.bfloat16


class TorchBatchNorm:
    """`torch.nn.BatchNorm2d` with its defaults, in NumPy and float64, channels last."""

    def __init__(self, scale: np.ndarray, bias: np.ndarray):
        self.scale, self.bias, self.mean, self.var = scale, bias, np.zeros_like(scale), np.ones_like(scale)

    def __call__(self, values: np.ndarray, train: bool) -> np.ndarray:
        mean, var = self.mean, self.var
        if train:
            mean, var = values.mean((0, 1, 2)), values.var((0, 1, 2))
            self.mean = 0.9 * self.mean + 0.1 * mean
            self.var = 0.9 * self.var + 0.1 * values.var((0, 1, 2), ddof=1)
        return (values - mean) / np.sqrt(var + 1e-5) * self.scale + self.bias


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 3e-6), (jnp.bfloat16, 2.0**-8)])
def test_batch_norm_equals_pytorchs(dtype, tolerance):
    """Two training passes and one of evaluation: outputs to the dtype's last bit, statistics to float32's."""
    random = np.random.default_rng(0)
    scale, bias = random.normal(1, 0.2, 3), random.normal(0, 0.2, 3)
    norm = BatchNorm(3, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = jnp.asarray(scale, jnp.float32), jnp.asarray(bias, jnp.float32)
    torch = TorchBatchNorm(scale, bias)
    for train in (True, True, False):
        values = jnp.asarray(random.normal([0, 5, -20], [1, 2, 0.5], (2, 3, 3, 3)), dtype)
        output = norm(values, train=train)
        expected = torch(np.asarray(values, np.float64), train)
        assert output.dtype == dtype
        np.testing.assert_allclose(np.asarray(output, np.float64), expected, rtol=tolerance, atol=10 * 3e-6)
        for running, wanted in ((norm.mean, torch.mean), (norm.var, torch.var)):
            assert running[...].dtype == jnp.float32
            np.testing.assert_allclose(running[...], wanted, rtol=1e-5, atol=1e-6)


def test_batch_norm_of_one_value_stays_finite():
    norm = BatchNorm(2, rngs=nnx.Rngs(0))
    assert jnp.isfinite(norm(jnp.ones((1, 1, 1, 2)), train=True)).all()
    assert jnp.isfinite(norm.var[...]).all()


def test_batch_norm_is_differentiated_through_its_statistics():
    """Normalised values sum to 0 and their squares to n, whatever goes in: those sums have no gradient."""
    values = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    graph, state = nnx.split(BatchNorm(3, rngs=nnx.Rngs(0)))

    def total(power, values):
        return jnp.sum(nnx.merge(graph, state, copy=True)(values, train=True) ** power)

    for power in (1, 2):
        assert jnp.abs(jax.grad(functools.partial(total, power))(values)).max() < 1e-4
    assert jnp.abs(jax.grad(functools.partial(total, 3))(values)).max() > 0.1


@pytest.mark.parametrize("shape", [(3, 3, 64, 32), (300, 40), (1, 1, 400, 20)])
def test_fan_in_uniform(shape):
    """U(-b, b) with b = 1/sqrt(fan_in): reaches both ends, mean 0, deviation b/sqrt(3)."""
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    values = np.asarray(fan_in_uniform(jax.random.key(0), shape, jnp.float32), np.float64)
    assert values.shape == shape
    assert np.abs(values).max() <= bound
    assert values.min() < -0.99 * bound
    assert values.max() > 0.99 * bound
    assert abs(values.mean()) < 4 * bound / math.sqrt(3 * values.size)
    assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)


@pytest.mark.parametrize(
    ("layer", "names", "fan_in"),
    [
        (lambda rngs: Conv(8, 16, 3, rngs=rngs), ["kernel"], 72),
        (lambda rngs: Linear(64, 500, rngs=rngs), ["kernel", "bias"], 64),
    ],
    ids=["Conv", "Linear"],
)
def test_initial_parameters(layer, names, fan_in):
    one, other = (layer(nnx.Rngs(seed)) for seed in (0, 1))
    assert set(nnx.state(one, nnx.Param)) == set(names)
    for name in names:
        values = np.asarray(getattr(one, name)[...])
        assert (np.abs(values) <= 1 / math.sqrt(fan_in)).all()
        assert np.abs(values).max() > 0.97 / math.sqrt(fan_in)
        assert (values != np.asarray(getattr(other, name)[...])).all()


def test_linear_draws_kernel_and_bias_apart():
    layer = Linear(2, 3, rngs=nnx.Rngs(0))
    assert len(np.unique(np.concatenate([layer.kernel[...].ravel(), layer.bias[...]]))) == 9


@pytest.mark.parametrize(
    ("build", "shape", "parameters", "statistics"),
    [(resnet10_mini, (32, 32, 3), 308_826, 1_440), (SmallCNN, (8, 8, 1), 38_234, 0)],
)
def test_networks(build, shape, parameters, statistics):
    model = nnx.eval_shape(lambda: build(classes=10, rngs=nnx.Rngs(0)))
    assert count(model, nnx.Param) == parameters
    assert count(model, nnx.BatchStat) == statistics
    for train in (True, False):
        logits = nnx.eval_shape(
            lambda model, images, train=train: model(images, train=train), model, jnp.ones((2, *shape))
        )
        assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)


def test_networks_layers_differ():
    """No two kernels of one shape begin alike: each is drawn from a key of its own."""
    state = nnx.state(ResNet((3,), (2,), classes=10, rngs=nnx.Rngs(0)), nnx.Param)
    kernels = [np.asarray(array) for array in jax.tree.leaves(state) if array.ndim == 4]
    assert {kernel.shape for kernel in kernels} == {(3, 3, 3, 3)}
    assert len({kernel.tobytes() for kernel in kernels}) == len(kernels) == 5


def test_resnet_wants_one_width_a_stage():
    with pytest.raises(ValueError, match=r"widths and blocks .* \(16, 32\) and \(1,\)"):
        ResNet((16, 32), (1,), classes=10, rngs=nnx.Rngs(0))


def test_resnet_halves_at_each_stage_but_the_first():
    model = nnx.eval_shape(lambda: ResNet((4, 8, 16), (1, 2, 1), classes=10, rngs=nnx.Rngs(0)))
    assert [block.conv1.stride for block in model.blocks] == [1, 2, 1, 2]
    assert [block.shortcut is None for block in model.blocks] == [True, False, True, False]
    assert model.stem.stride == 1
    assert nnx.eval_shape(lambda: resnet10_mini(classes=10, rngs=nnx.Rngs(0))).stem.stride == 2
