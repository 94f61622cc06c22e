"""The tail of the classes on a text: a small transformer predicts words whose frequencies are k^-a.

    python benchmarks/studies/tail_text.py --data-dir DIR [--out FILE] [--picture PNG] [--smoke]

`tail.py` turns the tail of images' classes; here the classes are the words of a vocabulary, as in Kunstner et al.
(https://arxiv.org/abs/2402.19449). The text is the first 100,000 training tokens of Penn Treebank with its 1,000 most
frequent words. An example is a word to predict and the 8 words before it. Of the k-th most frequent word of the text so
many examples are kept that its share of all 4,096 is proportional to k^-a; which ones is drawn with the seed. At a = 0
each word has 4 or 5 examples; at a = 1.5 the first has 39%, 176 words have one and 711 none.

A decoder-only transformer (two blocks of 32 features, 4 heads, no dropout) is trained for 800 steps of 64 examples
with Padam at p from 0 to 1/2, gradients clipped to a norm of 1 as in `ptb-transformer-mini`. All else is as in
`tail.py`: `reference_p=1/2`, one grid of rates for all p, two seeds choose, five others are reported, the score is the
train loss, of all examples and of the frequent and the rare words, which have the first and the second half of them (at
a = 1.5 the first word alone is frequent). About 25 minutes on one CPU core.
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import fitting
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tail
from fitting import cosine
from flax import nnx
from measuring import study_arguments

import padam_optax
from padam_optax.data.ptb import read_text, restrict_text
from padam_optax.models.transformer import Transformer

TAILS = (0.0, 0.5, 1.0, 1.5)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
TOKENS, VOCABULARY, CONTEXT = 100_000, 1_000, 8
EXAMPLES, BATCH, STEPS = 4_096, 64, 800
SIZES = {"features": 32, "heads": 4, "layers": 2}


def examples(text: np.ndarray, vocabulary: int, power: float, total: int, seed: int) -> tail.Examples:
    """Windows of words, (total, CONTEXT), and the word after each, whose frequencies have the power.

    Args:
      text: Word numbers, (tokens,).
      vocabulary: How many words there are.
      power: The tail a.
      total: Examples.
      seed: Draws which of a word's places are kept.

    Raises:
      ValueError: If the text has a word too seldom.
    """
    draw = np.random.default_rng(seed)
    places: list[list[int]] = [[] for _ in range(vocabulary)]
    for place in range(CONTEXT, len(text)):
        places[text[place]].append(place)
    words = sorted(range(vocabulary), key=lambda word: -len(places[word]))
    number = tail.counts(vocabulary, power, total)
    kept = []
    for word, wanted in zip(words, number, strict=True):
        if wanted > len(places[word]):
            raise ValueError(f"word {word} occurs {len(places[word])} times; {wanted} examples of it are needed.")
        kept.append(draw.choice(places[word], wanted, replace=False))
    chosen = np.concatenate(kept).astype(int)
    ranks = np.repeat(np.arange(vocabulary), number)
    rare = np.cumsum(number)[ranks] > total // 2
    windows = text[chosen[:, None] + np.arange(-CONTEXT, 0)]
    return tail.Examples(jnp.asarray(windows, jnp.int32), jnp.asarray(text[chosen], jnp.int32), jnp.asarray(rare))


def losses(model: Transformer, data: tail.Examples) -> jax.Array:
    """Cross-entropy of the word after each window, (N,)."""
    last = model(data.inputs.T, train=False).raw[-1]
    return optax.softmax_cross_entropy_with_integer_labels(model.embedding.attend(last), data.labels)


@functools.partial(jax.jit, static_argnames=("vocabulary", "steps"))
def train(
    setting: Mapping[str, jax.Array], seed: jax.Array, data: tail.Examples, vocabulary: int, steps: int
) -> dict[str, jax.Array]:
    """One training: the mean train loss at its end."""
    init_key, step_key = jax.random.split(jax.random.key(seed))
    model = Transformer(vocabulary=vocabulary, context=CONTEXT, rngs=nnx.Rngs(init_key), **SIZES)
    graph, params = nnx.split(model, nnx.Param)
    schedule = cosine(setting["learning_rate"], steps)
    tx = optax.chain(optax.clip_by_global_norm(1.0), padam_optax.padam(schedule, p=setting["p"], reference_p=0.5))

    def loss(params: Any, data: tail.Examples) -> jax.Array:
        return losses(nnx.merge(graph, params), data).mean()

    params, _ = fitting.fit(params, tx, loss, data, step_key, steps=steps, batch=BATCH)
    model = nnx.merge(graph, params)
    found = jax.lax.map(lambda part: losses(model, part), _parts(data)).ravel()
    return tail.by_part(found, data.rare)


def _parts(data: tail.Examples) -> tail.Examples:
    """The examples by the batch, so that the loss of all of them needs no more memory than a step."""
    return jax.tree.map(lambda array: array.reshape(-1, BATCH, *array.shape[1:]), data)


def of_text(text: np.ndarray, vocabulary: int, total: int, steps: int) -> tail.Run:
    """Trains on a text."""
    drawn = functools.cache(functools.partial(examples, text, vocabulary, total=total))

    def run(power: float, p: float, rate: float, seed: int) -> Mapping[str, jax.Array]:
        setting = {"learning_rate": jnp.float32(rate), "p": jnp.float32(p)}
        return train(setting, jnp.int32(seed), drawn(power, seed=seed), vocabulary, steps)

    return run


def main() -> None:
    parser = study_arguments(__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=pathlib.Path, required=True, help="folder of Penn Treebank")
    arguments = parser.parse_args()
    text = restrict_text(read_text(arguments.data_dir), TOKENS, VOCABULARY).train
    tails, rates, steps = ((0.0, 1.0), (1e-3,), 3) if arguments.smoke else (TAILS, RATES, STEPS)
    found = tail.study(of_text(text, VOCABULARY, EXAMPLES, steps), tails, rates)
    if arguments.out is not None:
        tail.record(arguments.out, found, rates, steps)
    if arguments.picture is not None:
        tail.draw(found, "words", "words", f"Penn Treebank, {VOCABULARY:,} words, small transformer", arguments.picture)


if __name__ == "__main__":
    main()
