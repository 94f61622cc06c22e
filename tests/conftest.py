"""What several test modules share."""

import os
import pathlib

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
