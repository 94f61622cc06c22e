"""Padam in a Flax NNX, a Flax Linen and a plain JAX loop: each learns the digits, and the three are one run."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import padam_optax
from padam_optax.data.digits import read_digits

WIDTHS = (64, 32, 10)
BATCH = 100
EPOCHS = 20
TOLERANCE = 1e-10


def make_optimizer() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), padam_optax.padam(0.1, p=1 / 8, weight_decay=5e-4))


def mean_loss(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@functools.cache
def digits():
    """Training and test set, pixels in [0, 1] as float64, and the indices of every batch."""
    data = read_digits()
    train, test = (
        (part.images.reshape(len(part.images), -1) / 16, np.asarray(part.labels)) for part in (data.train, data.test)
    )
    generator = np.random.default_rng(0)
    order = np.concatenate([generator.permutation(len(train[0])) for _ in range(EPOCHS)])
    return train, test, order.reshape(-1, BATCH)


def initial_layers() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(1)
    return [
        {"kernel": generator.normal(size=(i, o)) * np.sqrt(2 / i), "bias": np.zeros(o)}
        for i, o in itertools.pairwise(WIDTHS)
    ]


def batches():
    (images, labels), _, order = digits()
    return [(jnp.asarray(images[index]), jnp.asarray(labels[index])) for index in order]


def plain_loop():
    optimizer = make_optimizer()
    params = jax.tree.map(jnp.asarray, initial_layers())
    state = optimizer.init(params)

    def apply(params, images):
        first, last = params
        return jax.nn.relu(images @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]

    @jax.jit
    def step(params, state, images, labels):
        gradients = jax.grad(lambda params: mean_loss(apply(params, images), labels))(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for images, labels in batches():
        params, state = step(params, state, images, labels)
    return params, functools.partial(apply, params)


class Mlp(nn.Module):
    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(WIDTHS[1], param_dtype=jnp.float64)(images))
        return nn.Dense(WIDTHS[2], param_dtype=jnp.float64)(hidden)


def linen_loop():
    optimizer = make_optimizer()
    model = Mlp()
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, WIDTHS[0])))
    names = ("Dense_0", "Dense_1")
    variables = {"params": dict(zip(names, jax.tree.map(jnp.asarray, initial_layers()), strict=True))}
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    state = optimizer.init(variables)

    @jax.jit
    def step(variables, state, images, labels):
        gradients = jax.grad(lambda variables: mean_loss(model.apply(variables, images), labels))(variables)
        updates, state = optimizer.update(gradients, state, variables)
        return optax.apply_updates(variables, updates), state

    for images, labels in batches():
        variables, state = step(variables, state, images, labels)
    return [variables["params"][name] for name in names], functools.partial(model.apply, variables)


class NnxMlp(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(*WIDTHS[:2], param_dtype=jnp.float64, rngs=rngs)
        self.last = nnx.Linear(*WIDTHS[1:], param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, images):
        return self.last(nnx.relu(self.first(images)))


def nnx_loop():
    model = NnxMlp(nnx.Rngs(0))
    layers = (model.first, model.last)
    for layer, values in zip(layers, initial_layers(), strict=True):
        layer.kernel[...], layer.bias[...] = values["kernel"], values["bias"]
    optimizer = nnx.Optimizer(model, make_optimizer(), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, images, labels):
        gradients = nnx.grad(lambda model: mean_loss(model(images), labels))(model)
        optimizer.update(model, gradients)

    for images, labels in batches():
        step(model, optimizer, images, labels)
    return [{"kernel": layer.kernel[...], "bias": layer.bias[...]} for layer in layers], model


LOOPS = {"plain": plain_loop, "linen": linen_loop, "nnx": nnx_loop}


@functools.cache
def run(name: str) -> tuple[list[np.ndarray], float]:
    """Parameters after the training, in float64, and the accuracy on the test set."""
    with jax.enable_x64(True):
        params, predict = LOOPS[name]()
        _, (images, labels), _ = digits()
        accuracy = float((predict(jnp.asarray(images)).argmax(-1) == labels).mean())
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    assert all(leaf.dtype == np.float64 for leaf in leaves)
    return leaves, accuracy


@pytest.mark.parametrize("name", LOOPS)
def test_learns_the_digits(name):
    _, accuracy = run(name)
    assert accuracy > 0.9


@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_equals_the_plain_loop(name):
    """After 200 steps from equal parameters."""
    (leaves, _), (expected, _) = run(name), run("plain")
    for leaf, wanted in zip(leaves, expected, strict=True):
        np.testing.assert_allclose(leaf, wanted, rtol=0, atol=TOLERANCE)
