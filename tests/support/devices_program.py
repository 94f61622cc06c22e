"""Run by test_devices.py in float64: prints as JSON what small trainings come to on some devices.

A network with a convolution, batch normalisation and augmentation, on images that the devices hold or the host reads,
and an LSTM with dropouts. Without arguments on 8 fake CPU devices; with a coordinator and a number in 2 processes.

Compiling takes most of the time, so that each combination compiles what it alone can show: whole epochs of images are
trained on 1 device and on 8 that divide the optimizer's state, and on 8 that do not only the first steps.
"""

import collections
import functools
import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import padam_optax
from padam_optax.models.awd_lstm import AwdLstm
from padam_optax.models.layers import BatchNorm, Conv, Linear
from padam_optax.training import epoch as epoch_module
from padam_optax.training import processes
from padam_optax.training.batches import Shuffled, Windows
from padam_optax.training.epoch import ResidentData, StreamedData
from padam_optax.training.loop import Trainer
from padam_optax.training.placement import Placement, across
from padam_optax.training.tasks import Classification, LanguageModelling

EPOCHS = 2
COLLECTIVES = re.compile(r"= .* (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(")


class Network(nnx.Module):
    """A strided convolution, batch normalisation and a linear layer, for 8x8 images."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.conv = Conv(1, 8, stride=2, rngs=rngs)
        self.norm = BatchNorm(8, rngs=rngs)
        self.head = Linear(128, 3, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool, key: jax.Array | None = None) -> jax.Array:
        return self.head(nnx.relu(self.norm(self.conv(images), train=train)).reshape(len(images), -1))


def in_float64(build):
    """The same network with its parameters in float64."""

    def built(rngs: nnx.Rngs) -> nnx.Module:
        model = build(rngs)
        nnx.update(model, jax.tree.map(lambda value: value.astype(jnp.float64), nnx.state(model)))
        return model

    return built


def trainer_of(task, batches, placement: Placement, **options) -> Trainer:
    def optimizer(settings, factor):
        return optax.chain(optax.clip_by_global_norm(1.0), padam_optax.padam(settings["learning_rate"] * factor))

    return Trainer(task, optimizer, lambda epoch: 1.0, batches, placement, **options)


def pictures() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "images": random.integers(0, 256, (44, 8, 8, 1), dtype=np.uint8),
        "labels": random.integers(0, 3, 44).astype(np.int32),
    }


@functools.lru_cache
def image_trainer(placement: Placement) -> Trainer:
    task = Classification(
        in_float64(lambda rngs: Network(rngs=rngs)),
        lambda key, images: images + jax.random.uniform(key, images.shape),
        lambda images: images / 255.0,
        eval_batch_size=20,
    )
    return trainer_of(task, Shuffled(16, keep_last=True), placement, reestimate=True)


def images(placement: Placement) -> tuple[Trainer, ResidentData]:
    """Batches of 16, 16 and 12; each epoch re-estimates the statistics."""
    trainer = image_trainer(placement)
    return trainer, ResidentData(trainer, pictures(), {"test": pictures()})


class Reader:
    """Batches in order: this process's share of each."""

    def __init__(self):
        self.next = 0

    def __next__(self) -> dict[str, np.ndarray]:
        start = self.next % 2 * 16
        self.next += 1
        return share(jax.tree.map(lambda array: array[start : start + 16], pictures()))

    def get_position(self) -> str:
        return str(self.next)

    def set_position(self, position: str) -> None:
        self.next = int(position)


def share(batch):
    """What this process has of a batch."""
    size = 16 // jax.process_count()
    return jax.tree.map(lambda array: array[jax.process_index() * size :][:size], batch)


def stream(placement: Placement) -> tuple[Trainer, StreamedData]:
    """Batches of 16 that the host reads, and a test batch of which 10 images count."""
    trainer = image_trainer(placement)
    test = share((jax.tree.map(lambda array: array[:16], pictures()), np.arange(16) < 10))
    return trainer, StreamedData(trainer, Reader, lambda: [test], batch_size=16, steps_per_epoch=2, test_examples=10)


