"""Several runs of one trainer at once: lanes with seeds and hyper-parameters of their own, in one compiled program."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from padam_optax.training.loop import Hyperparameters, Trainer, TrainState

PyTree = Any
Metrics = dict[str, jax.Array]
Mode = Literal["vectorized", "mapped", "sharded"]
MODES: tuple[Mode, ...] = ("vectorized", "mapped", "sharded")

_AXIS = "runs"


@dataclasses.dataclass(frozen=True)
class Training:
    """What a run does, as pure functions of its seed and hyper-parameters: they may be mapped, compiled and sharded.

    Attributes:
      trainer: Compiled functions.
      steps: Full steps of each epoch.
      has_last: Whether a smaller step follows them.
      reestimate: Whether each epoch ends with a pass that re-estimates the model's statistics; see `ResidentData`.
    """

    trainer: Trainer
    steps: tuple[int, ...]
    has_last: bool = False
    reestimate: bool = False

    @classmethod
    def of(cls, trainer: Trainer, train: PyTree, epochs: int, *, reestimate: bool = False) -> "Training":
        """That of so many epochs on data like `train`."""
        steps = tuple(trainer.batches.steps(epoch, train) for epoch in range(epochs))
        return cls(trainer, steps, trainer.batches.has_last(train), reestimate)

    def init(self, seed: jax.Array, hyperparameters: Hyperparameters) -> TrainState:
        """The state before the first epoch."""
        return self.trainer.initial_state(seed, hyperparameters)

    def epoch(
        self,
        state: TrainState,
        seed: jax.Array,
        hyperparameters: Hyperparameters,
        train: PyTree,
        held_out: Mapping[str, PyTree],
        epoch: jax.Array,
    ) -> tuple[TrainState, Metrics, jax.Array]:
        """Trains for an epoch and evaluates.

        Returns:
          The new state; metrics as a record's line has them, scalars; the first step of the epoch whose loss was not
          finite, or -1.
        """
        trainer, steps = self.trainer, jnp.asarray(self.steps, jnp.int32)[epoch]
        state = trainer.train_steps(state, seed, hyperparameters, train, epoch, 0, steps)
        if self.has_last:
            state = trainer.train_last_batch(state, seed, hyperparameters, train)
        if self.reestimate:
            state = trainer.reestimate(state, seed, train, steps)
        nonfinite = state.nonfinite_step
        state, means = trainer.finish_epoch(state)
        metrics = {f"train_{name}": value for name, value in means.items()}
        for split, data in held_out.items():
            metrics |= {f"{split}_{name}": value for name, value in trainer.evaluate(state, data).items()}
        return state, metrics, nonfinite

    def steps_before(self, epoch: int) -> int:
        """Steps of the epochs before `epoch`, counted from 0."""
        return sum(self.steps[:epoch]) + epoch * int(self.has_last)

    def run(
        self, seed: jax.Array, hyperparameters: Hyperparameters, train: PyTree, held_out: Mapping[str, PyTree]
    ) -> Metrics:
        """Trains to the end.

        Returns:
          Each metric of `epoch`, (epochs,); and "diverged_step", int32, the first step of the run whose loss was not
          finite, or -1. Metrics from that epoch on mean nothing.
        """

        def body(state: TrainState, epoch: jax.Array) -> tuple[TrainState, tuple[Metrics, jax.Array]]:
            state, metrics, nonfinite = self.epoch(state, seed, hyperparameters, train, held_out, epoch)
            return state, (metrics, nonfinite)

        epochs = len(self.steps)
        _, (metrics, nonfinite) = jax.lax.scan(body, self.init(seed, hyperparameters), jnp.arange(epochs))
        before = jnp.asarray([self.steps_before(epoch) for epoch in range(epochs)], jnp.int32)
        first = jnp.argmax(nonfinite >= 0)
        return {**metrics, "diverged_step": jnp.where(jnp.any(nonfinite >= 0), (before + nonfinite)[first], -1)}


class Lanes:
    """So many runs at once, an epoch a call. One program serves whatever they are and however many are left.

    Args:
      training: What each does.
      train: Training data.
      held_out: Sets to evaluate on, by name.
      size: How many lanes there are.
      mode: "vectorized": each operation is done for all lanes at once; lanes that have ended are computed for nothing.
        "mapped": lane after lane within the program; those that have ended take no time. "sharded": each device has an
        equal share of the lanes and does them as `inner` says.
      inner: Of "sharded".
      devices: Of "sharded"; all by default.

    Raises:
      ValueError: If `size` is below 1, or not a multiple of the number of devices.
    """

    def __init__(
        self,
        training: Training,
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
            raise ValueError(f"lanes must be a positive multiple of the {len(devices)} devices, got {size}.")
        self.size = size
        self.mode = mode
        self._training = training
        self._shares = len(devices)
        vectorized = (inner if mode == "sharded" else mode) == "vectorized"
        self._init, self._epoch, everywhere = _programs(training, vectorized, devices)
        self._train, self._held_out = jax.device_put((train, dict(held_out)), everywhere)

    def init(self, seeds: Sequence[int], hyperparameters: Sequence[Mapping[str, float]]) -> "Running":
        """States before the first epoch, of as many runs as there are lanes or fewer."""
        count = len(seeds)
        assert count == len(hyperparameters) <= self.size
        filled = [min(lane, count - 1) for lane in range(self.size)]
        lane_seeds = jnp.asarray([seeds[lane] for lane in filled], jnp.int32)
        values = {
            name: jnp.asarray([hyperparameters[lane][name] for lane in filled], float) for name in hyperparameters[0]
        }
        return Running(self._init(lane_seeds, values), lane_seeds, values, count)

    def epoch(self, running: "Running", epoch: int, active: Sequence[int]) -> tuple[Metrics, np.ndarray]:
        """Trains the lanes `active` for an epoch and evaluates them; `running.states` is replaced.

        Returns:
          Metrics, (lanes,) each, and the first step whose loss or gradients were not finite, or -1, (lanes,).
          Those of other lanes mean nothing.
        """
        share = self.size // self._shares
        order = np.zeros((self._shares, share), np.int32)
        counts = np.zeros(self._shares, np.int32)
        for lane in active:
            device, place = divmod(lane, share)
            order[device, counts[device]] = place
            counts[device] += 1
        running.states, metrics, nonfinite = self._epoch(
            running.states,
            running.seeds,
            running.hyperparameters,
            self._train,
            self._held_out,
            jnp.int32(epoch),
            order.reshape(-1),
            counts,
        )
        metrics, nonfinite = jax.device_get((metrics, nonfinite))
        return metrics, np.asarray(nonfinite)

    def steps_before(self, epoch: int) -> int:
        """Steps of the epochs before `epoch`, counted from 0."""
        return self._training.steps_before(epoch)

    def memory_bytes(self, running: "Running") -> int:
        """Of the compiled program on each device: arguments, results and what it needs in between."""
        order = np.zeros(self.size, np.int32)
        compiled = self._epoch.lower(
            running.states,
            running.seeds,
            running.hyperparameters,
            self._train,
            self._held_out,
            jnp.int32(0),
            order,
            np.zeros(self._shares, np.int32),
        ).compile()
        analysis = compiled.memory_analysis()
        return 0 if analysis is None else analysis.argument_size_in_bytes + analysis.temp_size_in_bytes


@dataclasses.dataclass
class Running:
    """Runs under way in lanes.

    Attributes:
      states: Of all lanes, with one leading axis.
      seeds: (lanes,).
      hyperparameters: (lanes,) each.
      count: How many lanes are runs; the rest fills up.
    """

    states: PyTree
    seeds: jax.Array
    hyperparameters: dict[str, jax.Array]
    count: int


# A program for as many lanes as one likes: kept, so that a later sweep in the same process compiles nothing.
@functools.lru_cache(maxsize=8)
def _programs(training: Training, vectorized: bool, devices: tuple[Any, ...]) -> tuple[Any, Any, NamedSharding]:
    """Compiled functions that begin runs and train an epoch, and the sharding of what all devices need whole."""
    mesh = Mesh(np.asarray(devices), (_AXIS,))
    whole, split = PartitionSpec(), PartitionSpec(_AXIS)
    init: Callable[..., Any] = jax.vmap(training.init) if vectorized else functools.partial(_init_mapped, training)
    epoch: Callable[..., Any] = functools.partial(_epoch_vectorized if vectorized else _epoch_mapped, training)
    if len(devices) > 1:
        init = jax.shard_map(init, mesh=mesh, in_specs=split, out_specs=split, check_vma=False)
        epoch = jax.shard_map(
            epoch,
            mesh=mesh,
            in_specs=(split, split, split, whole, whole, whole, split, split),
            out_specs=split,
            check_vma=False,
        )
    # Said once: states that come from `init` must be to the compiled epoch what those are that come from it.
    lanes, everywhere = NamedSharding(mesh, split), NamedSharding(mesh, whole)
    compiled = jax.jit(
        epoch,
        donate_argnums=0,
        in_shardings=(lanes, lanes, lanes, everywhere, everywhere, everywhere, lanes, lanes),
        out_shardings=lanes,
    )
    return jax.jit(init, in_shardings=lanes, out_shardings=lanes), compiled, everywhere


def _init_mapped(training: Training, seeds: jax.Array, values: PyTree) -> PyTree:
    return jax.lax.map(lambda lane: training.init(*lane), (seeds, values))


def _epoch_vectorized(
    training: Training,
    states: PyTree,
    seeds: jax.Array,
    values: PyTree,
    train: PyTree,
    held_out: PyTree,
    epoch: jax.Array,
    order: jax.Array,
    count: jax.Array,
) -> tuple[PyTree, Metrics, jax.Array]:
    """All lanes, whatever `order` and `count` say."""
    del order, count
    return jax.vmap(training.epoch, (0, 0, 0, None, None, None))(states, seeds, values, train, held_out, epoch)


def _epoch_mapped(
    training: Training,
    states: PyTree,
    seeds: jax.Array,
    values: PyTree,
    train: PyTree,
    held_out: PyTree,
    epoch: jax.Array,
    order: jax.Array,
    count: jax.Array,
) -> tuple[PyTree, Metrics, jax.Array]:
    """The first `count` lanes of `order`, one after another."""

    def of(tree: PyTree, lane: jax.Array) -> PyTree:
        return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, lane, keepdims=False), tree)

    def put(tree: PyTree, lane: jax.Array, one: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf, value: jax.lax.dynamic_update_index_in_dim(leaf, value, lane, 0), tree, one)

    def train_lane(lane: jax.Array, states: PyTree) -> tuple[TrainState, Metrics, jax.Array]:
        state, seed, own = of((states, seeds, values), lane)
        return training.epoch(state, seed, own, train, held_out, epoch)

    shapes = jax.eval_shape(train_lane, jnp.int32(0), states)[1:]
    results = jax.tree.map(lambda shape: jnp.zeros((len(seeds), *shape.shape), shape.dtype), shapes)

    def body(index: jax.Array, carry: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        states, results = carry
        lane = order[index]
        state, *result = train_lane(lane, states)
        return put(states, lane, state), put(results, lane, tuple(result))

    states, (metrics, nonfinite) = jax.lax.fori_loop(0, count[0], body, (states, results))
    return states, metrics, nonfinite
