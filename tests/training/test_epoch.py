"""Epochs driven from the host: split into calls, stopped and gone on with, last batches, re-estimated statistics."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from padam_optax.models.layers import BatchNorm, Linear
from padam_optax.training import epoch as epoch_module
from padam_optax.training.batches import Shuffled
from padam_optax.training.epoch import ResidentData, StreamedData
from padam_optax.training.loop import Trainer
from padam_optax.training.tasks import Classification

# Enough for the running statistics to forget how they began.
EXAMPLES, BATCH = 202, 4
FULL = EXAMPLES // BATCH
SETTINGS = {"learning_rate": jnp.asarray(0.3)}
SEED = jnp.asarray(0, jnp.int32)


class Network(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.norm = BatchNorm(4, rngs=rngs)
        self.head = Linear(4, 3, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        return self.head(self.norm(images.reshape(len(images), 4), train=train))


def task(**options) -> Classification:
    return Classification(
        lambda rngs: Network(rngs=rngs),
        lambda key, images: images + jax.random.uniform(key, images.shape),
        lambda images: images / 255.0,
        **options,
    )


TRAINER = Trainer(
    task(),
    lambda settings, factor: optax.sgd(settings["learning_rate"] * factor, momentum=0.9),
    lambda epoch: 0.1 ** (0 + (epoch >= 2)),
    Shuffled(BATCH),
)


def trainer(keep_last_batch: bool = False, reestimate: bool = False) -> Trainer:
    """Equal ones share their compiled functions, over all tests."""
    return dataclasses.replace(TRAINER, batches=Shuffled(BATCH, keep_last_batch), reestimate=reestimate)


def data(count: int = EXAMPLES) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (count, 2, 2, 1), dtype=np.uint8),
        "labels": random.integers(0, 3, count).astype(np.int32),
    }


def train(source, trainer: Trainer, epochs: int = 3, should_stop=lambda: False):
    """The state and each epoch's metrics, however often `should_stop` interrupts."""
    state, lines = trainer.init(SEED, SETTINGS), []
    while int(state.epoch) < epochs:
        result = source.train_epoch(state, SEED, SETTINGS, should_stop=should_stop)
        state = result.state
        if result.metrics is not None:
            lines.append({**result.metrics, **source.evaluate(state)})
    return state, lines


def assert_bit_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("keep_last_batch", [False, True])
@pytest.mark.parametrize("reestimate", [False, True])
def test_splits_and_stops_change_nothing(monkeypatch, keep_last_batch, reestimate):
    trainer_ = trainer(keep_last_batch, reestimate)
    source = ResidentData(trainer_, data(), {"test": data(7)})
    whole = train(source, trainer_)
    monkeypatch.setattr(epoch_module, "_CALL_SECONDS", 0.0)
    one_by_one = ResidentData(trainer_, data(), {"test": data(7)})
    answers = itertools.cycle([False, True])
    stopped = train(one_by_one, trainer_, should_stop=lambda: next(answers))
    assert_bit_equal(whole, stopped)


def test_steps_of_an_epoch():
    for keep, steps in ((False, FULL), (True, FULL + 1)):
        source = ResidentData(trainer(keep), data(), {"test": data(7)})
        result = source.train_epoch(source._trainer.init(SEED, SETTINGS), SEED, SETTINGS)
        assert source.steps_before(1) == steps
        assert result.examples == min(steps * BATCH, EXAMPLES)


def test_no_last_batch_where_all_are_full():
    source = ResidentData(trainer(True), data(FULL * BATCH), {"test": data(7)})
    assert source.steps_before(1) == FULL


