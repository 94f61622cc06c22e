"""Sweeps: the same numbers as runs one by one, one compilation, records that can be gone on with, halving."""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import padam_optax
from padam_optax.experiments import EXPERIMENTS
from padam_optax.records.files import StoreError
from padam_optax.records.record import Record, SharedProgram
from padam_optax.records.store import read_all
from padam_optax.runner import sweep as module
from padam_optax.runner.datasets import load_data
from padam_optax.runner.run import run
from padam_optax.runner.search import search
from padam_optax.runner.search_space import Range, trial_of
from padam_optax.runner.sweep import Sweeper, default_mode, objective, sweep, train_function

ROOT = pathlib.Path(padam_optax.__file__).parents[1]
SPEC = EXPERIMENTS["digits-padam"].with_epochs(3).with_task(held_out=0.2)
GRID = [{"learning_rate": rate, "p": p} for rate in (0.1, 1.0) for p in (0.25, 0.5)]
TIMES = {"seconds", "examples_per_second"}


@pytest.fixture(scope="module")
def data():
    return load_data(SPEC, None, "")


@pytest.fixture(scope="module")
def mapped(data, tmp_path_factory) -> dict[tuple[str, int], Record]:
    """Two seeds of each, two runs at once, one after another."""
    return by_name(sweep(SPEC, GRID, (0, 1), data, tmp_path_factory.mktemp("m"), mode="mapped", batch_configs=2))


def by_name(records) -> dict[tuple[str, int], Record]:
    return {(record.experiment.name, record.seed): record for record in records}


def numbers(record: Record) -> list[dict]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in record.metrics]


def assert_close(one: Record, other: Record, epochs: int | None = None):
    """Losses to 1e-4 and errors to an example of 200; after some epochs a last bit has become more than that."""
    for left, right in list(zip(numbers(one), numbers(other), strict=True))[:epochs]:
        assert left.keys() == right.keys()
        for name, value in left.items():
            assert value == pytest.approx(right[name], rel=1e-4, abs=0.0051 if "error" in name else 0), name


def test_records_are_those_of_runs_one_by_one(mapped, data, tmp_path):
    assert len(mapped) == 8
    for (name, _), record in mapped.items():
        assert record.finished
        assert record.experiment.is_trial
        settings = record.experiment.hyperparameters
        assert name == f"digits-padam@learning_rate={settings['learning_rate']:g},p={settings['p']:g}"
        assert record.sweep == SharedProgram("mapped", 2)
    # It trains; where a rate is too large, as 0.1 is for p = 1/2, a last bit soon becomes more.
    name, seed = "digits-padam@learning_rate=1,p=0.25", 1
    own = dataclasses.replace(trial_of(SPEC, {"learning_rate": 1.0, "p": 0.25}), seeds=(seed,))
    alone = run(own, seed, data, tmp_path, checkpoint_every=0)
    assert_close(mapped[name, seed], alone)
    assert mapped[name, seed].experiment == alone.experiment == own
    assert [set(line) for line in mapped[name, seed].metrics] == [set(line) for line in alone.metrics]


def test_all_lanes_at_once_agree(mapped, data, tmp_path):
    """Three lanes for eight runs: the last batch is filled up."""
    found = by_name(sweep(SPEC, GRID, (0, 1), data, tmp_path, mode="vectorized", batch_configs=3))
    assert found.keys() == mapped.keys()
    for key, record in found.items():
        assert_close(record, mapped[key], 1)


def test_one_compilation_whatever_the_values_are(data, tmp_path, caplog):
    """Four batches of two, then another sweep: what trains an epoch is compiled once, and what begins runs."""
    # A length of its own: nothing is compiled yet.
    spec = SPEC.with_epochs(2)
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        sweep(spec, GRID, (0, 1), data, tmp_path / "a", mode="mapped", batch_configs=2)
        further = [{"learning_rate": 0.3, "p": 0.125}, {"learning_rate": 0.2, "p": 0.0}]
        sweep(spec, further, (2,), data, tmp_path / "b", mode="mapped", batch_configs=2)
    compiled = [message for message in caplog.messages if "Finished XLA compilation of jit(" in message]
    for name in ("_epoch_mapped", "_init_mapped"):
        assert sum(name in message for message in compiled) == 1, name


