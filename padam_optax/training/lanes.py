"""Several runs of one trainer in one compiled program: each lane has its own seed and hyper-parameters."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from padam_optax.training.batches import steps_of
from padam_optax.training.loop import Hyperparameters, Metrics, Trainer, TrainState

PyTree = Any
Mode = Literal["vectorized", "mapped", "sharded"]

_AXIS = "runs"


@dataclasses.dataclass(frozen=True)
class WholeEpochs:
    """Trains by whole epochs, in pure functions of seed and hyper-parameters that can be mapped, compiled and sharded.

    Attributes:
      trainer: Trains and evaluates.
      count: Number of epochs.
    """

    trainer: Trainer
    count: int

    def init(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """Returns the state before the first epoch."""
        return self.trainer.initial_state(seed, hyperparameters)

    def train_epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        train: PyTree,
        held_out: Mapping[str, PyTree],
        epoch: jax.Array,
    ) -> tuple[TrainState, Metrics, jax.Array]:
        """Trains for an epoch and evaluates.

        Args:
          state: At the start of `epoch`.
          seed: int32 scalar.
          hyperparameters: Scalars by name.
          train: The training set, as the trainer's batches take it.
          held_out: Sets to evaluate on, by name.
          epoch: `state.epoch`, int32 scalar; a separate argument, so that it stays one number when states are mapped.

        Returns:
          The new state; scalar metrics, named as in a run's record; the first step of the epoch whose loss or gradients
          were not finite, or -1.
        """
        steps = [self.trainer.batches.steps(epoch, train) for epoch in range(self.count)]
        full = jnp.asarray(steps, jnp.int32)[epoch]
        state = self.trainer.train_steps(state, seed, hyperparameters, train, epoch, 0, full)
        state, means, nonfinite = self.trainer.finish_epoch(state, seed, hyperparameters, train, full)
        metrics = {f"train_{name}": value for name, value in means.items()}
        return state, metrics | self.trainer.evaluate_sets(state, held_out), nonfinite

    def train(
        self, seed: jax.Array, hyperparameters: Hyperparameters, train: PyTree, held_out: Mapping[str, PyTree]
    ) -> Metrics:
        """Trains to the end, evaluating after each epoch.

        Args:
          seed: int32 scalar.
          hyperparameters: Scalars by name.
          train: The training set, as the trainer's batches take it.
          held_out: Sets to evaluate on, by name.

        Returns:
          Each metric of `train_epoch`, (epochs,); and "diverged_step", int32, the first step of the run whose loss or
          gradients were not finite, or -1. Metrics from that epoch on are meaningless.
        """

        def body(state: TrainState, epoch: jax.Array) -> tuple[TrainState, tuple[Metrics, jax.Array]]:
            state, metrics, nonfinite = self.train_epoch(state, seed, hyperparameters, train, held_out, epoch)
            return state, (metrics, nonfinite)

        _, (metrics, nonfinite) = jax.lax.scan(body, self.init(seed, hyperparameters), jnp.arange(self.count))
        before = jnp.asarray([self.steps_before(epoch, train) for epoch in range(self.count)], jnp.int32)
        first = jnp.argmax(nonfinite >= 0)
        return {**metrics, "diverged_step": jnp.where(jnp.any(nonfinite >= 0), (before + nonfinite)[first], -1)}

    def steps_before(self, epoch: int, train: PyTree) -> int:
        """Steps of the epochs before `epoch`, counted from 0."""
        return sum(steps_of(self.trainer.batches, before, train) for before in range(epoch))


@dataclasses.dataclass
class LaneStates:
    """States of the runs in all lanes.

    Attributes:
      states: States of all lanes, a tree whose arrays have one leading axis, (lanes,); each epoch replaces it.
      seeds: Seed of each lane, (lanes,), int32.
      hyperparameters: Values of each lane by name, (lanes,) each.
    """

    states: PyTree
    seeds: jax.Array
    hyperparameters: Hyperparameters


class Lanes:
    """Trains `size` runs at once, one epoch a call. One program serves any runs, however many are still active.

    Args:
      epochs: The training of each run.
      train: The training set.
      held_out: Sets to evaluate on, by name.
      size: How many lanes there are.
      mode: "vectorized": each operation computes all lanes at once, even those that have ended. "mapped": the program
        trains one lane after another; lanes that have ended take no time. "sharded": each device trains an equal share
        of the lanes in the mode `inner`.
      inner: The mode of each device in the mode "sharded".
      devices: Devices of the mode "sharded"; all by default.

    Raises:
      ValueError: If `size` is below 1, or not a multiple of the number of devices.
    """

    def __init__(
        self,
        epochs: WholeEpochs,
        train: PyTree,
        held_out: Mapping[str, PyTree],
        size: int,
        mode: Mode,
        *,
        inner: Literal["vectorized", "mapped"] = "mapped",
        devices: Sequence[Any] | None = None,
    ):
        devices = tuple(devices or jax.devices()) if mode == "sharded" else tuple(jax.devices()[:1])
        if size < 1 or size % len(devices):
            raise ValueError(f"lanes must be a positive multiple of {len(devices)}, the number of devices, got {size}.")
        self.size = size
        self.mode = mode
        self._epochs = epochs
        self._devices = len(devices)
        vectorized = (inner if mode == "sharded" else mode) == "vectorized"
        self._init, self._train_epoch, everywhere = _programs(epochs, vectorized, devices)
        self._train, self._held_out = jax.device_put((train, dict(held_out)), everywhere)

    def init(self, seeds: Sequence[int], hyperparameters: Sequence[Mapping[str, float]]) -> LaneStates:
        """States before the first epoch of at most `size` runs; copies of the last run fill the other lanes."""
        count = len(seeds)
        assert count == len(hyperparameters) <= self.size
        filled = [min(lane, count - 1) for lane in range(self.size)]
        lane_seeds = jnp.asarray([seeds[lane] for lane in filled], jnp.int32)
        values = {
            name: jnp.asarray([hyperparameters[lane][name] for lane in filled], float) for name in hyperparameters[0]
        }
        return LaneStates(self._init(lane_seeds, values), lane_seeds, values)

    def epoch(self, lanes: LaneStates, epoch: int, active: Sequence[int]) -> tuple[Metrics, np.ndarray]:
        """Trains the lanes `active` for an epoch, evaluates them, and replaces `lanes.states`.

        Returns:
          Metrics, (lanes,) each, and the first step whose loss or gradients were not finite, or -1, (lanes,).
          Values of other lanes are meaningless.
        """
        lanes.states, metrics, nonfinite = self._train_epoch(*self._arguments(lanes, epoch, active))
        metrics, nonfinite = jax.device_get((metrics, nonfinite))
        return metrics, np.asarray(nonfinite)

    def compile(self, lanes: LaneStates) -> None:
        """Compiles the epoch for such states, if it is not compiled yet. `epoch` compiles too, but also trains."""
        self._compiled_epoch(lanes)

    def _compiled_epoch(self, lanes: LaneStates) -> Any:
        return self._train_epoch.lower(*self._arguments(lanes, 0, ())).compile()

    def _arguments(self, lanes: LaneStates, epoch: int, active: Sequence[int]) -> tuple[Any, ...]:
        """Arguments of the compiled epoch. The last two are each device's active lanes and their number."""
        share = self.size // self._devices
        order = np.zeros((self._devices, share), np.int32)
        counts = np.zeros(self._devices, np.int32)
        for lane in active:
            device, place = divmod(lane, share)
            order[device, counts[device]] = place
            counts[device] += 1
        own = (lanes.states, lanes.seeds, lanes.hyperparameters)
        return *own, self._train, self._held_out, jnp.int32(epoch), order.reshape(-1), counts

    def steps_before(self, epoch: int) -> int:
        """Steps of the epochs before `epoch`, counted from 0."""
        return self._epochs.steps_before(epoch, self._train)

    def memory_bytes(self, lanes: LaneStates) -> int:
        """Bytes that the compiled epoch takes on each device: its arguments and its temporary arrays."""
        analysis = self._compiled_epoch(lanes).memory_analysis()
        return 0 if analysis is None else analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