def text(placement: Placement) -> tuple[Trainer, ResidentData]:
    """10 columns, which 8 devices cannot divide evenly; the test text has one."""
    tokens = np.random.default_rng(0).integers(0, 23, 600).astype(np.int32)
    task = LanguageModelling(
        in_float64(lambda rngs: AwdLstm(vocabulary=23, embedding=6, hidden=16, layers=2, rngs=rngs)),
        columns=10,
        activation=2.0,
        temporal=1.0,
    )
    trainer = trainer_of(task, Windows(20), placement)
    return trainer, ResidentData(trainer, {"tokens": tokens.reshape(60, 10)}, {"test": {"tokens": tokens[:50, None]}})


def begin(trainer: Trainer) -> tuple:
    """The state before the first epoch, the seed and the settings."""
    settings = trainer.placement.put_whole({"learning_rate": jnp.asarray(0.3)})
    seed = trainer.placement.put_whole(np.int32(0))
    return trainer.init(seed, settings), seed, settings


def where_it_lies(begun, state) -> dict:
    """Where the state of a training that began with `begun` lies."""
    bytes_of = collections.Counter()
    for leaf in jax.tree.leaves(state.opt_state):
        for shard in leaf.addressable_shards:
            bytes_of[shard.device.id] += shard.data.nbytes
    return {
        "stays in place": begun == shardings(state),
        "params are whole": all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params)),
        "bytes": sorted(bytes_of.values()),
        "sizes": [leaf.shape for leaf in jax.tree.leaves(state.opt_state)],
    }


def shardings(state):
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def numbers(params) -> list:
    return [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(params)]


def train(make, placement: Placement) -> dict:
    """Metrics, parameters, and where the state lies, from two epochs and one more step."""
    trainer, source = make(placement)
    state, seed, settings = begin(trainer)
    begun, lines = shardings(state), []
    for _ in range(EPOCHS):
        result = source.train_epoch(state, seed, settings)
        state = result.state
        lines.append({**result.metrics, **source.evaluate(state)})
    state = source.train_epoch(state, seed, settings, should_stop=lambda: True).state
    return {"metrics": lines, "params": numbers(state.params), **where_it_lies(begun, state)}


def first_steps(placement: Placement) -> dict:
    """The same of the first two steps on the images that the devices hold; and what the compiled program does."""
    trainer = image_trainer(placement)
    state, seed, settings = begin(trainer)
    begun, data = shardings(state), placement.put_whole(pictures())
    compiled = Trainer.train_steps.lower(trainer, state, seed, settings, data, 0, 0, 1).compile()
    state = trainer.train_steps(state, seed, settings, data, 0, 0, 2)
    return {
        "metrics": [{name: float(total) for name, total in state.totals.items()}],
        "params": numbers(state.params),
        **where_it_lies(begun, state),
        "collectives": sorted(set(COLLECTIVES.findall(compiled.as_text()))),
        "flops": compiled.cost_analysis()["flops"],
    }


if __name__ == "__main__":
    # Looks up after every step.
    epoch_module._CALL_SECONDS = 0.0
    found: dict[str, dict] = {"first steps": {}, "images": {}, "text": {}, "stream": {}}
    if len(sys.argv) > 1:
        processes.start(sys.argv[1], int(sys.argv[2]), 2)
        runs = [(make, "2 processes", across()) for make in (stream, text)]
    else:
        one, eight, divided = across(1), across(8), across(8, shard_optimizer=True)
        found["first steps"] = {"1": first_steps(one), "8": first_steps(eight)}
        runs = [(images, "1", one), (images, "8, optimizer sharded", divided)]
        runs += [(text, "1", one), (text, "8", eight), (stream, "1", one)]
    for make, place, placement in runs:
        found[make.__name__][place] = train(make, placement)
    if processes.is_first():
        print(json.dumps(found))
