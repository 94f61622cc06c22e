"""Where compiled programs are kept."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from padam_optax.runner.compiled import forget_damaged, keep_programs

FOLDER, SHORTEST = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"


@pytest.fixture(autouse=True)
def unset():
    """As if nobody had set anything; JAX has what it had before afterwards."""
    before = {name: jax.config.values[name] for name in (FOLDER, SHORTEST)}
    jax.config.update(FOLDER, None)
    compilation_cache.reset_cache()
    yield
    compilation_cache.reset_cache()
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


def test_a_program_that_was_cut_off_is_written_again(tmp_path, monkeypatch):
    """As a kill leaves it. JAX alone would never write over it."""
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    jax.config.update(SHORTEST, 0.0)
    keep_programs(tmp_path)

    def program(x):
        return jnp.sin(x) + 1

    def compiled() -> list[bool]:
        """Whether each warning is one that is mended."""
        mended = []
        jax.clear_caches()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = lambda message, *_, **__: mended.append(forget_damaged(str(message)))
            jax.jit(program)(jnp.ones(3))
        return mended

    assert compiled() == []
    (path,) = tmp_path.glob("jit_program-*-cache")
    path.write_bytes(path.read_bytes()[:50])
    assert compiled() == [True]
    assert path.stat().st_size > 50
    assert compiled() == []
    assert not forget_damaged("Another warning.")