def test_what_is_recorded_is_not_run_again(mapped, data, tmp_path):
    """A run that was cut off starts anew; the others stay as they are."""
    calls = []

    def stop_soon(experiment, seed, line):
        calls.append((experiment.name, seed, line["epoch"]))

    sweep(
        SPEC,
        GRID,
        (0, 1),
        data,
        tmp_path,
        mode="mapped",
        batch_configs=2,
        on_epoch=stop_soon,
        should_stop=lambda: len(calls) >= 2 * 3 + 2,
    )
    before = by_name(read_all(tmp_path))
    assert len(before) == 4
    assert [record.finished for record in before.values()] == [True, True, False, False]
    calls.clear()
    found = by_name(sweep(SPEC, GRID, (0, 1), data, tmp_path, mode="mapped", batch_configs=2, on_epoch=stop_soon))
    assert len(calls) == 6 * 3
    for key, record in found.items():
        assert numbers(record) == numbers(mapped[key])
    calls.clear()
    sweep(SPEC, GRID, (0, 1), data, tmp_path, mode="mapped", batch_configs=2, on_epoch=stop_soon)
    assert calls == []


@pytest.mark.parametrize("mode", ["mapped", "vectorized"])
def test_a_diverged_configuration_costs_the_others_nothing(mapped, data, tmp_path, mode):
    grid = [GRID[0], {"learning_rate": 1e9, "p": 0.25}]
    # As many lanes as above: nothing is compiled anew.
    good, bad = sweep(SPEC, grid, (0,), data, tmp_path, mode=mode, batch_configs={"mapped": 2, "vectorized": 3}[mode])
    assert bad.diverged
    assert bad.finished
    assert len(bad.metrics) == 1
    assert 1 <= bad.metrics[0]["diverged_step"] < 800 // 128
    assert_close(good, mapped["digits-padam@learning_rate=0.1,p=0.25", 0], 1)


def test_halving(mapped, data, tmp_path):
    """After one and after two epochs the worse half ends; the survivor's numbers are the full sweep's."""
    found = by_name(sweep(SPEC, GRID, (0, 1), data, tmp_path, mode="mapped", batch_configs=2, halving=2))
    lengths = {}
    for (name, _), record in found.items():
        lengths.setdefault(name, set()).add(record.epochs)
        assert record.finished
    assert sorted(lengths.values(), key=min) == [{1}, {1}, {2}, {3}]

    def mean_error(name, epoch):
        return np.mean([mapped[name, seed].metrics[epoch]["test_error"] for seed in (0, 1)])

    # The two that went on were the best after the first epoch; of these, the better after the second.
    kept = [name for name, epochs in lengths.items() if min(epochs) > 1]
    assert max(mean_error(name, 0) for name in kept) <= min(mean_error(name, 0) for name in lengths.keys() - {*kept})
    (best,) = (name for name, epochs in lengths.items() if min(epochs) == 3)
    assert mean_error(best, 1) == min(mean_error(name, 1) for name in kept)
    for seed in (0, 1):
        assert numbers(found[best, seed]) == numbers(mapped[best, seed])
    calls = []
    again = sweep(SPEC, GRID, (0, 1), data, tmp_path, halving=2, on_epoch=lambda *line: calls.append(line))
    assert calls == []
    assert by_name(again) == found


def test_a_whole_sweep_goes_on_with_what_halving_gave_up(mapped, data, tmp_path):
    sweep(SPEC, GRID[:2], (0,), data, tmp_path, mode="mapped", batch_configs=2, halving=2)
    found = by_name(sweep(SPEC, GRID[:2], (0,), data, tmp_path, mode="mapped", batch_configs=2))
    for key, record in found.items():
        assert numbers(record) == numbers(mapped[key])


