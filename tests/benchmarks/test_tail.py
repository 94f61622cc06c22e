"""The studies of the tail of the classes and of coarse second moments: their parts, and the page that quotes them."""

import fractions
import json
import pathlib

import coarse_moments
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tail

import padam_optax

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("power", tail.TAILS)
def test_counts_follow_the_power(power):
    """They sum to the whole, fall with the rank, and are the shares to less than one image."""
    found = tail.counts(160, power, 2_048)
    assert found.sum() == 2_048
    assert (np.diff(found) <= (1 if power == 0 else 0)).all()
    wanted = 2_048 * np.arange(1, 161.0) ** -power / (np.arange(1, 161.0) ** -power).sum()
    assert np.abs(found - wanted).max() < 1


def test_examples_have_the_counts_and_halves():
    data = tail.examples(1.0, 3)
    assert data.inputs.shape == (tail.IMAGES, 64 + 16)
    sizes = np.sort(np.bincount(data.labels, minlength=160))[::-1]
    np.testing.assert_array_equal(sizes, tail.counts(160, 1.0, tail.IMAGES))
    assert abs(int(data.rare.sum()) - tail.IMAGES / 2) < sizes[0]
    rare, frequent = (set(np.asarray(data.labels[data.rare == which]).tolist()) for which in (True, False))
    assert rare.isdisjoint(frequent)
    assert len(frequent) < len(rare)


def test_best_p_and_its_range():
    """One that is best in every seed has a range of one value; a run that diverged makes its p the worst."""
    rows = {0.0: [None, 0.1, 0.1], 0.25: [0.3, 0.3, 0.3], 0.5: [0.2, 0.2, 0.2]}
    assert tail.best(rows) == {"p": 0.5, "interval": (0.0, 0.5)}
    assert tail.best({0.25: [1.0, 2.0], 0.5: [0.5, 1.5]}) == {"p": 0.5, "interval": (0.5, 0.5)}


@pytest.mark.parametrize("bits", coarse_moments.BITS)
def test_rounding(bits):
    """To nearest: within half a unit of the last bit kept. Stochastically: right in the mean."""
    values = jnp.exp(jax.random.normal(jax.random.key(0), (1_000,)) * 5)
    nearest = coarse_moments.rounded(values, jnp.float32(bits), jnp.float32(0.5))
    assert float(jnp.max(jnp.abs(nearest / values - 1))) <= 2.0 ** -(bits + 1)
    kept = coarse_moments.rounded(nearest, jnp.float32(bits), jnp.float32(0.5))
    np.testing.assert_array_equal(kept, nearest)
    noise = jax.random.uniform(jax.random.key(1), (20_000, 5))
    drawn = coarse_moments.rounded(jnp.broadcast_to(values[:5], noise.shape), jnp.float32(bits), noise)
    np.testing.assert_allclose(drawn.mean(0), values[:5], rtol=2.0**-bits * 0.02)
    assert float(coarse_moments.rounded(jnp.float32(0.0), jnp.float32(bits), jnp.float32(0.999))) == 0


@pytest.mark.parametrize("p", [1 / 8, 1 / 2])
def test_unrounded_is_padam(p):
    setting = {"p": jnp.float32(p), "bits": jnp.float32(coarse_moments.EXACT), "stochastic": jnp.float32(0)}
    ours = coarse_moments.coarse(optax.constant_schedule(0.1), setting)
    padam = padam_optax.padam(0.1, p=p)
    params = {"w": jnp.array([0.5, -1.0, 2.0])}
    states = [ours.init(params), padam.init(params)]
    for step in range(5):
        gradients = {"w": jnp.array([0.1, -2.0, 3e-3]) * (step - 1.5)}
        updates = []
        for place, optimizer in enumerate((ours, padam)):
            update, states[place] = optimizer.update(gradients, states[place], params)
            updates.append(update["w"])
        np.testing.assert_allclose(*updates, rtol=1e-5)
    assert float(coarse_moments.update_error(states[0][0], jnp.float32(p))) == 0


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "where_p_matters.md").read_text(encoding="utf-8")


def recorded(name):
    return json.loads((ROOT / "benchmarks" / "records" / "measurements" / f"{name}.json").read_text())


