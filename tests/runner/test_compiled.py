"""Where compiled programs are kept."""

import jax
import pytest

from padam_optax.runner.compiled import keep_programs

FOLDER, SHORTEST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture(autouse=True)
def unset():
    """As if nobody had set anything; JAX has what it had before afterwards."""
    before = {name: jax.config.values[name] for name in (FOLDER, SHORTEST)}
    jax.config.update(FOLDER, None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keep_programs("~/programs") == tmp_path / "programs"
    assert (tmp_path / "programs").is_dir()
    assert jax.config.values[FOLDER] == str(tmp_path / "programs")
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        keep_programs(tmp_path / "file")


def test_the_default(tmp_path, monkeypatch):
    """In the user's cache, apart for each kind of processor; where that cannot be written, nothing is kept."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / name)
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    kept = keep_programs()
    assert kept.parent == tmp_path / "padam_optax" / "programs"
    assert kept.is_dir()
    assert jax.config.values[FOLDER] == str(kept)
    assert jax.config.values[SHORTEST] == 0.2
    jax.config.update(FOLDER, None)
    (tmp_path / "file").touch()
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "file")
    assert keep_programs() is None
    assert jax.config.values[FOLDER] is None


def test_a_setting_of_jax_stands(tmp_path):
    jax.config.update(FOLDER, str(tmp_path))
    assert keep_programs() == tmp_path
    assert keep_programs(tmp_path / "other") == tmp_path / "other"
