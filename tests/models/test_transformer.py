"""The small transformer: its size, its equations in NumPy, what it may see, and that it lowers for accelerators."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import padam_optax
from padam_optax.experiments import find
from padam_optax.models.transformer import Transformer
from padam_optax.runner.programs import build_model

VOCABULARY, FEATURES, HEADS, LAYERS, CONTEXT = 11, 8, 2, 2, 6


def network(**options) -> Transformer:
    sizes = {"vocabulary": VOCABULARY, "features": FEATURES, "heads": HEADS, "layers": LAYERS, "context": CONTEXT}
    return Transformer(**(sizes | options), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def tokens() -> jax.Array:
    """Of five steps and three rows."""
    return jax.random.randint(jax.random.key(1), (5, 3), 0, VOCABULARY)


def parameters(model: nnx.Module) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def test_size():
    """(V + C) F + L (12 F^2 + 13 F) + 2 F, of the recipe and of a small one."""
    formula = (VOCABULARY + CONTEXT) * FEATURES + LAYERS * (12 * FEATURES**2 + 13 * FEATURES) + 2 * FEATURES
    assert parameters(network()) == formula
    recipe = nnx.eval_shape(lambda: build_model(find("ptb-transformer-mini-padam"), 2_000, nnx.Rngs(0)))
    assert parameters(recipe) == 232_576 == 2_070 * 64 + 2 * (12 * 64**2 + 13 * 64) + 128


def layer_norm(x, module):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * module.scale[...] + module.bias[...]


def linear(x, module):
    return x @ np.asarray(module.kernel[...], np.float64) + np.asarray(module.bias[...], np.float64)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def test_the_equations(tokens):
    """Position by position and head by head in NumPy."""
    model = network()
    embedding = np.asarray(model.embedding.embedding[...], np.float64)
    steps, size = tokens.shape[0], FEATURES // HEADS
    for row in range(tokens.shape[1]):
        x = embedding[np.asarray(tokens[:, row])] + np.asarray(model.positions.embedding[...], np.float64)[:steps]
        for block in model.blocks:
            query, key, value = np.split(linear(layer_norm(x, block.attention_norm), block.projection_in), 3, axis=-1)
            attended = np.zeros_like(x)
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                for step in range(steps):
                    scores = key[: step + 1, part] @ query[step, part] / math.sqrt(size)
                    weights = np.exp(scores - scores.max())
                    attended[step, part] = weights / weights.sum() @ value[: step + 1, part]
            x = x + linear(attended, block.projection_out)
            x = x + linear(gelu(linear(layer_norm(x, block.mlp_norm), block.mlp_in)), block.mlp_out)
        logits = layer_norm(x, model.norm) @ embedding.T
        np.testing.assert_allclose(model(tokens, train=False).logits[:, row], logits, rtol=2e-4, atol=2e-6)


def test_no_step_sees_a_later_one(tokens):
    model = network()
    changed = tokens.at[3].set((tokens[3] + 1) % VOCABULARY)
    before, after = (np.asarray(model(each, train=False).logits) for each in (tokens, changed))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert np.abs(before[3:] - after[3:]).max(axis=(1, 2)).min() > 1e-4


def test_dropout_is_drawn_from_the_key(tokens):
    model = network(dropout=0.5)
    one, same, other = (model(tokens, train=True, key=jax.random.key(seed)).logits for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    still = network()(tokens, train=True).logits
    np.testing.assert_array_equal(model(tokens, train=False).logits, still)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tokens: network(heads=3), "heads must divide the features; got 3 heads of 8 features"),
        (lambda tokens: network(context=4)(tokens, train=False), "windows of 4 steps at most; got 5"),
        (lambda tokens: network(dropout=0.1)(tokens, train=True), "needs a key in training"),
    ],
)
def test_what_it_does_not_take(tokens, call, message):
    with pytest.raises(ValueError, match=message):
        call(tokens)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_a_step_lowers_for_accelerators(tokens, platform):
    """In bfloat16, with the decoupled decay and a rate in Adam's units; parameters and state stay float32."""
    model, rest = nnx.split(network(dtype=jnp.bfloat16))
    optimizer = padam_optax.padamw(1e-3, p=1 / 8, reference_p=1 / 2)

    def step(params, state, tokens):
        def loss(params):
            logits = nnx.merge(model, params)(tokens[:-1], train=True).logits
            return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[1:]).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    state = jax.eval_shape(optimizer.init, rest)
    exported = jax.export.export(jax.jit(step), platforms=[platform])(rest, state, tokens)
    assert exported.platforms == (platform,)
    assert [aval.dtype for aval in exported.out_avals[: len(jax.tree.leaves(rest))]] == [jnp.float32] * len(
        jax.tree.leaves(rest)
    )
    assert "bf16" in exported.mlir_module()
