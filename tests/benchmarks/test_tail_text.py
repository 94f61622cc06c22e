"""The study of the tail of words: its examples."""

import jax.numpy as jnp
import numpy as np
import pytest
import tail
import tail_text

WORDS, TOTAL = 50, 400


@pytest.fixture(scope="module")
def text():
    """Word k, of 50, a hundred to a few hundred times; the first more often than the last."""
    draw = np.random.default_rng(0)
    return draw.permutation(np.repeat(np.arange(WORDS), np.linspace(600, 100, WORDS).astype(int))).astype(np.int32)


@pytest.mark.parametrize("power", tail_text.TAILS)
def test_examples(text, power):
    """Each is a word of the text after the words before it; the most frequent words get the largest shares."""
    found = tail_text.examples(text, WORDS, power, TOTAL, 0)
    assert found.inputs.shape == (TOTAL, tail_text.CONTEXT)
    windows = np.lib.stride_tricks.sliding_window_view(text, tail_text.CONTEXT + 1)
    there = {window.tobytes() for window in windows}
    rows = np.column_stack([found.inputs, found.labels])
    assert all(row.tobytes() in there for row in rows)
    assert len({row.tobytes() for row in rows}) == TOTAL
    wanted = tail.counts(WORDS, power, TOTAL)
    order = np.argsort(-np.bincount(text[tail_text.CONTEXT :], minlength=WORDS), kind="stable")
    np.testing.assert_array_equal(np.bincount(found.labels, minlength=WORDS)[order], wanted)
    rare, frequent = (set(np.asarray(found.labels[found.rare == which]).tolist()) for which in (True, False))
    assert rare.isdisjoint(frequent)
    assert abs(int(found.rare.sum()) - TOTAL / 2) <= wanted[0]


def test_seeds_draw_other_examples(text):
    first, again, other = (tail_text.examples(text, WORDS, 0.0, TOTAL, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert (first.inputs != other.inputs).any()


def test_a_word_too_seldom(text):
    with pytest.raises(ValueError, match="word 0 occurs 600 times; 610 examples of it are needed"):
        tail_text.examples(np.concatenate([np.zeros(8, np.int32) + 1, text]), WORDS, 20.0, 610, 0)


def test_trains(text, monkeypatch):
    """At a rate of 0 the losses are those of a network that knows nothing; a few steps at a rate lower them."""
    monkeypatch.setattr(tail_text, "SIZES", {"features": 8, "heads": 2, "layers": 1})
    monkeypatch.setattr(tail_text, "BATCH", 40)
    run = tail_text.of_text(text, WORDS, TOTAL, 20)
    before, after = (run(1.0, 1 / 2, rate, 0) for rate in (0.0, 1e-2))
    for part in ("all", "frequent", "rare"):
        assert float(before[part]) == pytest.approx(np.log(WORDS), rel=0.02)
    assert float(after["all"]) < float(before["all"]) - 0.2
    assert jnp.isfinite(after["rare"])
