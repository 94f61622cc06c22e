"""Cuts the examples of an epoch into steps: shuffled batches, or consecutive windows of a text."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any
_Result = TypeVar("_Result")


class Batches(Protocol):
    """Cuts data that live on the device into the steps of an epoch."""

    def steps(self, epoch: int, data: PyTree) -> int:
        """Full steps of `epoch` (counted from 0): steps whose arrays have one shape, or one of a few."""
        ...

    def has_last(self, data: PyTree) -> bool:
        """Whether a smaller batch follows the full steps."""
        ...

    def examples(self, epoch: int, start: int, stop: int, data: PyTree) -> int:
        """Examples in the steps `start` to `stop` (not included) of `epoch`."""
        ...

    def plan(self, key: jax.Array, epoch: jax.Array, data: PyTree) -> PyTree:
        """The order of the data in `epoch`, as arrays. `key` serves the choices that depend on the seed."""
        ...

    def rate_factor(self, plan: PyTree, step: jax.Array) -> float | jax.Array:
        """Factor of the learning rate in this step, a scalar."""
        ...

    def at(self, plan: PyTree, step: jax.Array, data: PyTree, function: Callable[[PyTree], _Result]) -> _Result:
        """Returns `function(batch)` for a step's batch. The result's shape does not depend on the batch's."""
        ...

    def last(self, plan: PyTree, data: PyTree) -> PyTree:
        """The smaller batch, if there is one."""
        ...


def steps_of(batches: Batches, epoch: int, data: PyTree) -> int:
    """All steps of `epoch` (counted from 0): the full ones, and the smaller one if there is one."""
    return batches.steps(epoch, data) + int(batches.has_last(data))


