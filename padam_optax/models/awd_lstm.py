"""AWD-LSTM (Merity et al., 2018), the language model that the paper's perplexities suggest.

The paper names only "LSTM". Its 61.5 and 58.5 on Penn Treebank are values of this network; a plain LSTM ends near 80.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from padam_optax.models.recurrence import lstm_recurrence

Hidden = tuple[tuple[jax.Array, jax.Array], ...]


@dataclasses.dataclass(frozen=True)
class Dropouts:
    """Rates of AWD-LSTM's five dropouts, each drawn once a forward pass.

    Attributes:
      words: Rate for whole words of the embedding.
      input: Rate for the embedded input; one mask serves all time steps, as for the next two.
      between: Rate for the output of every layer but the last.
      output: Rate for the last layer's output.
      weights: Rate for single entries of the hidden-to-hidden matrices (DropConnect).
    """

    words: float = 0.1
    input: float = 0.4
    between: float = 0.25
    output: float = 0.4
    weights: float = 0.5


class LstmOutput(NamedTuple):
    """The result of a pass over T steps of B rows.

    Attributes:
      logits: (T, B, vocabulary).
      raw: Output of the last layer, (T, B, embedding).
      dropped: The same after the output dropout.
      hidden: State after the last counted step, a pair (h, c) of (B, size) a layer.
    """

    logits: jax.Array
    raw: jax.Array
    dropped: jax.Array
    hidden: Hidden


class LstmLayer(nnx.Module):
    """An LSTM layer with PyTorch's two biases and gate order (input, forget, cell, output).

    Both biases are trained: a single bias would have another gradient norm, and clipping would act on it differently.
    """

    def __init__(self, in_features: int, features: int, *, dtype: DTypeLike | None = None, rngs: nnx.Rngs):
        self.dtype = dtype
        bound = 1 / math.sqrt(features)

        def uniform(*shape: int) -> nnx.Param[jax.Array]:
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound))

        self.kernel_input = uniform(in_features, 4 * features)
        self.kernel_hidden = uniform(features, 4 * features)
        self.bias_input = uniform(4 * features)
        self.bias_hidden = uniform(4 * features)

    def __call__(
        self,
        inputs: jax.Array,
        hidden: tuple[jax.Array, jax.Array],
        length: jax.Array | int,
        weight_mask: jax.Array | float = 1.0,
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        """Outputs (T, B, features) for `inputs` (T, B, in_features), and the state after `length` steps."""
        dtype = self.dtype or inputs.dtype
        projected = jnp.matmul(
            inputs.astype(dtype), self.kernel_input[...].astype(dtype), preferred_element_type=inputs.dtype
        )
        gates_input = projected + self.bias_input[...] + self.bias_hidden[...]
        recurrent = (self.kernel_hidden[...] * weight_mask).astype(dtype)
        return lstm_recurrence(gates_input, recurrent, hidden, jnp.asarray(length, jnp.int32))


class AwdLstm(nnx.Module):
    """Embedding, LSTM layers and a decoder that shares the embedding's matrix.

    Args:
      vocabulary: Number of words.
      embedding: Size of the embedding, and of the last layer.
      hidden: Size of the other layers.
      layers: Number of LSTM layers.
      dropouts: Rates in training.
      dtype: Dtype of matrix products; by default that of the parameters. States and sums keep the parameters' dtype.
      rngs: Source of the keys for the parameters: the embedding U(-0.1, 0.1), the decoder's bias 0, the layers
        U(+-1/sqrt(size)).
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        embedding: int,
        hidden: int,
        layers: int,
        dropouts: Dropouts = Dropouts(),
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        self.embedding = nnx.Param(jax.random.uniform(rngs.params(), (vocabulary, embedding), jnp.float32, -0.1, 0.1))
        self.decoder_bias = nnx.Param(jnp.zeros((vocabulary,)))
        self.sizes = (*(hidden for _ in range(layers - 1)), embedding)
        inputs = (embedding, *self.sizes[:-1])
        self.layers = nnx.List(
            [LstmLayer(size_in, size, dtype=dtype, rngs=rngs) for size_in, size in zip(inputs, self.sizes, strict=True)]
        )
        self.dtype = dtype
        self.dropouts = dropouts

    def initial_hidden(self, rows: int) -> Hidden:
        """Zeros for `rows` rows."""
        dtype = self.embedding[...].dtype
        return tuple((jnp.zeros((rows, size), dtype), jnp.zeros((rows, size), dtype)) for size in self.sizes)

    def __call__(
        self,
        tokens: jax.Array,
        hidden: Hidden,
        *,
        train: bool,
        key: jax.Array | None = None,
        length: jax.Array | int | None = None,
    ) -> LstmOutput:
        """Runs over `tokens` (T, B), int32.

        Args:
          tokens: Word numbers.
          hidden: The state before the first step.
          train: Whether dropouts are on.
          key: Random key for the dropouts.
          length: Number of steps that count, at most T. The returned state is the one after them; later outputs mean
            nothing.

        Raises:
          ValueError: If `train` is true and there is no key.
        """
        if train and key is None:
            raise ValueError("AwdLstm needs a key in training, because its dropouts draw from it.")
        keys = iter(jax.random.split(jax.random.key(0) if key is None else key, 3 + 2 * len(self.layers)))
        length = tokens.shape[0] if length is None else length
        rows = tokens.shape[1]

        def mask(shape: tuple[int, ...], rate: float) -> jax.Array | float:
            """Zeros with probability `rate`, the rest scaled so that the mean stays."""
            drawn = next(keys)
            if not train or rate == 0:
                return 1.0
            return jax.random.bernoulli(drawn, 1 - rate, shape) / jnp.asarray(1 - rate, self.embedding[...].dtype)

        embedding = self.embedding[...]
        values = (embedding * mask((embedding.shape[0], 1), self.dropouts.words))[tokens]
        values = values * mask((1, rows, embedding.shape[1]), self.dropouts.input)
        states: list[tuple[jax.Array, jax.Array]] = []
        raw = values
        for index, (layer, state) in enumerate(zip(self.layers, hidden, strict=True)):
            weight_mask = mask(layer.kernel_hidden[...].shape, self.dropouts.weights)
            raw, state = layer(values, state, length, weight_mask)
            states.append(state)
            last = index == len(self.layers) - 1
            values = raw * mask((1, rows, raw.shape[-1]), self.dropouts.output if last else self.dropouts.between)
        dtype = self.dtype or values.dtype
        scores = jnp.matmul(values.astype(dtype), embedding.T.astype(dtype), preferred_element_type=values.dtype)
        logits = scores + self.decoder_bias[...]
        return LstmOutput(logits, raw, values, tuple(states))


def awd_lstm(
    *,
    vocabulary: int,
    layers: int,
    embedding: int,
    hidden: int,
    word_dropout: float = 0.0,
    input_dropout: float = 0.0,
    between_dropout: float = 0.0,
    output_dropout: float = 0.0,
    weight_dropout: float = 0.0,
    dtype: DTypeLike | None = None,
    rngs: nnx.Rngs,
) -> AwdLstm:
    """`AwdLstm` with each rate of `Dropouts` as an argument of its own."""
    dropouts = Dropouts(word_dropout, input_dropout, between_dropout, output_dropout, weight_dropout)
    return AwdLstm(
        vocabulary=vocabulary,
        embedding=embedding,
        hidden=hidden,
        layers=layers,
        dropouts=dropouts,
        dtype=dtype,
        rngs=rngs,
    )
