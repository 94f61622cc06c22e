"""Held and following rates: the recorded measurements again, the rules, and the proposition's two sides."""

import fractions
import json
import pathlib

import held_rates
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from padam_optax import scale_by_partial_amsgrad

MEASUREMENTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "records" / "measurements"
RECORDED = json.loads((MEASUREMENTS / "held_rates.json").read_text())
ROWS = [(name, row) for name, rows in RECORDED["problems"].items() for row in rows]


@pytest.mark.parametrize("name", ["dead zone", "forgetting"])
def test_recorded_measurements(name):
    """The smallest n of one p, with the settings recorded beside it."""
    settings = RECORDED["settings"]
    assert [settings[key] for key in ("tau", "pasts", "runs")] == [held_rates.TAU, held_rates.PASTS, held_rates.RUNS]
    (recorded,) = [
        row for row in RECORDED["problems"][name] if (row["n"], row["p"], row["rule"]) == (512, 1 / 8, "held")
    ]
    (found,) = held_rates.compare(held_rates.STUDIES[name], 512, 1 / 8, 1 / 2, ["held"])
    for key in ("left", "right", "largest_quotient"):
        assert found[key] == pytest.approx(recorded[key], rel=1e-2)


def test_the_recorded_sides():
    """The proposition holds given every past; a rate that follows a moment that falls stays where |f'| is near 1."""
    held = [(name, row) for name, row in ROWS if row["rule"] == "held"]
    assert {name for name, _ in held} == set(held_rates.STUDIES)
    assert max(row["largest_quotient"] for _, row in held) < 0.6
    last = {(row["p"], row["rule"]): row["left"] for name, row in ROWS if (name, row["n"]) == ("forgetting", 8_192)}
    for p in (0.0, 1 / 8, 1 / 4):
        assert last[p, "held"] < 0.09 < last[p, "following the maximum"] < 0.15
        assert last[p, "following the moment"] > 0.8


def test_the_table():
    """benchmarks/README.md shows what is recorded of the largest n, and the largest quotient over every n."""
    readme = (MEASUREMENTS.parents[1] / "README.md").read_text()
    table = readme.split("| problem | p | r |")[1].split("\n\n")[0].splitlines()[2:]
    name, shown = "", []
    for line in table:
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = first or name
        p, r, *numbers = [float(fractions.Fraction(cell)) for cell in cells]
        rows = [row for row in RECORDED["problems"][name] if (row["p"], row["reference_p"]) == (p, r)]
        last = [row["left"] for row in rows if row["n"] == 8_192]
        quotient = max(row["largest_quotient"] for row in rows if row["rule"] == "held")
        assert numbers == pytest.approx([*last, quotient], rel=0.06)
        shown.append((name, p))
    assert shown == [(name, p) for name in RECORDED["problems"] for p, _ in held_rates.POWERS]


def steps_of(rule, p, reference_p, gradients, b1=0.5, b2=0.75, alpha=0.1):
    study = held_rates.STUDIES["forgetting"]._replace(b1=b1, b2=b2, d=gradients.shape[1])
    state, states = held_rates.start(study), []
    for g in gradients:
        state = held_rates.step(study, rule, state, g, alpha, p, reference_p)
        states.append(state)
    return states


def test_following_the_moment_in_one_dimension_is_adam():
    """p = 0 and reference_p = 1/2: optax's RMSProp with the corrected moment after the first moment's average."""
    gradients = jnp.array([[2.0], [-1.0], [-1.0], [5.0], [0.1]])
    states = steps_of("following the moment", 0.0, 0.5, gradients)
    adam = optax.scale_by_adam(0.5, 0.75, eps=0.0)
    state, x = adam.init(jnp.zeros(1)), jnp.ones(1)
    for t, (g, ours) in enumerate(zip(gradients, states, strict=True), 1):
        update, state = adam.update(g, state)
        x = x - 0.1 * update * (1 - 0.5**t)
        np.testing.assert_allclose(ours.x, x, rtol=1e-5)


@pytest.mark.parametrize("rule", held_rates.RULES)
def test_the_rules(rule, monkeypatch):
    """Algorithm 1's direction times R^(2(p - r)), R by hand: of coordinates that have moved, with the correction."""
    monkeypatch.setattr(held_rates, "TAU", 3)
    gradients = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32) * np.linspace(1, 0.1, 8)[:, None]
    gradients[:5, 2] = 0.0
    p, reference_p, b1, b2 = 1 / 8, 1 / 2, 0.5, 0.75
    states = steps_of(rule, p, reference_p, jnp.asarray(gradients, jnp.float32))
    padam = scale_by_partial_amsgrad(b1, b2, 0.0, p=p)
    state, x, v, v_hat = padam.init(jnp.zeros(4)), np.ones(4), np.zeros(4), np.zeros(4)
    for t, (g, ours) in enumerate(zip(gradients, states, strict=True), 1):
        v = b2 * v + (1 - b2) * g.astype(np.float64) ** 2
        v_hat = np.maximum(v, v_hat)
        square = v if rule == "following the moment" else v_hat
        if rule != "held" or t <= 3:
            roots = np.sqrt(square[square > 0] / (1 - b2**t))
            kappa = np.prod(roots) ** (2 * (p - reference_p) / len(roots))
        update, state = padam.update(jnp.asarray(g, jnp.float32), state)
        x = x - 0.1 * kappa * np.asarray(update)
        np.testing.assert_allclose(ours.kappa, kappa, rtol=1e-5)
        np.testing.assert_allclose(ours.x, x, rtol=1e-4)


def test_before_a_coordinate_has_moved():
    state = steps_of("held", 1 / 8, 1 / 2, jnp.zeros((2, 3)))[-1]
    assert float(state.kappa) == 1
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.isfinite(leaf).all()), state))
