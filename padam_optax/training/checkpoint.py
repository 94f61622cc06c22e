"""Checkpoints of a run through Orbax."""

import pathlib

import jax
import orbax.checkpoint as ocp

from padam_optax.training.loop import TrainState


class Checkpoints:
    """The last two states of a run, named by the steps done. A context manager; saves are complete on return."""

    def __init__(self, directory: pathlib.Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState) -> None:
        """Writes `state` after `step` steps in all; an interrupted write leaves the checkpoints before it alone."""
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(state))

    def clear(self) -> None:
        """Deletes every checkpoint."""
        for step in self._manager.all_steps():
            self._manager.delete(step)

    def restore(self, like: TrainState) -> TrainState | None:
        """Returns the newest state, with the shapes, dtypes and shardings of `like`, or None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        state = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        assert isinstance(state, TrainState)
        return state