def test_the_page_says_what_the_tail_did(page):
    """From a = 3/4 on p = 1/2 in every resample, for the rare classes; below, and for the frequent ones, no telling."""
    for row in recorded("tail")["tails"]:
        for part, found in row["best"].items():
            again = tail.best({float(fractions.Fraction(p)): of[part] for p, of in row["losses"].items()})
            assert found == {"p": again["p"], "interval": list(again["interval"])}
        told = {part: found["interval"] == [0.5, 0.5] for part, found in row["best"].items()}
        assert told == {"all": row["tail"] >= 0.75, "frequent": False, "rare": row["tail"] >= 0.75}
    ratios = {
        row["tail"]: tail.mean(row["losses"]["1/8"]["all"]) / tail.mean(row["losses"]["1/2"]["all"])
        for row in recorded("tail")["tails"]
    }
    text = " ".join(page.split())
    assert f"{ratios[0.0]:.1f} times that of p = 1/2 at a = 0, {ratios[1.0]:.1f} times at a = 1 and" in text
    assert f"{ratios[1.5]:.0f} times at a = 1.5" in text


def test_the_page_says_what_the_tail_of_words_did(page):
    """p = 1/2 without a tail, of frequent and rare words; 1/8 or 1/4 with the heaviest; the small p always behind."""
    rows = {row["tail"]: row for row in recorded("tail_text")["tails"]}
    for row in rows.values():
        for part, found in row["best"].items():
            again = tail.best({float(fractions.Fraction(p)): of[part] for p, of in row["losses"].items()})
            assert found == {"p": again["p"], "interval": list(again["interval"])}
    assert {power: row["best"]["all"]["interval"] for power, row in rows.items()} == {
        0.0: [0.5, 0.5],
        0.5: [0.5, 0.5],
        1.0: [0.25, 0.5],
        1.5: [0.125, 0.25],
    }
    for power in (0.0, 0.5):
        assert {tuple(found["interval"]) for found in rows[power]["best"].values()} == {(0.5, 0.5)}
    means = {power: {p: tail.mean(of["all"]) for p, of in row["losses"].items()} for power, row in rows.items()}
    behind = [100 * (of[p] / of["1/4"] - 1) for of in means.values() for p in ("0", "1/16")]
    text = " ".join(page.split())
    assert f"behind p = 1/4 at every a, by {min(behind):.0f} to {max(behind):.0f}%" in text
    ratios = {power: f"{of['1/4'] / of['1/2']:.2f}".lstrip("0") for power, of in means.items()}
    assert f"p = 1/4 is at {ratios[0.0]} and {ratios[0.5]} times its loss" in text
    assert f"There p = 1/2 is at {means[1.5]['1/2'] / means[1.5]['1/4']:.2f} times the loss of p = 1/4" in text
    assert f"{ratios[1.5]} times the train loss of p = 1/2 with a heavier one, {ratios[0.0]} times with none" in text
    behind = [100 * (means[power]["0"] / means[power]["1/2"] - 1) for power in (0.0, 1.5)]
    assert f"p = 0 is {behind[0]:.0f}% behind p = 1/2 without a tail, and level" in text
    assert abs(behind[1]) < 1


def test_the_page_says_what_coarse_moments_did(page):
    ratios, of_two = [], {"1/8": [], "1/2": []}
    for by_p in recorded("coarse_moments")["tasks"].values():
        errors = {
            p: {(row["rounding"], row["bits"]): np.mean(row["update_errors"]) for row in of["runs"][1:]}
            for p, of in by_p.items()
        }
        ratios += [errors["1/2"][key] / errors["1/8"][key] for key in errors["1/2"]]
        for p, found in of_two.items():
            found += [errors[p][rounding, 2] for rounding in coarse_moments.ROUNDINGS]
        assert not any(row["interval"][0] > 0 for of in by_p.values() for row in of["runs"][1:])
    text = " ".join(page.split())
    assert f"by {min(ratios):.1f} to {max(ratios):.1f} times as much as at p = 1/8" in text
    low, high = ([f"{100 * bound(found):.0f}" for found in of_two.values()] for bound in (min, max))
    assert f"with 2 bits by {low[1]} to {high[1]}% against {low[0]} to {high[0]}%" in text
