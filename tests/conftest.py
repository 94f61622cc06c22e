"""What several test modules share."""

import os
import pathlib

import jax
import pytest


@pytest.fixture(scope="session")
def shared_data():
    """Maps a name to its path in the data folder: that of PADAM_TEST_DATA, or `../shared/data` beside the checkout.

    A test that asks for a file that is not there is skipped; with PADAM_TEST_DATA set it fails.
    """
    named = os.environ.get("PADAM_TEST_DATA")
    folder = pathlib.Path(named) if named else pathlib.Path(__file__).parents[2] / "shared" / "data"

    def find(name: str) -> pathlib.Path:
        path = folder / name
        if path.exists():
            return path
        if named:
            pytest.fail(f"PADAM_TEST_DATA is set, but {path} does not exist.")
        pytest.skip(f"needs {name} in the folder named by PADAM_TEST_DATA.")

    return find


@pytest.fixture(scope="module")
def fast_compilation():
    """Compiles a module's programs without most optimizations: for tests whose time that is, and that ask for no bit.

    What JAX_DISABLE_MOST_OPTIMIZATIONS does for other processes.
    """
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)
