"""Other people's training code: how its optimizer is swapped, what is recorded, and the page that shows it."""

import json
import pathlib
import re
import statistics

import clients
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import padam_optax

ROOT = pathlib.Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "benchmarks" / "records" / "measurements" / "clients.json").read_text())["clients"]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_client_gets_ours_with_its_own_arguments(name):
    own = getattr(optax, name)
    params, gradients = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.1, 0.001])}
    with clients.swapped(name, {"p": 1 / 8, "reference_p": 1 / 2}):
        swapped = getattr(optax, name)(3e-3, b2=0.98, eps=1e-5)
    assert getattr(optax, name) is own
    direct = {"adam": padam_optax.padam, "adamw": padam_optax.padamw}[name](
        3e-3, b2=0.98, eps=1e-5, p=1 / 8, reference_p=1 / 2
    )
    found = [tx.update(gradients, tx.init(params), params)[0]["w"] for tx in (swapped, direct)]
    np.testing.assert_array_equal(*found)
    with clients.swapped(name, {}):
        assert getattr(optax, name) is own


def test_the_characters():
    """None of them is nanodo's pad, and each number is of a character that occurs."""
    tokens, vocabulary = clients.characters()
    assert set(np.unique(tokens)) == set(range(1, vocabulary))


@pytest.mark.parametrize("name", RECORDED)
def test_every_planned_run_is_recorded(name):
    client, result = clients.CLIENTS[name], RECORDED[name]
    assert (result["repository"], result["commit"]) == (client.repository, client.commit)
    assert (result["settings"], result["steps"], result["seeds"]) == (client.settings, client.steps, list(client.seeds))
    assert [(run["optimizer"], run["learning_rate"]) for run in result["runs"]] == [
        (clients.label(client.optimizer, options), rate or client.rate) for options, rate in clients.VARIANTS
    ]
    for run in result["runs"]:
        assert {len(scores) for scores in run["scores"].values()} == {len(client.seeds)}


@pytest.mark.parametrize("name", clients.CLIENTS)
def test_the_page_shows_what_is_recorded(name):
    result = RECORDED[name]
    assert clients.table(result) in PAGE
    (section,) = re.findall(rf"^### [^\n]*\b{name}\b.*?(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    assert f"{result['repository']}/tree/{result['commit'][:12]}" in section
    section = " ".join(section.split())
    for text in (f"{result['parameters']:,} parameters", f"{result['steps']:,} steps", f"{len(result['seeds'])} seeds"):
        assert text in section


def test_a_diverged_run_is_counted():
    runs = [{"optimizer": "x", "learning_rate": 0.1, "scores": {"loss": [1.0, None, 3.0], "other": [None, None, 1.0]}}]
    line = clients.table({"runs": runs}).splitlines()[-1]
    assert line == f"| `x` | 0.1 | 2 ± {statistics.stdev([1, 3]):.2g} (1 diverged) | - (2 diverged) |"


def test_how_many_runs_solve_the_spirals():
    counts = [sum(accuracy > 0.99 for accuracy in run["scores"]["accuracy"]) for run in RECORDED["equinox"]["runs"]]
    adam, *ours, paper = counts
    text = " ".join(PAGE.split())
    assert f"above 0.99 is reached in {adam} of {len(RECORDED['equinox']['seeds'])} runs by Adam" in text
    assert "p = 1/16, 1/8, 1/4 and 1/2 in {}, {}, {} and {}.".format(*ours) in text
    assert paper == 0


def test_how_near_nanodo_ends():
    own, *ours, paper = [statistics.mean(run["scores"]["held-out loss"]) for run in RECORDED["nanodo"]["runs"]]
    assert own < min(ours) == ours[0] < max(ours) == ours[-1] < 1.02 * own
    assert f"ends {paper / own - 1:.1%} above AdamW" in " ".join(PAGE.split())
