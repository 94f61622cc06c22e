"""Experiments beyond the paper: what they change, and the report's table of them beside the recipe."""

import dataclasses
import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_records import PAPER, flat, small, write

from padam_optax import convert_learning_rate, padam, padamw
from padam_optax.experiments import EXPERIMENTS, beyond, find
from padam_optax.experiments.methods import in_group, make_optimizer
from padam_optax.records.store import read_all
from padam_optax.report.results import Paper
from padam_optax.report.tables import suites
from padam_optax.report.variants import changes, variant_grids

REPRODUCTION = pathlib.Path(__file__).parents[2] / "benchmarks" / "reproduction"
SETTINGS = {"learning_rate": 0.1, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "p": 0.25, "weight_decay": 0.0}
PARAMS = {"embedding": jnp.ones((2, 3)), "kernel": jnp.full((3, 2), 2.0), "bias": jnp.full(2, 3.0)}
UPDATES = 8


def steps_of(optimizer):
    """All updates of a short training with given gradients."""
    state, update, found = optimizer.init(PARAMS), jax.jit(optimizer.update), []
    for step in range(UPDATES):
        gradients = jax.tree.map(lambda leaf: 0.01 * jax.random.normal(jax.random.key(step), leaf.shape), PARAMS)  # noqa: B023
        updates, state = update(gradients, state, PARAMS)
        found.append(updates)
    return found


def made(**changed):
    options = {name: changed.pop(name) for name in ("bias_correction", "allow_unproven_p") if name in changed}
    return steps_of(make_optimizer("padam", SETTINGS | changed, total_updates=UPDATES, **options))


def plain(p, rate=0.1, **options):
    return steps_of(padam(rate, p=p, bias_correction="official", **options))


def assert_close(one, other):
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-12), one, other)


def test_p_falls_from_the_first_to_the_last_update():
    assert_close(made(p=0.5, final_p=0.0), plain(lambda count: 0.5 * (1 - count / UPDATES)))


def test_a_rate_is_converted_at_each_step():
    assert_close(
        made(p=0.5, final_p=0.0, rate_p=0.25, root=1e-3),
        plain(lambda count: 0.5 * (1 - count / UPDATES), lambda count: 0.1 * 1e-3 ** (0.5 - count / UPDATES)),
    )


def test_the_group_has_its_own_p_and_rate():
    found = made(p=0.125, group_p=0.4, rate_p=0.25, root=1e-3, group_root=1e-2)
    group, rest = plain(0.4, 0.1 * 1e-2**0.3), plain(0.125, 0.1 * 1e-3**-0.25)
    for step, of_group, of_rest in zip(found, group, rest, strict=True):
        assert_close(step, {**of_rest, "embedding": of_group["embedding"]})


