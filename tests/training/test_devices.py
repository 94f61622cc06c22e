"""One training on several devices: the same numbers, the state where it belongs, and no needless communication."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from two_processes import coordinator, pair

from padam_optax.training.placement import ONE_DEVICE, across

PROGRAM = pathlib.Path(__file__).parents[1] / "support" / "devices_program.py"
RUNS = [("first steps", "8"), ("images", "8, optimizer sharded"), ("text", "8")]
# The last compiles faster.
SETTINGS = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}

each_run = pytest.mark.parametrize(("task", "place"), RUNS)


@pytest.fixture(scope="module")
def results() -> dict:
    """The number of devices has to be set before JAX starts."""
    environment = os.environ | SETTINGS | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_agree(found: dict, expected: dict) -> None:
    """Metrics and parameters to 1e-12; totals of the training are kept in float32."""
    for one, other in zip(found["metrics"], expected["metrics"], strict=True):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-12 if name.startswith(("test", "valid")) else 1e-6), name
    for one, other in zip(found["params"], expected["params"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@each_run
def test_numbers_do_not_depend_on_the_devices(results, task, place):
    """In float64, where sums in another order differ by 1e-16: batch statistics, gradients, random draws, all."""
    assert_agree(results[task][place], results[task]["1"])


def test_numbers_do_not_depend_on_the_processes(results):
    address = coordinator()
    both = pair(lambda number: [PROGRAM, address, number], **SETTINGS)
    (output, errors), _ = (process.communicate() for process in both)
    assert [process.returncode for process in both] == [0, 0], errors
    found = json.loads(output.splitlines()[-1])
    for task in ("stream", "text"):
        assert_agree(found[task]["2 processes"], results[task]["1"])
        assert found[task]["2 processes"]["stays in place"]


@each_run
def test_state_stays_in_place(results, task, place):
    """From `init` on: nothing is moved, and nothing compiled twice, because a step leaves it somewhere else."""
    assert results[task][place]["stays in place"]
    assert results[task][place]["params are whole"]


def test_each_device_computes_its_part(results):
    """The compiler's count of operations falls, though not to 1/8: each device computes the whole update."""
    assert results["first steps"]["8"]["flops"] < 0.25 * results["first steps"]["1"]["flops"]


def test_parameters_are_not_communicated(results):
    """Sums over the devices, and nothing else."""
    assert results["first steps"]["8"]["collectives"] == ["all-reduce"]


def test_optimizer_state_is_divided(results):
    """Each device has an eighth of what has an axis that 8 divides, and the rest whole."""
    whole, divided = results["first steps"]["8"], results["images"]["8, optimizer sharded"]
    sizes = [(int(np.prod(shape)), any(size % 8 == 0 for size in shape)) for shape in whole["sizes"]]
    share = sum(size / 8 if divides else size for size, divides in sizes) / sum(size for size, _ in sizes)
    assert share < 0.2
    assert len(set(divided["bytes"])) == len(set(whole["bytes"])) == 1
    # The step counters have 4 bytes instead of 8.
    assert divided["bytes"][0] == pytest.approx(share * whole["bytes"][0], rel=0.01)
    assert results["images"]["1"]["bytes"] == whole["bytes"][:1]


def test_one_device_is_no_mesh():
    assert across(1) == ONE_DEVICE


@pytest.mark.parametrize("count", [0, jax.local_device_count() + 1])
def test_so_many_devices_there_must_be(count):
    with pytest.raises(ValueError, match=f"from 1 to {jax.local_device_count()}, .* got {count}"):
        across(count)
