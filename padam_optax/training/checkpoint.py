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

    def save(self, step: int, state: TrainState, position: str = "") -> None:
        """Writes `state` after `step` steps in all; an interrupted write leaves the checkpoints before it alone.

        Args:
          step: Steps since the first epoch began.
          state: What to write.
          position: Where the input stands, for data that the host feeds.
        """
        if step not in self._manager.all_steps():
            items = ocp.args.Composite(
                state=ocp.args.StandardSave(state), input=ocp.args.JsonSave({"position": position})
            )
            self._manager.save(step, args=items)

    def restore(self, like: TrainState) -> tuple[TrainState, str] | None:
        """Returns the newest state, with the shapes, dtypes and shardings of `like`, and the input's position.

        None if there is no checkpoint.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), input=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        assert isinstance(restored["state"], TrainState)
        return restored["state"], restored["input"]["position"]
