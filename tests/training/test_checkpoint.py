"""Checkpoints that were damaged, cut short or could not be written."""

import pathlib
import re
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import largest_file

from padam_optax.training.checkpoint import CheckpointError, Checkpoints, CheckpointWarning
from padam_optax.training.loop import TrainState


def state(step: int) -> TrainState:
    """Arrays that zstd cannot compress, so that any damage to their file is one to their values."""
    zero = jnp.zeros([], jnp.int32)
    values = jax.random.bits(jax.random.key(step), (2_000,), jnp.uint32)
    return TrainState(zero, zero + step, {"w": values}, {}, {"mu": values // 2}, {"loss": jnp.float32(0.5)}, zero - 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state(step), f"position {step}")
    return folder


@pytest.fixture
def folder(saved, tmp_path) -> pathlib.Path:
    """Holds the checkpoints 2 and 3."""
    return shutil.copytree(saved, tmp_path / "checkpoints")


def values_file(checkpoint: pathlib.Path) -> pathlib.Path:
    return max(checkpoint.rglob("*"), key=lambda path: path.stat().st_size)


def delete(path: pathlib.Path) -> None:
    path.unlink()


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def truncate(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def alter(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


each_damage = pytest.mark.parametrize("damage", [delete, empty, truncate, alter])


def restored(folder: pathlib.Path) -> tuple[int, str]:
    """The step and the position of what is restored, which is whole and comes without a warning."""
    with warnings.catch_warnings(), Checkpoints(folder) as checkpoints:
        warnings.simplefilter("error", CheckpointWarning)
        found, position = checkpoints.restore(state(0))
    jax.tree.map(np.testing.assert_array_equal, found, state(int(found.step)))
    return int(found.step), position


def test_the_newest_is_restored(folder):
    assert restored(folder) == (3, "position 3")
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


@each_damage
@pytest.mark.parametrize(
    "of", [values_file, lambda checkpoint: checkpoint / "input" / "metadata"], ids=["values", "input"]
)
def test_the_one_before_a_damaged_one_is_restored(folder, damage, of):
    damage(of(folder / "3"))
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(CheckpointWarning) as caught:
            found, position = checkpoints.restore(state(0))
        (warning,) = caught
        assert re.search(rf"{folder / '3'} was damaged .*{folder / '2'}\.", str(warning.message))
        assert of(folder / "2").name in str(warning.message) or of is values_file
        jax.tree.map(np.testing.assert_array_equal, found, state(2))
        assert position == "position 2"
        checkpoints.save(3, state(3), "again")
    assert restored(folder) == (3, "again")


@pytest.mark.parametrize("damage", [empty, truncate, alter])
def test_damaged_checksums(folder, damage):
    damage(folder / "3" / "checksums.json")
    with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning, match="checksums"):
        checkpoints.restore(state(0))
    assert restored(folder) == (2, "position 2")


def test_killed_before_the_checksums(folder):
    """What Orbax holds for whole is used, and what it finds damaged is not."""
    for step in (2, 3):
        delete(folder / str(step) / "checksums.json")
    assert restored(folder) == (3, "position 3")
    truncate(values_file(folder / "3"))
    with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning, match="was damaged"):
        checkpoints.restore(state(0))
    assert restored(folder) == (2, "position 2")


def test_none_is_whole(folder):
    delete(values_file(folder / "3"))
    empty(values_file(folder / "2"))
    before = sorted(folder.rglob("*"))
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointError) as caught:
        checkpoints.restore(state(0))
    message = str(caught.value)
    assert re.search(
        rf"No checkpoint in {folder} .*3: .* is missing; 2: .* has 0 bytes, expected .*--no-resume", message
    )
    assert sorted(folder.rglob("*")) == before


def test_nothing_is_left_of_a_checkpoint(folder):
    shutil.rmtree(folder / "3")
    (folder / "3").mkdir()
    with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning, match=f"{folder / '3'} was damaged"):
        checkpoints.restore(state(0))
    assert restored(folder) == (2, "position 2")


def test_another_structure(folder):
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointError, match="can be used"):
        checkpoints.restore(state(0).params)
    assert restored(folder) == (3, "position 3")


def test_none_was_written(tmp_path):
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(state(0)) is None


def test_a_full_disk(folder):
    with (
        Checkpoints(folder) as checkpoints,
        largest_file(1_000),
        pytest.raises(CheckpointError, match=f"written to {folder}: .*File too large.*intact"),
    ):
        checkpoints.save(4, state(4))
    assert restored(folder) == (3, "position 3")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(4, state(4), "again")
    assert restored(folder) == (4, "again")
    assert sorted(path.name for path in folder.iterdir()) == ["3", "4"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=f"written to {tmp_path / 'file' / 'checkpoints'}: "):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_a_lost_process_is_no_damage(folder, monkeypatch):
    """Neither a checkpoint that cannot be used nor a full disk: nothing is wrong with the files."""

    def lost(*_, **__):
        raise jax.errors.JaxRuntimeError("another task died")

    with Checkpoints(folder) as checkpoints, monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", lost)
        patch.setattr(checkpoints._manager, "restore", lost)
        patch.setattr(jax, "process_count", lambda: 2)
        with pytest.raises(jax.errors.JaxRuntimeError, match="another task died"):
            checkpoints.restore(state(0))
        with pytest.raises(jax.errors.JaxRuntimeError, match="another task died"):
            checkpoints.save(9, state(9))
