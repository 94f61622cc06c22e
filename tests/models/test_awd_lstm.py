"""AWD-LSTM against what the public PyTorch network computes (tests/support/data/README.md), and its dropouts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference_models
from flax import nnx
from reference_models import expected, hash_u, tensors

from padam_optax.models.awd_lstm import AwdLstm, Dropouts

VOCABULARY, EMBEDDING, HIDDEN, ROWS = 50, 12, 16, 3
TOLERANCE = 1e-8
LAYERS = {"lstm2": 2, "lstm3": 3}


def build(layers: int, **options) -> AwdLstm:
    settings = {"vocabulary": VOCABULARY, "embedding": EMBEDDING, "hidden": HIDDEN} | options
    return AwdLstm(layers=layers, rngs=nnx.Rngs(0), **settings)


def filled(network: str) -> AwdLstm:
    """With the deterministic weights, float64."""
    model = build(LAYERS[network])
    for number, (name, shape, kind) in enumerate(tensors(network), 1):
        values = hash_u(number, np.arange(math.prod(shape))).reshape(shape)
        owner, leaf = model, {"encoder.weight": "embedding", "decoder.bias": "decoder_bias"}.get(name)
        if leaf is None:
            _, layer, leaf = name.split(".")
            owner = model.layers[int(layer)]
            leaf = {"weight_ih": "kernel_input", "weight_hh": "kernel_hidden", "bias_ih": "bias_input"}.get(
                leaf.removesuffix("_l0"), "bias_hidden"
            )
            values = 2 / math.sqrt(model.sizes[int(layer)]) * values.T
        elif kind != "embedding":
            values = 0.1 * values
        setattr(owner, leaf, nnx.Param(jnp.asarray(values.astype(np.float32), jnp.float64)))
    return model


@functools.cache
def measured(network: str) -> dict[str, np.ndarray]:
    arrays = reference_models.arrays()
    tokens, targets = jnp.asarray(arrays["lstm/input_tb"]), jnp.asarray(arrays["lstm/targets_flat"])
    with jax.enable_x64(True):
        model = filled(network)
        graph, params = nnx.split(model)

        def loss(params):
            out = nnx.merge(graph, params)(tokens, model.initial_hidden(ROWS), train=False)
            logits = out.logits.reshape(-1, VOCABULARY)
            entropy = optax.losses.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
            activation = 2 * jnp.mean(out.dropped**2)
            temporal = jnp.mean((out.raw[1:] - out.raw[:-1]) ** 2)
            return entropy + activation + temporal, (out, entropy, activation, temporal)

        (total, (out, entropy, activation, temporal)), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        again = model(tokens, out.hidden, train=False)
        hidden = {
            f"{name}{layer}": state
            for layer, pair in enumerate(out.hidden)
            for name, state in zip("hc", pair, strict=True)
        }
        recurrent = gradient["layers"][0]["kernel_hidden"][...]
        return jax.tree.map(
            np.asarray,
            {
                "logits": out.logits.reshape(-1, VOCABULARY),
                "last_output_tbe": out.raw,
                "loss_ce": entropy,
                "ar": activation,
                "tar": temporal,
                "loss_total": total,
                **hidden,
                "grad_global_norm": optax.tree.norm(gradient),
                "grad_encoder_weight": gradient["embedding"][...],
                "grad_rnns0_weight_hh_norm_per_gate_ifgo": jnp.linalg.norm(
                    recurrent.reshape(HIDDEN, 4, HIDDEN), axis=(0, 2)
                ),
                "clip_factor_0p25": 0.25 / (optax.tree.norm(gradient) + 1e-6),
                "logits_second_call_carried": again.logits.reshape(-1, VOCABULARY),
                "n_params_small": sum(leaf.size for leaf in jax.tree.leaves(params)),
            },
        )


@pytest.mark.parametrize("network", LAYERS)
def test_reference(network):
    found = measured(network)
    assert len(found) == 12 + 2 * LAYERS[network]
    for name, value in found.items():
        np.testing.assert_allclose(value, expected(network, name), rtol=0, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("network", LAYERS)
def test_parameters_on_penn_treebank(network):
    model = nnx.eval_shape(lambda: build(LAYERS[network], vocabulary=10_000, embedding=400, hidden=1150))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == expected(network, "n_params_ptb") == {"lstm2": 13_632_400, "lstm3": 24_221_600}[network]


def test_initial_parameters():
    model = build(2, hidden=64)
    assert np.abs(model.embedding[...]).max() == pytest.approx(0.1, rel=0.05)
    assert (model.decoder_bias[...] == 0).all()
    for layer, size in zip(model.layers, (64, EMBEDDING), strict=True):
        for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)):
            assert 0.8 / math.sqrt(size) < np.abs(leaf).max() <= 1 / math.sqrt(size)


@pytest.mark.parametrize("length", [1, 4, 7])
def test_steps_beyond_the_length_do_not_count(length):
    """The state is that after the shorter text, and neither it nor the outputs before depend on what follows."""
    model = build(2)
    tokens = jax.random.randint(jax.random.key(1), (7, ROWS), 0, VOCABULARY)
    hidden = model.initial_hidden(ROWS)
    padded = model(tokens, hidden, train=False, length=length)
    short = model(tokens[:length], hidden, train=False)
    np.testing.assert_allclose(padded.logits[:length], short.logits, rtol=1e-5, atol=1e-6)
    for one, other in zip(jax.tree.leaves(padded.hidden), jax.tree.leaves(short.hidden), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def output(dropouts: Dropouts, key: int = 0, train: bool = True):
    model = build(2, dropouts=dropouts)
    tokens = jnp.tile(jnp.arange(7)[:, None], (1, ROWS))
    return model(tokens, model.initial_hidden(ROWS), train=train, key=jax.random.key(key))


NONE = Dropouts(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("name", ["words", "input", "between", "output", "weights"])
def test_each_dropout_acts_in_training_only(name):
    dropouts = Dropouts(**{**vars(NONE), name: 0.5})
    plain = output(NONE)
    assert (output(dropouts).logits != plain.logits).any()
    assert (output(dropouts, 1).logits != output(dropouts, 0).logits).any()
    np.testing.assert_array_equal(output(dropouts, train=False).logits, plain.logits)


def test_output_dropout_is_one_mask_for_all_steps():
    """Kept entries are doubled, the others 0, at every step alike; the raw output is untouched."""
    out = output(Dropouts(**{**vars(NONE), "output": 0.5}))
    ratio = np.asarray(out.dropped / out.raw)
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-5)
    assert set(np.unique(ratio.round(4))) == {0.0, 2.0}
    np.testing.assert_array_equal(out.raw, output(NONE).raw)


def test_training_needs_a_key():
    model = build(2)
    with pytest.raises(ValueError, match="needs a key"):
        model(jnp.zeros((2, ROWS), int), model.initial_hidden(ROWS), train=True)
