"""Checkpoints of a run through Orbax, each with the checksums of its files.

The checksums find damage. They do not find tampering: who can change a file can change its checksum.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import pathlib
import re
import secrets
import stat
import sys
import warnings
from collections.abc import Generator
from typing import Any

import jax
import orbax.checkpoint as ocp

from padam_optax.training.loop import TrainState

# Orbax's own checksums cover the index of an array's values, not the values.
_CHECKSUMS = "checksums.json"
# Largest sizes in bytes: of a checkpoint beyond twice its arrays, and of one metadata file.
_SPARE_BYTES = 1 << 26
_MOST_METADATA_BYTES = 1 << 24
_LONGEST_REASON = 300
_REMOVE = "Remove it, or start anew with --no-resume (resume=False)."


class CheckpointError(OSError):
    """No checkpoint can be written, or none can be used; the message says what to do."""


class CheckpointWarning(UserWarning):
    """A run goes on from before its newest checkpoint or the end of its record, or from files that have no checksum."""


class Checkpoints:
    """Keeps the last two states of a run, named by the steps done. A context manager; saves are complete on return.

    Raises:
      CheckpointError: If the folder cannot be made, or holds what no checkpoint holds: a link, a pipe, a device.
    """

    def __init__(self, directory: pathlib.Path):
        self._directory = directory.absolute()
        # The manager reads some files, and removes unfinished ones, as soon as it is made.
        _check_kinds(self._directory)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        # Named here, so that a manager knows what an item holds before it has saved or restored one.
        handlers = {"state": ocp.StandardCheckpointHandler(), "input": ocp.JsonCheckpointHandler()}
        with self._writing():
            self._manager = ocp.CheckpointManager(self._directory, options=options, item_handlers=handlers)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    def save(self, step: int, state: TrainState, position: str = "") -> None:
        """Writes `state`, reached after `step` steps. An interrupted write leaves earlier checkpoints intact.

        Args:
          step: Steps since the first epoch began.
          state: What to write.
          position: Position of the input, for data that the host feeds.

        Raises:
          CheckpointError: If the checkpoint cannot be written, such as on a full disk.
          jax.errors.JaxRuntimeError: If another process is lost; the files are intact then.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), input=ocp.args.JsonSave({"position": position}))
        with self._writing():
            self._manager.save(step, args=items)
            if jax.process_index() == 0:
                _write_checksums(self._directory / str(step))

    @contextlib.contextmanager
    def _writing(self) -> Generator[None]:
        try:
            with _quiet():
                yield
        except Exception as error:  # Orbax passes on any exception of its storage.
            if _is_from_a_lost_process(error):
                raise
            raise CheckpointError(
                f"No checkpoint could be written to {self._directory}: {_reason(error)}. Earlier checkpoints are"
                " intact: mend this, then run the same command to go on from there."
            ) from error

    def restore(self, like: TrainState) -> tuple[TrainState, str] | None:
        """Returns the newest undamaged state, with the shapes, dtypes and shardings of `like`.

        Damaged newer checkpoints are removed; the run writes them again. A `CheckpointWarning` names them and the one
        that is used. Another warning names files without a checksum, in which damage goes unnoticed.

        Args:
          like: A state of the same structure.

        Returns:
          The state and the input's position, or None if there is no checkpoint.

        Raises:
          CheckpointError: If there are checkpoints, but none can be used.
          jax.errors.JaxRuntimeError: If another process is lost.
        """
        damaged: dict[int, str] = {}
        most_bytes = 2 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(like))
        for step in sorted(self._manager.all_steps(), reverse=True):
            damage = _damage(self._directory / str(step), most_bytes + _SPARE_BYTES)
            if damage is None:
                try:
                    restored = self._read(step, like)
                except Exception as error:  # Orbax passes on any exception of its storage.
                    if _is_from_a_lost_process(error):
                        raise
                    damage = _reason(error)
                else:
                    self._remove(damaged, step)
                    _warn_of_unchecked(self._directory / str(step))
                    return restored
            damaged[step] = damage
        if not damaged:
            return None
        raise CheckpointError(
            f"No checkpoint in {self._directory} can be used: "
            + "; ".join(f"{step}: {damage}" for step, damage in damaged.items())
            + ". Put an intact one there, or start anew with --no-resume (resume=False)."
        )

    def _read(self, step: int, like: TrainState) -> tuple[TrainState, str]:
        self._check_dtypes(step, like)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), input=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        assert isinstance(restored["state"], TrainState)
        return restored["state"], restored["input"]["position"]

    def _check_dtypes(self, step: int, like: TrainState) -> None:
        """Refuses a state whose dtypes differ from the saved ones, which Orbax would convert."""
        metadata: Any = self._manager.item_metadata(step)["state"]
        if metadata is None:
            raise CheckpointError("the dtypes of its arrays cannot be read")
        found = {leaf.name: leaf.dtype for leaf in jax.tree.leaves(metadata.tree)}
        for path, leaf in jax.tree_util.tree_leaves_with_path(like):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if name in found and found[name] != leaf.dtype:
                raise CheckpointError(f"{name} has the dtype {found[name]}, expected {leaf.dtype}")

    def _remove(self, damaged: dict[int, str], used: int) -> None:
        for step, damage in damaged.items():
            self._manager.delete(step)
            warnings.warn(
                f"The checkpoint {self._directory / str(step)} was damaged ({damage}) and is removed; the run goes on"
                f" from the checkpoint before it, {self._directory / str(used)}.",
                CheckpointWarning,
                stacklevel=3,
            )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silences the pages that Orbax's threads print about an error, which is raised as well."""
    logger = logging.getLogger("absl")
    level, hook = logger.level, sys.unraisablehook
    logger.setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda unraisable: None
    try:
        yield
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook


def _is_from_a_lost_process(error: Exception) -> bool:
    """Whether the error comes from waiting for another process, and so says nothing about the files."""
    return jax.process_count() > 1 and isinstance(error, jax.errors.JaxRuntimeError)


def _check_kinds(directory: pathlib.Path) -> None:
    """Refuses what a checkpoint never holds: links, which lead elsewhere, and files that are read without end."""
    for parent, folders, files in os.walk(directory):
        for name in (*folders, *files):
            path = pathlib.Path(parent, name)
            status = path.lstat()
            regular = stat.S_ISREG(status.st_mode)
            if not regular and not stat.S_ISDIR(status.st_mode):
                kind = "a link" if stat.S_ISLNK(status.st_mode) else "neither a file nor a folder"
                raise CheckpointError(f"{path} is {kind}, which no checkpoint holds. {_REMOVE}")
            if regular and name.endswith("METADATA") and status.st_size > _MOST_METADATA_BYTES:
                raise CheckpointError(f"{path} has {status.st_size:,} bytes, too many for metadata. {_REMOVE}")


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUMS)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_checksums(folder: pathlib.Path) -> None:
    """Writes `checksums.json`, the size and SHA-256 of each file of a checkpoint, whole or not at all."""
    found = {name: [path.stat().st_size, _sha256(path)] for name, path in _files(folder).items()}
    # Nobody can foresee this name and put a link there; mode "x" follows no link.
    part = folder / f".{secrets.token_hex(8)}.part"
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(json.dumps(found, indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / _CHECKSUMS)
    finally:
        part.unlink(missing_ok=True)


def _checksums(folder: pathlib.Path) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of a checkpoint's files by name; empty without `checksums.json`, as after a kill.

    Raises:
      ValueError: If `checksums.json` is not what was written.
    """
    path = folder / _CHECKSUMS
    if not path.exists():
        return {}
    if path.stat().st_size > _MOST_METADATA_BYTES:
        raise ValueError
    try:
        return {str(name): (int(size), str(digest)) for name, (size, digest) in json.loads(path.read_bytes()).items()}
    except (TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError from error


def _damage(folder: pathlib.Path, most_bytes: int) -> str | None:
    """The damage that a checkpoint's sizes and checksums show, or None."""
    files = _files(folder)
    total = sum(path.stat().st_size for path in files.values())
    if total > most_bytes:
        return f"its files have {total:,} bytes, expected at most {most_bytes:,}"
    try:
        expected = _checksums(folder)
    except ValueError:
        return f"{_CHECKSUMS} is not what was written"
    for name, (size, digest) in expected.items():
        if name not in files:
            return f"{name} is missing"
        if (found := files[name].stat().st_size) != size:
            return f"{name} has {found:,} bytes, expected {size:,}"
        if _sha256(files[name]) != digest:
            return f"{name} was altered"
    return None


def _warn_of_unchecked(folder: pathlib.Path) -> None:
    unchecked = sorted(_files(folder).keys() - _checksums(folder).keys())
    if unchecked:
        warnings.warn(
            f"The checkpoint {folder} is used, but its {_CHECKSUMS} has no checksum of {len(unchecked)} of its files"
            f" (such as {unchecked[0]}): damage to them would go unnoticed.",
            CheckpointWarning,
            stacklevel=3,
        )


def _reason(error: Exception) -> str:
    """The cause in one line, from the pages that Orbax reports: the system's own message if there is one."""
    text = str(error).strip() or type(error).__name__
    if code := re.search(r"os_error_code='(\d+)'", text):
        return os.strerror(int(code[1]))
    line = text.splitlines()[0]
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON]} ..."
