"""What several test modules share."""

import os
import pathlib
import shutil
import tempfile

import jax
import pytest

# A program that two tests, two workers or a test's own processes compile, is compiled once in a run.
_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not _WORKER and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _CACHE = tempfile.mkdtemp(prefix="padam-test-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
    jax.config.update("jax_compilation_cache_dir", _CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
else:
    _CACHE = None

# Folders whose tests compile small networks: optimizing their machine code costs more than it gains. What XLA does to a
# program before stays.
_TRAINING = {"benchmarks", "cli", "docs", "models", "runner", "training"}


def pytest_unconfigure():
    """Removes what was compiled."""
    if _CACHE is not None:
        shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation(request):
    if request.path.parent.name not in _TRAINING:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
        jax.config.update("jax_disable_most_optimizations", False)


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


def _restored_registries():
    from padam_optax.experiments import EXPERIMENTS
    from padam_optax.experiments.methods import METHODS
    from padam_optax.runner.datasets import DATASETS
    from padam_optax.runner.programs import MODELS

    before = [(registry, dict(registry)) for registry in (EXPERIMENTS, METHODS, DATASETS, MODELS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.fixture
def registries():
    """Takes back what a test registers."""
    yield from _restored_registries()


@pytest.fixture(scope="module")
def registries_of_a_module():
    """Takes back what the tests of a module register."""
    yield from _restored_registries()