# Kept for any number of lanes, so that a later sweep in the same process compiles nothing.
@functools.lru_cache(maxsize=8)
def _programs(epochs: WholeEpochs, vectorized: bool, devices: tuple[Any, ...]) -> tuple[Any, Any, NamedSharding]:
    """Compiled functions that begin runs and train an epoch, and the sharding of arrays that all devices hold whole."""
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    whole, split = PartitionSpec(), PartitionSpec(_AXIS)
    init: Callable[..., Any] = jax.vmap(epochs.init) if vectorized else functools.partial(_init_mapped, epochs)
    epoch: Callable[..., Any] = functools.partial(_epoch_vectorized if vectorized else _epoch_mapped, epochs)
    if len(devices) > 1:
        init = jax.shard_map(init, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
        epoch = jax.shard_map(
            epoch,
            mesh=mesh,
            in_specs=(split, split, split, whole, whole, whole, split, split),
            out_specs=split,
            check_vma=False,
        )
    # `init` and the epoch return states with the same sharding, so that one compiled epoch takes both.
    lanes, everywhere = NamedSharding(mesh, split), NamedSharding(mesh, whole)
    compiled = jax.jit(
        epoch,
        donate_argnums=0,
        in_shardings=(lanes, lanes, lanes, everywhere, everywhere, everywhere, lanes, lanes),
        out_shardings=lanes,
    )
    return jax.jit(init, in_shardings=lanes, out_shardings=lanes), compiled, everywhere


def _init_mapped(epochs: WholeEpochs, seeds: jax.Array, hyperparameters: Hyperparameters) -> PyTree:
    return jax.lax.map(lambda lane: epochs.init(*lane), (seeds, hyperparameters))


def _epoch_vectorized(
    epochs: WholeEpochs,
    states: PyTree,
    seeds: jax.Array,
    hyperparameters: Hyperparameters,
    train: PyTree,
    held_out: PyTree,
    epoch: jax.Array,
    order: jax.Array,
    count: jax.Array,
) -> tuple[PyTree, Metrics, jax.Array]:
    """Trains all lanes, whatever `order` and `count` say."""
    del order, count
    over_lanes = jax.vmap(epochs.train_epoch, (0, 0, 0, None, None, None))
    return over_lanes(states, seeds, hyperparameters, train, held_out, epoch)


def _epoch_mapped(
    epochs: WholeEpochs,
    states: PyTree,
    seeds: jax.Array,
    hyperparameters: Hyperparameters,
    train: PyTree,
    held_out: PyTree,
    epoch: jax.Array,
    order: jax.Array,
    count: jax.Array,
) -> tuple[PyTree, Metrics, jax.Array]:
    """Trains the first `count` lanes of `order`, one after another."""

    def take(tree: PyTree, lane: jax.Array) -> PyTree:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, lane, keepdims=False), tree)

    def put(tree: PyTree, lane: jax.Array, one: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf, value: jax.lax.dynamic_update_index_in_dim(leaf, value, lane, 0), tree, one)

    def train_lane(lane: jax.Array, states: PyTree) -> tuple[TrainState, Metrics, jax.Array]:
        state, seed, values = take((states, seeds, hyperparameters), lane)
        return epochs.train_epoch(state, seed, values, train, held_out, epoch)

    shapes = jax.eval_shape(train_lane, jnp.int32(0), states)[1:]
    results = jax.tree.map(lambda shape: jnp.zeros((len(seeds), *shape.shape), shape.dtype), shapes)

    def body(index: jax.Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        states, results = carry
        lane = order[index]
        state, *result = train_lane(lane, states)
        return put(states, lane, state), put(results, lane, tuple(result))

    states, (metrics, nonfinite) = jax.lax.fori_loop(0, count[0], body, (states, results))
    return states, metrics, nonfinite
