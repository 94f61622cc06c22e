"""Run by test_devices.py in float64: prints as JSON what small trainings come to on some devices.

A network with a convolution, batch normalisation and augmentation, on images that the devices hold or the host reads,
and an LSTM with all dropouts. Without arguments on 8 fake CPU devices; with a coordinator and a number in 2 processes.
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


def trainer_of(task, batches, placement: Placement) -> Trainer:
    def optimizer(settings, factor):
        return optax.chain(optax.clip_by_global_norm(1.0), padam_optax.padam(settings["learning_rate"] * factor))

    return Trainer(task, optimizer, lambda epoch: jnp.asarray(1.0), batches, placement)


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
    return trainer_of(task, Shuffled(16, keep_last=True), placement)


def images(placement: Placement) -> tuple[Trainer, ResidentData]:
    """Batches of 16, 16 and 12; each epoch re-estimates the statistics."""
    trainer = image_trainer(placement)
    return trainer, ResidentData(trainer, pictures(), {"test": pictures()}, reestimate=True)


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


def train(make, placement: Placement) -> dict:
    """Metrics, parameters, and where the state lies, from two epochs and one more step."""
    trainer, source = make(placement)
    settings = placement.put_whole({"learning_rate": jnp.asarray(0.3)})
    seed = placement.put_whole(np.int32(0))
    state = trainer.init(seed, settings)
    begun = jax.tree.map(lambda leaf: leaf.sharding, state)
    lines = []
    for _ in range(EPOCHS):
        result = source.train_epoch(state, seed, settings)
        state = result.state
        lines.append({**result.metrics, **source.evaluate(state)})
    state = source.train_epoch(state, seed, settings, should_stop=lambda: True).state
    bytes_of = collections.Counter()
    for leaf in jax.tree.leaves(state.opt_state):
        for shard in leaf.addressable_shards:
            bytes_of[shard.device.id] += shard.data.nbytes
    found = {
        "metrics": lines,
        "params": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state.params)],
        "stays in place": begun == jax.tree.map(lambda leaf: leaf.sharding, state),
        "params are whole": all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state.params)),
        "bytes": sorted(bytes_of.values()),
        "sizes": [leaf.shape for leaf in jax.tree.leaves(state.opt_state)],
    }
    if make is images and not placement.shard_optimizer:
        data = placement.put_whole(pictures())
        compiled = trainer.train_steps.lower(state, seed, settings, data, 0, 0, 1).compile()
        found |= {
            "collectives": sorted(set(COLLECTIVES.findall(compiled.as_text()))),
            "flops": compiled.cost_analysis()["flops"],
        }
    return found


if __name__ == "__main__":
    # Looks up after every step.
    epoch_module._CALL_SECONDS = 0.0
    if len(sys.argv) > 1:
        processes.start(sys.argv[1], int(sys.argv[2]), 2)
        runs = [(make, "2 processes", across()) for make in (stream, text)]
    else:
        one, eight = across(1), across(8)
        runs = [(make, place, on) for make in (images, text) for place, on in (("1", one), ("8", eight))]
        runs += [(images, "8, optimizer sharded", across(8, shard_optimizer=True)), (stream, "1", one)]
    found: dict[str, dict] = {}
    for make, place, placement in runs:
        found.setdefault(make.__name__, {})[place] = train(make, placement)
    if processes.is_first():
        print(json.dumps(found))
