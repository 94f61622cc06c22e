"""Where the arrays of a training lie on several devices."""

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any
_Tree = TypeVar("_Tree")

AXIS = "data"


@dataclasses.dataclass(frozen=True)
class Placement:
    """Data parallelism: batches are split among the devices, and each device holds all parameters.

    The compiled functions keep their meaning: a mean over a batch, of gradients or of batch normalisation's statistics,
    covers the whole batch. The compiler adds the communication.

    Attributes:
      mesh: Has the one axis "data"; None for JAX's default device alone.
      shard_optimizer: Whether the optimizer's state is split too (ZeRO-1, Rajbhandari et al., 2020). Each array is
        split along its first axis that the number of devices divides; an array without such an axis stays whole.
    """

    mesh: Mesh | None = None
    shard_optimizer: bool = False

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return 1 if self.mesh is None else self.mesh.size

    def split(self, batch: _Tree, axis: int) -> _Tree:
        """Splits a batch among the devices, along `axis` of its arrays; for use in a compiled function.

        Arrays without that axis, or with fewer entries along it than devices, stay whole; parts may differ in size.
        """
        if self.mesh is None:
            return batch

        def place(leaf: jax.Array) -> jax.Array:
            if leaf.ndim <= axis or leaf.shape[axis] < self.devices:
                return leaf
            return jax.lax.with_sharding_constraint(leaf, self._along(axis))

        return jax.tree.map(place, batch)

    def whole(self, tree: _Tree) -> _Tree:
        """Makes each device hold all of `tree`; for use in a compiled function."""
        return tree if self.mesh is None else jax.lax.with_sharding_constraint(tree, self._everywhere)

    def optimizer_state(self, opt_state: _Tree) -> _Tree:
        """Splits the optimizer's state if `shard_optimizer` says so; for use in a compiled function."""
        if self.mesh is None or not self.shard_optimizer:
            return self.whole(opt_state)

        def place(leaf: jax.Array) -> jax.Array:
            axes = (axis for axis, size in enumerate(leaf.shape) if size and size % self.devices == 0)
            axis = next(axes, None)
            return jax.lax.with_sharding_constraint(leaf, self._everywhere if axis is None else self._along(axis))

        return jax.tree.map(place, opt_state)

    def put_whole(self, tree: PyTree) -> PyTree:
        """Copies host arrays, the same in every process, to each device."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(self._everywhere, np.asarray(leaf), np.shape(leaf)),
            tree,
        )

    def put_batch(self, tree: PyTree) -> PyTree:
        """Makes one batch, split along the first axis, from host arrays: each process gives its share."""
        if self.mesh is None:
            return jax.tree.map(jnp.asarray, tree)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._along(0), np.asarray(leaf)), tree)

    @property
    def _everywhere(self) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec())

    def _along(self, axis: int) -> NamedSharding:
        assert self.mesh is not None
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, AXIS))


ONE_DEVICE = Placement()


def across(devices: int | None = None, *, shard_optimizer: bool = False) -> Placement:
    """Returns the placement on every device of all processes, or on the first `devices` of each process.

    Args:
      devices: How many devices of each process; by default all that JAX shows.
      shard_optimizer: See `Placement`.

    Raises:
      ValueError: If a process has fewer devices, or `devices` is below 1.
    """
    found = jax.local_device_count()
    if devices is not None and not 1 <= devices <= found:
        raise ValueError(f"devices must be from 1 to {found}, the number that JAX shows, got {devices}.")
    chosen = [
        device
        for process in range(jax.process_count())
        for device in jax.local_devices(process_index=process)[:devices]
    ]
    if len(chosen) == 1:
        return ONE_DEVICE
    mesh = jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)
    return Placement(mesh, shard_optimizer)
