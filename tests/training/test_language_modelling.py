"""The language model's loss, masks, carried state and perplexity; the trainer on windows of random length."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from padam_optax.models.awd_lstm import AwdLstm, Dropouts
from padam_optax.training.batches import Windows
from padam_optax.training.epoch import ResidentData
from padam_optax.training.loop import Trainer
from padam_optax.training.tasks import LanguageModelling

VOCABULARY, COLUMNS = 11, 3
NO_DROPOUT = Dropouts(0, 0, 0, 0, 0)


def task(dropouts: Dropouts = NO_DROPOUT, **options) -> LanguageModelling:
    settings = {"vocabulary": VOCABULARY, "embedding": 4, "hidden": 5, "layers": 2, "dropouts": dropouts}
    return LanguageModelling(lambda rngs: AwdLstm(**settings, rngs=rngs), COLUMNS, **options)


def text(rows: int, columns: int = COLUMNS, seed: int = 0) -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(seed).integers(0, VOCABULARY, (rows, columns)).astype(np.int32)
    return {"tokens": tokens}


def window(tokens: np.ndarray, start: int, length: int, size: int | None = None) -> dict[str, jax.Array]:
    """A window of so many steps that count, filled up to `size` with what does not."""
    filled = np.zeros(((size or length) + 1, tokens.shape[1]), np.int32)
    filled[: length + 1] = tokens[start : start + length + 1]
    return {"inputs": jnp.asarray(filled[:-1]), "targets": jnp.asarray(filled[1:]), "length": jnp.int32(length)}


def assert_close(one, other, rtol=1e-5, atol=1e-7):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=rtol, atol=atol), one, other)


def in_float64(tree):
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), tree)


@functools.cache
def start():
    return jax.jit(task().init)(jax.random.key(0))


@pytest.mark.parametrize("dropouts", [NO_DROPOUT, Dropouts()])
def test_a_masked_window_equals_one_cut_to_its_length(dropouts):
    """Loss, regularisers, gradient and carried state; the dropouts' masks do not depend on the filling."""
    task_ = task(dropouts, activation=2.0, temporal=1.0)
    tokens, key, (params, hidden) = text(30)["tokens"], jax.random.key(1), start()
    with jax.enable_x64(True):
        params, hidden = in_float64((params, hidden))
        both = [
            jax.jit(jax.value_and_grad(task_.loss, has_aux=True))(params, hidden, window(tokens, 2, 6, size), key)
            for size in (6, 10)
        ]
        assert_close(*both, rtol=1e-12, atol=1e-15)
        gradient = jax.device_get(jax.tree.leaves(both[0][1]))
        assert np.sqrt(sum(np.sum(leaf**2) for leaf in gradient)) > 0.01


def test_the_objective_adds_the_regularisers():
    tokens = text(8)["tokens"]
    params, hidden = start()
    model = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: task().build(nnx.Rngs(0)))), params)
    batch = window(tokens, 0, 7)
    out = jax.jit(functools.partial(model, train=False))(batch["inputs"], hidden)
    entropy = optax.losses.softmax_cross_entropy_with_integer_labels(out.logits, batch["targets"]).mean()
    squares, changes = jnp.mean(out.dropped**2), jnp.mean((out.raw[1:] - out.raw[:-1]) ** 2)
    for activation, temporal in ((0, 0), (2, 0), (0, 1), (2, 1)):
        loss = jax.jit(task(activation=activation, temporal=temporal).loss)
        objective, (_, metrics) = loss(params, hidden, batch, jax.random.key(0))
        assert float(metrics["loss"]) == pytest.approx(float(entropy), rel=1e-6)
        assert float(objective) == pytest.approx(float(entropy + activation * squares + temporal * changes), rel=1e-6)
        assert metrics["objective"] == objective


def test_the_state_is_carried_over_windows_and_zero_at_the_next_epoch():
    tokens, key = text(11)["tokens"], jax.random.key(0)
    params, hidden = start()
    loss = jax.jit(task().loss)
    _, (whole, at_once) = loss(params, hidden, window(tokens, 0, 10), key)
    _, (middle, first) = loss(params, hidden, window(tokens, 0, 4, 10), key)
    _, (end, second) = loss(params, middle, window(tokens, 4, 6, 10), key)
    assert_close(end, whole)
    assert float(at_once["loss"]) == pytest.approx(float(4 * first["loss"] + 6 * second["loss"]) / 10, rel=1e-6)
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(end))
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(task().next_epoch(end)))