def test_a_network_without_embedding_has_its_vectors_in_the_group():
    assert in_group(PARAMS) == {"embedding": True, "kernel": False, "bias": False}
    assert in_group({"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}) == {"kernel": False, "bias": True}


def test_p_of_1():
    assert_close(made(p=1.0, allow_unproven_p=True), plain(1.0, allow_unproven_p=True))


def test_decoupled_decay_is_normalised():
    """Whatever the rate is: .4 over the root of the number of updates is what one subtracts."""
    settings = {name: value for name, value in SETTINGS.items() if name != "weight_decay"}
    found = steps_of(make_optimizer("padam", {**settings, "normalized_weight_decay": 0.4}, total_updates=UPDATES))
    decay = 0.4 / UPDATES**0.5
    expected = [jax.tree.map(lambda update, param: update - decay * param, updates, PARAMS) for updates in plain(0.25)]
    assert_close(found, expected)
    assert_close(found, steps_of(padamw(0.1, p=0.25, weight_decay=decay / 0.1, bias_correction="official")))


@pytest.mark.parametrize("changed", [{"rate_p": 0.1}, {"root": 0.1}, {"rate_p": 0.1, "root": 0.1, "group_p": 0.4}])
def test_half_a_conversion(changed):
    with pytest.raises(ValueError, match=r"padam takes the hyper-parameters .*root"):
        make_optimizer("padam", SETTINGS | changed)


@pytest.mark.parametrize(("suite", "chosen"), [("cifar10-mini", "p=0.25,"), ("ptb-mini", "p=0.2,")])
def test_roots_are_those_of_the_recorded_runs(suite, chosen):
    (record,) = (
        record
        for record in read_all(REPRODUCTION.parent / "results" / "effective-rates")
        if record.config["experiment"]["name"].startswith(f"{suite}-padam@{chosen}")
    )
    measured = [record.metrics[-1][name] for name in ("median_root", "group_median_root")]
    assert tuple(float(f"{value:.2g}") for value in measured) == beyond.ROOTS[suite]


def test_each_changes_one_thing_of_its_recipe():
    assert len(beyond.EXPERIMENTS) == 14
    for spec in beyond.EXPERIMENTS:
        base = find(spec.name[: spec.name.index("-padam") + len("-padam")])
        differing = {
            field.name for field in dataclasses.fields(spec) if getattr(spec, field.name) != getattr(base, field.name)
        }
        assert differing <= {"name", "hyperparameters", "seeds", "bias_correction", "allow_unproven_p"}
        assert {"hyperparameters", "bias_correction"} & differing
        assert set(spec.seeds) <= set(base.seeds)
        assert EXPERIMENTS[spec.name] is spec
        make_optimizer(spec.optimizer, spec.hyperparameters, allow_unproven_p=spec.allow_unproven_p)


def test_changes_in_words():
    base = small("padam")
    spec = dataclasses.replace(base, hyperparameters={"p": 1.0, "learning_rate": 0.1, "root": 0.25})
    assert changes(base, spec) == "p=1, root=0.25"
    spec = dataclasses.replace(base, hyperparameters={"learning_rate": 0.1}, bias_correction="debiased")
    assert changes(base, spec) == "no p, bias_correction=debiased"


def test_report(tmp_path):
    base = small("padam", suite="ours")
    spec = dataclasses.replace(base, name="ours-padam-p1", hyperparameters={"learning_rate": 0.1, "p": 1.0})
    paper = Paper({}, {base.name: base, spec.name: spec})
    assert paper.variants == {base.name: [spec]}
    assert paper.own_suites == ["ours"]
    for seed, error in enumerate((0.10, 0.12, 0.14, 0.50)):
        write(tmp_path, base, seed, flat(test_error=error, train_loss=0.5))
    assert variant_grids(paper, read_all(tmp_path)) == []
    for seed, error in enumerate((0.11, 0.14, 0.17)):
        write(tmp_path, spec, seed, flat(test_error=error, train_loss=0.25))
    write(tmp_path, spec, 3, flat(test_error=0.9, train_loss=0.5), done=1, diverged=True)
    (grid,) = variant_grids(paper, read_all(tmp_path))
    assert [line.heads for line in grid.lines] == [("ours-padam", ""), ("ours-padam-p1", "p=1")]
    # Accuracies fall by 1, 2 and 3 points: 2 ± t(2 degrees) 4.303 x 1 / sqrt(3).
    assert [cell.parts[0] for cell in grid.lines[1].cells] == [
        "3", "86.00 ± 3.00", "0.2500 ± 0.0000", "-2.00 (-4.48 to +0.48)",
    ]  # fmt: skip
    assert "Diverged and in no mean: ours-padam-p1 1." in grid.caption
    assert [suite.name for suite in suites(paper, read_all(tmp_path))] == ["ours"]


def test_the_papers_figure_1_is_no_variant():
    assert set(PAPER.variants) == {"cifar10-mini-padam", "ptb-mini-padam"}


@functools.cache
def best_rates(suite: str, metric: str) -> dict[float, float]:
    """The best learning rate of each p in the recorded search for a recipe's settings."""
    scores: dict[float, dict[float, float]] = {}
    for record in read_all(REPRODUCTION / f"{suite}-tuning"):
        settings = record.config["experiment"]["hyperparameters"]
        if "p" in settings:
            score = math.inf if record.diverged else record.metrics[-1][metric]
            scores.setdefault(settings["p"], {})[settings["learning_rate"]] = score
    return {p: min(by_rate, key=by_rate.get) for p, by_rate in scores.items()}


@pytest.mark.parametrize(
    ("suite", "metric", "half_decades"),
    [("ptb-mini", "valid_perplexity", dict.fromkeys((1 / 16, 1 / 8, 1 / 5, 1 / 4, 2 / 5), 0)),
     ("cifar10-mini", "test_error", {1 / 16: 1, 1 / 8: 1, 1 / 5: 1, 1 / 4: 0, 2 / 5: 0})],
)  # fmt: skip
def test_conversion_foretells_the_best_rates(suite, metric, half_decades):
    """As docs/beyond.md says: from the recipe's setting and one measured root to the search's best rate of each p.

    The searches tried rates half a decade apart; a prediction is as far from the best as so many of these steps.
    """
    settings, (root, _) = find(f"{suite}-padam").hyperparameters, beyond.ROOTS[suite]
    found = best_rates(suite, metric)
    assert set(found) == set(half_decades)
    for p, best in found.items():
        predicted = convert_learning_rate(settings["learning_rate"], settings["p"], p, root)
        assert round(2 * math.log10(predicted / best)) == half_decades[p], (p, predicted, best)
