"""Sharded parameters, on 8 fake CPU devices in one subprocess for all optimizers."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from optimizers_under_test import FACTORIES

PROGRAM = pathlib.Path(__file__).parents[1] / "support" / "sharding_program.py"

each_optimizer = pytest.mark.parametrize("name", [*FACTORIES, "sampled"])


@pytest.fixture(scope="module")
def results() -> dict:
    """The number of devices has to be set before JAX starts."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@each_optimizer
def test_moments_take_the_type_of_the_parameters(results, name):
    """Second moments are wider, unless asked for in bfloat16."""
    found = results[name]["explicit"]
    assert found["params"] == ["float16[2,8@x,4]"]
    assert {*found["moments"]} <= {"float16[2,8@x,4]", "float32[2,8@x,4]", "bfloat16[2,8@x,4]"}
    assert found["moments"]


@each_optimizer
def test_updates_take_the_type_of_the_parameters(results, name):
    assert results[name]["explicit"]["updates"] == results[name]["explicit"]["params"]


@each_optimizer
def test_state_type_is_the_same_after_an_update(results, name):
    found = results[name]["explicit"]
    assert found["update"] == found["init"]


@each_optimizer
@pytest.mark.parametrize("function", ["init", "update"])
def test_jit_preserves_the_state_type(results, name, function):
    found = results[name]["explicit"]
    assert found[f"jit({function})"] == found[function]


@each_optimizer
def test_update_needs_no_communication(results, name):
    """But for R of a reference: sums of scalars."""
    assert set(results[name]["automatic"]["collectives"]) == ({"all-reduce"} if "reference" in name else set())


@each_optimizer
@pytest.mark.parametrize("function", ["init", "update"])
def test_state_lies_where_the_parameters_lie(results, name, function):
    assert results[name]["automatic"][f"{function} is sharded"]


@each_optimizer
def test_sharded_updates_equal_those_of_one_device(results, name):
    # The sums of a reference are added up in another order.
    assert results[name]["automatic"]["difference"] < (1e-6 if "reference" in name else 1e-7)
