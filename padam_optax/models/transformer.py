"""A small decoder-only transformer, today's usual language model: pre-norm, its embedding shared with the output."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from padam_optax.models.layers import dropout


class TransformerOutput(NamedTuple):
    """The result of a pass over T steps of B rows.

    Attributes:
      logits: (T, B, vocabulary).
      raw: The last block's output after the final norm, (T, B, features).
      dropped: The same as `raw`; there is no dropout after it.
      hidden: Empty, because nothing is carried from one window to the next.
    """

    logits: jax.Array
    raw: jax.Array
    dropped: jax.Array
    hidden: tuple[()] = ()


class Block(nnx.Module):
    """`x + attention(norm(x))`, then `x + mlp(norm(x))`, the MLP four times as wide with GELU."""

    def __init__(self, features: int, heads: int, *, dtype: DTypeLike | None, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, dtype=dtype, kernel_init=nnx.initializers.normal(0.02), rngs=rngs)
        self.heads = heads
        self.attention_norm = nnx.LayerNorm(features, rngs=rngs)
        self.projection_in = linear(features, 3 * features)
        self.projection_out = linear(features, features)
        self.mlp_norm = nnx.LayerNorm(features, rngs=rngs)
        self.mlp_in = linear(features, 4 * features)
        self.mlp_out = linear(4 * features, features)

    def __call__(self, values: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
        """Maps (B, T, features) to the same shape; with a key, each branch has dropout of this `rate`."""
        rows, steps, features = values.shape
        heads = (rows, steps, self.heads, features // self.heads)
        query, value_key, value = (
            part.reshape(heads) for part in jnp.split(self.projection_in(self.attention_norm(values)), 3, axis=-1)
        )
        attended = jax.nn.dot_product_attention(query, value_key, value, is_causal=True)
        branch = self.projection_out(attended.reshape(values.shape))
        values = values + self._dropped(branch, rate, key, 0)
        branch = self.mlp_out(jax.nn.gelu(self.mlp_in(self.mlp_norm(values))))
        return values + self._dropped(branch, rate, key, 1)

    def _dropped(self, branch: jax.Array, rate: float, key: jax.Array | None, index: int) -> jax.Array:
        return branch if key is None or not rate else dropout(branch, rate, jax.random.fold_in(key, index))


class Transformer(nnx.Module):
    r"""Decoder-only transformer.

    .. math::

      x_0 = E[w] + P, \quad x' = x + \mathrm{Attention}(\mathrm{norm}(x)), \quad
      x'' = x' + W_2\, \mathrm{gelu}(W_1\, \mathrm{norm}(x')), \quad \mathrm{logits} = \mathrm{norm}(x_L) E^\top

    It has causal attention of several heads and learnt positions P. With F features, L layers, V words and C positions
    it has :math:`(V + C) F + L (12 F^2 + 13 F) + 2 F` parameters.

    Args:
      vocabulary: Number of words V.
      features: Size F of the embedding and of the blocks.
      heads: Heads of attention; they divide the features.
      layers: Number of blocks L.
      context: Positions C: the longest window that it can read.
      dropout: Rate on the embedded input and on each branch, in training.
      dtype: Dtype of matrix products; by default that of the parameters.
      rngs: Source of the keys for the parameters: matrices and embeddings N(0, 0.02^2), biases 0, scales 1.

    Raises:
      ValueError: If the heads do not divide the features.

    References:
      Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017; pre-norm as in Radford et
      al., "Language Models are Unsupervised Multitask Learners", 2019.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        features: int = 64,
        heads: int = 4,
        layers: int = 2,
        context: int = 70,
        dropout: float = 0.0,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        if features % heads:
            raise ValueError(f"heads must divide the features; got {heads} heads of {features} features.")
        embed = functools.partial(nnx.Embed, embedding_init=nnx.initializers.normal(0.02), dtype=dtype, rngs=rngs)
        self.embedding = embed(vocabulary, features)
        self.positions = embed(context, features)
        self.blocks = nnx.List([Block(features, heads, dtype=dtype, rngs=rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(features, rngs=rngs)
        self.rate = dropout

    def initial_hidden(self, rows: int) -> tuple[()]:
        """An empty tuple: each window is read by itself."""
        del rows
        return ()

    def __call__(
        self,
        tokens: jax.Array,
        hidden: tuple[()] = (),
        *,
        train: bool,
        key: jax.Array | None = None,
        length: jax.Array | int | None = None,
    ) -> TransformerOutput:
        """Reads `tokens` (T, B), int32, T at most the context.

        Args:
          tokens: Word numbers.
          hidden: Empty.
          train: Whether dropout is active.
          key: Random key for the dropout.
          length: Number of steps that count. It changes no output before it, because no output depends on a later step.

        Raises:
          ValueError: If the window is longer than the context, or `train` is true with dropout and without a key.
        """
        del hidden, length
        steps = tokens.shape[0]
        context = self.positions.num_embeddings
        if steps > context:
            raise ValueError(f"This transformer reads windows of {context} steps at most; got {steps}.")
        if train and self.rate and key is None:
            raise ValueError("Transformer needs a key in training, because its dropout draws from it.")
        keys = [None] * (1 + len(self.blocks))
        if train and self.rate and key is not None:
            keys = list(jax.random.split(key, 1 + len(self.blocks)))
        values = self.embedding(tokens.T) + self.positions(jnp.arange(steps))
        if keys[0] is not None:
            values = dropout(values, self.rate, keys[0])
        for block, block_key in zip(self.blocks, keys[1:], strict=True):
            values = block(values, self.rate, block_key)
        values = self.norm(values)
        logits = self.embedding.attend(values).astype(jnp.float32)
        values = values.swapaxes(0, 1)
        return TransformerOutput(logits.swapaxes(0, 1), values, values)