@pytest.mark.parametrize("columns", [1, 4])
def test_perplexity(columns):
    """Of all targets but the first word of a column, whatever the windows; by rows, as the public code has it."""
    params, hidden = start()
    data = text(24, columns)
    model = nnx.merge(nnx.graphdef(nnx.eval_shape(lambda: task().build(nnx.Rngs(0)))), params)
    logits = jax.jit(functools.partial(model, train=False))(data["tokens"][:-1], model.initial_hidden(columns)).logits
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, data["tokens"][1:])
    for length in (5, 23, 70):
        # Dropouts are off in the evaluation; the training state and its columns play no part.
        evaluate = functools.partial(task(Dropouts(), eval_length=length).evaluate, split=lambda batch: batch)
        found = jax.jit(evaluate)(params, hidden, data)
        assert float(found["loss"]) == pytest.approx(float(losses.mean()), rel=1e-5)
        assert float(found["perplexity"]) == pytest.approx(math.exp(losses.mean()), rel=1e-5)
        assert float(found["perplexity_rows"]) == pytest.approx(math.exp(losses.sum() / (24 * columns)), rel=1e-5)


class ShortWindows(Windows):
    """Two shapes to compile."""

    LONGEST = 14


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer(
        task(Dropouts(), activation=2.0, temporal=1.0),
        lambda settings, factor: optax.chain(
            optax.clip_by_global_norm(0.25), optax.sgd(settings["learning_rate"] * factor, momentum=0.9)
        ),
        lambda epoch: 0.1 ** (0 + (epoch >= 1)),
        ShortWindows(12, random=True),
    )


SETTINGS = {"learning_rate": jnp.asarray(2.0, float)}


def by_hand(trainer: Trainer, data: dict, epochs: int):
    """The same training with one window after another, and the rate set from the host."""
    state = trainer.init(jnp.int32(0), SETTINGS)
    params, opt_state = state.params, state.opt_state
    tokens = np.asarray(data["tokens"])

    @jax.jit
    def step_by_hand(params, opt_state, hidden, batch, key, factor):
        grads, (hidden, _) = jax.grad(trainer.task.loss, has_aux=True)(params, hidden, batch, key)
        updates, opt_state = trainer.make_optimizer(SETTINGS, factor).update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, hidden

    for epoch in range(epochs):
        starts, drawn = trainer.batches.windows(epoch, len(tokens))
        hidden = jax.tree.map(jnp.zeros_like, state.model_state)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), epoch)
        for step in range(trainer.batches.steps(epoch, data)):
            begin = int(starts[step])
            length = min(int(drawn[step]), len(tokens) - 1 - begin)
            params, opt_state, hidden = step_by_hand(
                params,
                opt_state,
                hidden,
                window(tokens, begin, length, 14),
                jax.random.fold_in(key, step),
                trainer.rate_factor(epoch) * drawn[step] / 12,
            )
    return params


def test_training_follows_the_windows(trainer):
    """Two epochs: carried state, its zeros at the start of each, the rate by the drawn length and by the epoch."""
    data = jax.tree.map(jnp.asarray, text(60))
    assert trainer.batches.buckets == (6, 14)
    drawn = np.asarray(trainer.batches.windows(0, 60)[1][: trainer.batches.steps(0, data)])
    assert drawn.min() <= 6 < drawn.max()
    source = ResidentData(trainer, data, {"test": text(20, 1)})
    state = trainer.init(jnp.int32(0), SETTINGS)
    for _ in range(2):
        state = source.train_epoch(state, jnp.int32(0), SETTINGS).state
    expected = by_hand(trainer, data, 2)
    assert_close(state.params, expected, rtol=2e-4, atol=2e-6)
    assert source.steps_before(2) == sum(trainer.batches.steps(epoch, data) for epoch in range(2))
    assert set(source.evaluate(state)) == {"test_loss", "test_perplexity", "test_perplexity_rows"}


def test_runs_mapped_over_one_another_equal_the_runs_alone(trainer):
    """Seeds and rates as lanes; the windows are the same for all, so that the choice of the bucket stays a branch."""
    data = jax.tree.map(jnp.asarray, text(60))
    seeds, rates = jnp.arange(3), {"learning_rate": jnp.asarray([1.0, 2.0, 0.5])}
    steps = trainer.batches.steps(0, data)
    train = jax.jit(jax.vmap(trainer.train_steps, (0, 0, 0, None, None, None, None)))
    state = jax.vmap(trainer.init)(seeds, rates)
    assert "stablehlo.case" in train.lower(state, seeds, rates, data, 0, 0, steps).as_text()
    lanes = train(state, seeds, rates, data, 0, 0, steps)
    params = jax.device_get(lanes.params)
    for lane in range(3):
        settings = {"learning_rate": rates["learning_rate"][lane]}
        alone = trainer.init(seeds[lane], settings)
        alone = trainer.train_steps(alone, seeds[lane], settings, data, 0, 0, steps)
        of_lane = jax.tree.map(lambda leaf, lane=lane: leaf[lane], params)
        assert_close(of_lane, alone.params, rtol=1e-4, atol=1e-6)
