"""Checkpoints that were damaged, cut short or could not be written."""

import dataclasses
import json
import os
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


def without_checksums(checkpoint: pathlib.Path) -> None:
    (checkpoint / "checksums.json").unlink()


def with_no_checksum(checkpoint: pathlib.Path) -> None:
    (checkpoint / "checksums.json").write_text("{}")


@pytest.mark.parametrize("change", [without_checksums, with_no_checksum])
def test_nothing_to_check_against(folder, change):
    """As a kill may leave it: what Orbax holds for whole is used with a warning, and what it finds damaged is not."""
    for step in (2, 3):
        change(folder / str(step))
    with Checkpoints(folder) as checkpoints:
        with pytest.warns(CheckpointWarning, match=rf"{folder / '3'} is used, but .* no checksum of \d+ of its files"):
            found, position = checkpoints.restore(state(0))
        assert (int(found.step), position) == (3, "position 3")
    truncate(values_file(folder / "3"))
    with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning) as caught:
        assert checkpoints.restore(state(0))[1] == "position 2"
    assert re.search("was damaged", str(caught[0].message))
    assert re.search(rf"{folder / '2'} is used, but", str(caught[1].message))


def test_a_file_without_a_checksum_is_named(folder):
    path = folder / "3" / "checksums.json"
    listed = json.loads(path.read_text())
    del listed["state/_METADATA"]
    path.write_text(json.dumps(listed))
    message = r"no checksum of 1 of its files \(such as state/_METADATA\)"
    with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning, match=message):
        assert checkpoints.restore(state(0))[1] == "position 3"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_another_dtype(folder, dtype):
    """Orbax would convert it."""
    like = dataclasses.replace(state(0), params={"w": jnp.zeros((2_000,), dtype)})
    message = rf"params\.w has the dtype uint32, expected {jnp.dtype(dtype)}"
    with Checkpoints(folder) as checkpoints, pytest.raises(CheckpointError, match=message):
        checkpoints.restore(like)
    assert restored(folder) == (3, "position 3")


def to_the_same_file(path: pathlib.Path, elsewhere: pathlib.Path) -> None:
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def to_no_end(path: pathlib.Path, elsewhere: pathlib.Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path: pathlib.Path, elsewhere: pathlib.Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("put", [to_the_same_file, to_no_end, pipe])
@pytest.mark.parametrize("name", ["checksums.json", "_CHECKPOINT_METADATA", "state/manifest.ocdbt", "state/_METADATA"])
def test_what_no_checkpoint_holds(folder, tmp_path, put, name):
    """It would be read elsewhere, waited for, or read without end: it is refused before anything is read."""
    put(folder / "2" / name, tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{folder / '2' / name} is (a link|neither).*--no-resume"):
        Checkpoints(folder)


def test_a_folder_that_is_a_link(folder, tmp_path):
    to_the_same_file(folder / "3", tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=rf"{folder / '3'} is a link"):
        Checkpoints(folder)
    assert (tmp_path / "elsewhere" / "state").is_dir()


@pytest.mark.parametrize("name", ["state/_METADATA", "_CHECKPOINT_METADATA", "checksums.json", "state/more"])
def test_files_of_no_sane_size(folder, name):
    """Holes of a terabyte: they take no space, and no memory could hold them."""
    path = folder / "3" / name
    path.touch()
    os.truncate(path, 1 << 40)
    if name.endswith("METADATA"):
        with pytest.raises(CheckpointError, match=rf"{path} has 1,099,511,627,776 bytes"):
            Checkpoints(folder)
    else:
        with Checkpoints(folder) as checkpoints, pytest.warns(CheckpointWarning, match=rf"{folder / '3'} was damaged"):
            assert checkpoints.restore(state(0))[1] == "position 2"


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