def test_as_a_function(mapped, data):
    """For a user's own vmap and jit: metrics have the arguments' leading axes."""
    train = train_function(SPEC, data)
    values = {name: jnp.asarray(value) for name, value in SPEC.hyperparameters.items()}

    def one(rate, seed):
        return train(seed, {**values, "learning_rate": rate, "p": jnp.asarray(0.5)})

    over = jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, None)))
    found = over(jnp.asarray([0.1, 1e9]), jnp.arange(2))
    assert found["test_error"].shape == (2, 2, 3)
    assert found["diverged_step"].shape == (2, 2)
    assert (found["diverged_step"][0] == -1).all()
    assert (found["diverged_step"][1] >= 1).all()
    for seed in (0, 1):
        expected = mapped["digits-padam@learning_rate=0.1,p=0.5", seed].metrics[0]
        assert float(found["train_loss"][0, seed, 0]) == pytest.approx(expected["train_loss"], rel=1e-4)


def test_as_an_objective(data):
    score = jax.jit(objective(SPEC, data))
    key = jax.random.key(0)
    good, diverged = score(key, {"learning_rate": 0.01, "p": 0.5}), score(key, {"learning_rate": 1e9})
    assert good.shape == ()
    assert 0 <= float(good) < 0.9
    assert math.isinf(float(diverged))
    assert float(score(jax.random.key(1), {"learning_rate": 0.01, "p": 0.5})) != float(good)


def test_optuna_chooses(data, tmp_path):
    """From a range and from values; a second call goes on from the study, and one for as many trials trains nothing.

    Characters of the folder that mean something in an URL are the folder's.
    """
    out = tmp_path / "q?x#1 %41"
    space = {"learning_rate": Range(0.01, 1.0, log=True), "p": (0.25, 0.5)}
    calls = []

    def found(trials):
        sweeper = Sweeper(SPEC, data, out, mode="mapped", batch_configs=2, on_epoch=lambda *line: calls.append(line))
        return search(SPEC, space, trials, (0, 1), sweeper, out)

    first = found(2)
    assert len(first) == 4
    assert len(calls) == 2 * 2 * 3
    more = found(3)
    assert by_name(first).items() <= by_name(more).items()
    assert len(more) == 6
    assert len({record.experiment.name for record in more}) == 3
    for record in more:
        settings = record.experiment.hyperparameters
        assert 0.01 <= settings["learning_rate"] <= 1.0
        assert settings["p"] in (0.25, 0.5)
    calls.clear()
    assert by_name(found(3)) == by_name(more)
    assert calls == []
    assert list(tmp_path.iterdir()) == [out]
    assert (out / "digits-padam.sqlite3").is_file()


def test_a_second_sweep_or_search_in_the_same_folder_is_refused(data, tmp_path):
    """Before anything is compiled or written, whatever it sweeps over."""
    with Sweeper(SPEC, data, tmp_path).alone():
        before = set(tmp_path.iterdir())
        sweeper = Sweeper(SPEC, data, tmp_path)
        message = f"{tmp_path} is in use by process {os.getpid()} on .*, which writes digits-padam there"
        with pytest.raises(StoreError, match=message):
            sweeper.train([{"p": 0.25}], (0,))
        with pytest.raises(StoreError, match=message):
            search(SPEC, {"p": (0.25,)}, 1, (0,), sweeper, tmp_path)
        assert set(tmp_path.iterdir()) == before


def test_what_falls_behind_is_given_up(data, tmp_path):
    """As Optuna's pruner asks for it: the record ends there and says why."""
    sweeper = Sweeper(SPEC, data, tmp_path, mode="mapped", batch_configs=2)
    asked = []

    def give_up(epoch, score):
        asked.append((epoch, score))
        return epoch == 2

    records = sweeper.train([GRID[0]], (0, 1), give_up=give_up)
    assert [epoch for epoch, _ in asked] == [1, 2]
    for record in records:
        assert record.given_up
        assert record.epochs == 2
        assert record.metrics[-1] == {"epoch": 2, "given_up": "pruning"}
    assert asked[1][1] == pytest.approx(np.mean([record.metrics[1]["test_error"] for record in records]))


