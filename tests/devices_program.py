"""Run by test_devices.py with 8 fake CPU devices and in float64: prints as JSON what two small trainings come to.

A network with a convolution, batch normalisation and augmentation, and an LSTM with all dropouts.
"""

import collections
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import padam_optax
from padam_optax.models.awd_lstm import AwdLstm
from padam_optax.models.layers import BatchNorm, Conv, Linear
from padam_optax.training.batches import Shuffled, Windows
from padam_optax.training.epoch import ResidentData
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


def images(placement: Placement) -> tuple[Trainer, ResidentData]:
    """44 images: batches of 16, 16 and 12; each epoch re-estimates the statistics."""
    random = np.random.default_rng(0)
    data = {
        "images": random.integers(0, 256, (44, 8, 8, 1), dtype=np.uint8),
        "labels": random.integers(0, 3, 44).astype(np.int32),
    }
    task = Classification(
        in_float64(lambda rngs: Network(rngs=rngs)),
        lambda key, images: images + jax.random.uniform(key, images.shape),
        lambda images: images / 255.0,
        eval_batch_size=20,
    )
    trainer = trainer_of(task, Shuffled(16, keep_last=True), placement)
    return trainer, ResidentData(trainer, data, {"test": data}, reestimate=True)


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
    held_out = {"valid": {"tokens": tokens[:200].reshape(20, 10)}, "test": {"tokens": tokens[:50, None]}}
    return trainer, ResidentData(trainer, {"tokens": tokens.reshape(60, 10)}, held_out)


def train(make, placement: Placement) -> dict:
    """Metrics, parameters, and where the state lies, from two epochs."""
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
    bytes_of = collections.Counter()
    for leaf in jax.tree.leaves(state.opt_state):
        for shard in leaf.addressable_shards:
            bytes_of[shard.device.id] += shard.data.nbytes
    stepped = trainer.train_steps(state, seed, settings, source._train, EPOCHS, 0, 1)
    compiled = trainer.train_steps.lower(stepped, seed, settings, source._train, EPOCHS, 0, 1).compile()
    return {
        "metrics": lines,
        "params": [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(stepped.params)],
        "stays in place": begun == jax.tree.map(lambda leaf: leaf.sharding, stepped),
        "params are whole": all(leaf.is_fully_replicated for leaf in jax.tree.leaves(stepped.params)),
        "bytes": sorted(bytes_of.values()),
        "sizes": [leaf.shape for leaf in jax.tree.leaves(stepped.opt_state)],
        "collectives": COLLECTIVES.findall(compiled.as_text()),
        "flops": compiled.cost_analysis()["flops"],
    }


if __name__ == "__main__":
    tasks = {"images": images, "text": text}
    placements = {f"{count}": across(count) for count in (1, 8)}
    placements["8, optimizer sharded"] = across(8, shard_optimizer=True)
    found = {
        name: {where: train(make, placement) for where, placement in placements.items()} for name, make in tasks.items()
    }
    print(json.dumps(found))