@pytest.mark.parametrize("updates", [2, 3])
def test_repeated_statistics(updates):
    """The same batch entering k times equals k training passes that keep the parameters."""
    state = trainer().init(SEED, SETTINGS)
    params, start = state.params, state.model_state
    batch, key = jax.tree.map(jnp.asarray, data(BATCH)), jax.random.key(1)
    loss = jax.jit(task().loss)
    expected = start
    for _ in range(updates):
        _, (expected, _) = loss(params, expected, batch, key)
    _, (found, _) = jax.jit(task(statistics_updates=updates).loss)(params, start, batch, key)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_reestimation_keeps_the_parameters_and_measures_with_them():
    """Statistics forget what was before (.9^k); the training metrics are those of the end of the epoch."""
    many = data()
    without, with_pass = (ResidentData(trainer(False, reestimate), many, {}) for reestimate in (False, True))
    one = without.train_epoch(without._trainer.init(SEED, SETTINGS), SEED, SETTINGS)
    other = with_pass.train_epoch(with_pass._trainer.init(SEED, SETTINGS), SEED, SETTINGS)
    assert_bit_equal(one.state.params, other.state.params)
    assert_bit_equal(one.state.opt_state, other.state.opt_state)
    assert other.metrics["loss"] != one.metrics["loss"]
    mean = (many["images"].reshape(len(many["images"]), 4) + 0.5).mean(0) / 255
    np.testing.assert_allclose(nnx.to_pure_dict(other.state.model_state)["norm"]["mean"], mean, atol=0.05)


class Batches:
    """Batches of all epochs with a position."""

    def __init__(self):
        self.next = 0

    def __next__(self):
        epoch, step = divmod(self.next, FULL)
        chosen = np.random.default_rng(epoch).permutation(EXAMPLES)[step * BATCH : (step + 1) * BATCH]
        self.next += 1
        return jax.tree.map(lambda array: array[chosen], data())

    def get_position(self) -> str:
        return str(self.next)

    def set_position(self, position: str) -> None:
        self.next = int(position)


def streamed(trainer_: Trainer) -> StreamedData:
    def batches_of_test():
        test = data(7)
        yield jax.tree.map(lambda array: array[:4], test), np.ones(4, bool)
        yield jax.tree.map(lambda array: array[3:], test), np.array([False, True, True, True])

    return StreamedData(trainer_, Batches, batches_of_test, batch_size=BATCH, steps_per_epoch=FULL, test_examples=7)


def test_stream_goes_on_from_a_position(monkeypatch):
    trainer_ = trainer()
    whole = train(streamed(trainer_), trainer_)
    monkeypatch.setattr(epoch_module, "_CALL_SECONDS", 0.0)
    state, lines = trainer_.init(SEED, SETTINGS), []
    position = ""
    while int(state.epoch) < 3:
        source = streamed(trainer_)
        source.go_to(position)
        result = source.train_epoch(state, SEED, SETTINGS, should_stop=lambda: True)
        state, position = result.state, source.position
        if result.metrics is not None:
            lines.append({**result.metrics, **source.evaluate(state)})
    assert_bit_equal(whole[0], state)
    assert whole[1] == lines


def test_stream_evaluates_each_example_once():
    trainer_ = trainer()
    state = trainer_.init(SEED, SETTINGS)
    resident = ResidentData(trainer_, data(), {"test": data(7)}).evaluate(state)
    assert streamed(trainer_).evaluate(state) == pytest.approx(resident, rel=1e-6)


@pytest.mark.parametrize("make", [lambda trainer_: ResidentData(trainer_, data(), {"test": data(7)}), streamed])
def test_a_loss_that_is_not_finite_ends_the_epoch(make):
    settings = {"learning_rate": jnp.asarray(jnp.inf)}
    result = make(trainer()).train_epoch(trainer().init(SEED, settings), SEED, settings)
    assert result.metrics is None
    assert result.nonfinite_step == 1


def test_a_step_that_leaves_no_finite_parameters_is_not_the_one_that_is_told(monkeypatch):
    """Its own loss and gradients are finite, and so its call is run again and gone on from."""
    monkeypatch.setattr(epoch_module, "_FIRST_STEPS", 1)
    settings = {"learning_rate": jnp.asarray(jnp.inf)}
    source = ResidentData(trainer(), data(), {"test": data(7)})
    result = source.train_epoch(trainer().init(SEED, settings), SEED, settings)
    assert (result.metrics, result.nonfinite_step) == (None, 1)