@dataclasses.dataclass(frozen=True)
class Shuffled(Batches):
    """Batches from a permutation of the examples that depends on the seed and the epoch.

    Data are trees of arrays with one leading axis, the examples.

    Attributes:
      size: Examples a step.
      keep_last: Whether the examples left over make a smaller last batch; otherwise the epoch leaves them out.
    """

    size: int
    keep_last: bool = False

    def steps(self, epoch: int, data: PyTree) -> int:
        del epoch
        return _count(data) // self.size

    def has_last(self, data: PyTree) -> bool:
        return self.keep_last and _count(data) % self.size > 0

    def examples(self, epoch: int, start: int, stop: int, data: PyTree) -> int:
        del epoch
        return min(stop * self.size, _count(data)) - start * self.size

    def plan(self, key: jax.Array, epoch: jax.Array, data: PyTree) -> jax.Array:
        """The permutation, (examples,)."""
        del epoch
        # The keys of the steps have the numbers from 0 to one below this.
        return jax.random.permutation(jax.random.fold_in(key, self.all_steps(_count(data))), _count(data))

    def rate_factor(self, plan: jax.Array, step: jax.Array) -> float:
        del plan, step
        return 1.0

    def at(self, plan: jax.Array, step: jax.Array, data: PyTree, function: Callable[[PyTree], _Result]) -> _Result:
        return function(_take(data, jax.lax.dynamic_slice_in_dim(plan, step * self.size, self.size)))

    def last(self, plan: jax.Array, data: PyTree) -> PyTree:
        return _take(data, plan[self.steps(0, data) * self.size :])

    def all_steps(self, examples: int) -> int:
        """Steps of an epoch over this many examples, including the smaller batch."""
        return -(-examples // self.size) if self.keep_last else examples // self.size


@dataclasses.dataclass(frozen=True)
class Windows(Batches):
    """Consecutive windows of a text in columns, for truncated back-propagation through time.

    Data are {"tokens": (rows, columns), int32}. A batch is {"inputs", "targets"}, (T, columns) each, and "length", the
    number of steps of T that count. Random lengths are drawn as in the public AWD-LSTM code: normal around `length`, or
    around half of it with probability .05, with standard deviation 5, clipped to [5, 100]. The learning rate is
    multiplied by the drawn length over `length`. Shapes are static: a window gets the shortest of `buckets` that holds
    it, and the steps beyond its length are masked, so that no window compiles anew and few steps are wasted. Lengths
    depend on the epoch but not on the seed, so that runs of several seeds under `vmap` share one set of windows.

    Attributes:
      length: Steps of a window; the centre of their distribution if `random`.
      random: Whether lengths are drawn at random.
    """

    length: int
    random: bool = False

    SHORTEST = 5
    LONGEST = 100
    DEVIATION = 5.0
    HALVED = 0.05

    @property
    def buckets(self) -> tuple[int, ...]:
        """Lengths T that a batch can have."""
        if not self.random:
            return (self.length,)
        around = (self.length // 2 + 10, self.length - 6, self.length + 2, self.length + 10)
        return (*sorted({size for size in around if self.SHORTEST < size < self.LONGEST}), self.LONGEST)

    def steps(self, epoch: int, data: PyTree) -> int:
        return len(_starts(self, epoch, _count(data)))

    def has_last(self, data: PyTree) -> bool:
        del data
        return False

    def examples(self, epoch: int, start: int, stop: int, data: PyTree) -> int:
        """Tokens in these steps: here an example is a token."""
        rows, columns = data["tokens"].shape
        starts = (*_starts(self, epoch, rows), rows - 1)
        return (starts[stop] - starts[start]) * columns

    def plan(self, key: jax.Array, epoch: jax.Array, data: PyTree) -> tuple[jax.Array, jax.Array]:
        """The `windows` of the epoch; they do not depend on the seed."""
        del key
        return self.windows(epoch, _count(data))

    def rate_factor(self, plan: tuple[jax.Array, jax.Array], step: jax.Array) -> float | jax.Array:
        """The drawn length over `length`, even where the end of the text cuts the window short."""
        _, drawn = plan
        return drawn[step].astype(float) / self.length if self.random else 1.0

    def at(
        self,
        plan: tuple[jax.Array, jax.Array],
        step: jax.Array,
        data: PyTree,
        function: Callable[[PyTree], _Result],
    ) -> _Result:
        starts, drawn = plan
        start = starts[step]
        length = jnp.minimum(drawn[step], _count(data) - 1 - start)

        def cut(size: int) -> _Result:
            # Steps beyond the end of the text repeat its last token and do not count.
            times = jnp.minimum(start + jnp.arange(size + 1), _count(data) - 1)
            tokens = data["tokens"][times]
            return function({"inputs": tokens[:-1], "targets": tokens[1:], "length": length})

        if len(self.buckets) == 1:
            return cut(self.buckets[0])
        bucket = jnp.sum(length > jnp.asarray(self.buckets[:-1]))
        return jax.lax.switch(bucket, [functools.partial(cut, size) for size in self.buckets])

    def last(self, plan: PyTree, data: PyTree) -> PyTree:
        raise AssertionError("windows have no smaller batch")

    def mean_steps(self, rows: int) -> float:
        """Windows of an epoch, on average over epochs."""
        mean = self.length * (1 - self.HALVED / 2) if self.random else self.length
        return (rows - 1) / mean

    def windows(self, epoch: jax.Array | int, rows: int) -> tuple[jax.Array, jax.Array]:
        """Starts and drawn lengths, int32, of as many windows as a text with this many rows can need, in order."""
        if not self.random:
            starts = jnp.arange(0, max(rows - 2, 1), self.length, jnp.int32)
            return starts, jnp.full_like(starts, self.length)
        count = -(-rows // self.SHORTEST)
        halving, around = jax.random.split(jax.random.fold_in(jax.random.key(0), epoch))
        base = jnp.where(jax.random.uniform(halving, (count,)) < self.HALVED, self.length // 2, self.length)
        drawn = base + self.DEVIATION * jax.random.normal(around, (count,))
        lengths = jnp.clip(drawn.astype(jnp.int32), self.SHORTEST, self.LONGEST)
        return jnp.cumulative_sum(lengths, include_initial=True)[:-1].astype(jnp.int32), lengths


@functools.lru_cache(maxsize=512)
def _starts(windows: Windows, epoch: int, rows: int) -> tuple[int, ...]:
    """Starts of an epoch's windows; as in the public code, each lies before row `rows - 2`."""
    # Within a compiled function too, where the starts are constants.
    with jax.ensure_compile_time_eval():
        starts = np.asarray(windows.windows(epoch, rows)[0])
    return tuple(int(start) for start in starts if start < max(rows - 2, 1))


def _count(data: PyTree) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def _take(data: PyTree, indices: jax.Array) -> PyTree:
    return jax.tree.map(lambda array: array[indices], data)