@pytest.mark.parametrize(
    ("space", "trials", "message"),
    [
        ({}, 1, "space is empty"),
        ({"p": (0.25,)}, 0, "trials must be at least 1, got 0"),
        ({"p": Range(0.1, 0.9, log=False)}, 1, r"p must be in \[0, 1/2\], got 0.9"),
        ({"momentum": (0.9,)}, 1, "digits-padam has no 'momentum'"),
    ],
)
def test_bad_searches(data, tmp_path, space, trials, message):
    with pytest.raises(ValueError, match=message):
        search(SPEC, space, trials, (0,), Sweeper(SPEC, data, tmp_path), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"configurations": []}, "needs one configuration and one seed"),
        ({"seeds": ()}, "needs one configuration and one seed"),
        ({"configurations": [{"p": 0.7}]}, r"p must be in \[0, 1/2\], got 0.7"),
        ({"halving": 1}, "halving must be 2 or more, got 1"),
    ],
)
def test_bad_input(data, tmp_path, options, message):
    arguments = {"configurations": GRID, "seeds": (0,), **options}
    with pytest.raises(ValueError, match=message):
        sweep(SPEC, data=data, out=tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_running_out_of_memory_names_the_number(data, tmp_path, monkeypatch):
    def run_out(self, *arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr(module.Lanes, "epoch", run_out)
    with pytest.raises(ValueError, match=r"Out of memory with 2 runs at once: give a smaller --batch-configs"):
        sweep(SPEC, GRID, (0,), data, tmp_path, mode="mapped", batch_configs=2)


def test_default_modes():
    assert default_mode("cpu", 1) == "mapped"
    assert default_mode("gpu", 1) == "vectorized"
    assert default_mode("gpu", 8) == "sharded"


RATES = "0.01,0.02,0.03,0.04,0.05"
PROGRAM = """
import json, sys
import jax, jax.monitoring
misses = []
jax.monitoring.register_event_listener(
    lambda name, **_: misses.append(name) if name == "/jax/compilation_cache/cache_misses" else None)
from padam_optax.experiments import EXPERIMENTS
from padam_optax.runner.datasets import load_data
from padam_optax.runner.sweep import sweep
spec = EXPERIMENTS["digits-padam"].with_epochs(1).with_task(held_out=0.2)
grid = [{"learning_rate": float(rate), "p": 0.5} for rate in sys.argv[3].split(",")]
records = sweep(spec, grid, (0,), load_data(spec, None, ""), sys.argv[1], mode=sys.argv[2])
print(json.dumps({"misses": len(misses), "devices": jax.device_count(),
    "losses": [record.metrics[0]["train_loss"] for record in records], "sweep": records[0].config()["sweep"]}))
"""


def in_a_process(out: pathlib.Path, mode: str, rates: str, **environment: str) -> dict:
    command = [sys.executable, "-c", PROGRAM, str(out), mode, rates]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env={**environment})
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    cache = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    always = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    return {**os.environ, **cache, **always, "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory, environment) -> dict:
    """The first process, on one device."""
    return in_a_process(tmp_path_factory.mktemp("alone"), "mapped", RATES, **environment)


def test_a_second_process_compiles_nothing(tmp_path, environment, alone):
    """Other values, with the persistent compilation cache of the first."""
    second = in_a_process(tmp_path, "mapped", "0.1,0.2,0.3,0.4,0.5", **environment)
    assert alone["misses"] > 0
    assert second["misses"] == 0
    assert alone["losses"] != second["losses"]


def test_spread_over_devices(tmp_path, environment, alone):
    """Four devices, a share of the lanes each: the numbers are those of one device."""
    four = "--xla_force_host_platform_device_count=4"
    spread = in_a_process(tmp_path, "sharded", RATES, **environment, XLA_FLAGS=four)
    assert (spread["devices"], alone["devices"]) == (4, 1)
    assert spread["sweep"] == {"mode": "sharded", "batch_configs": 8}
    assert spread["losses"] == pytest.approx(alone["losses"], rel=1e-4)
