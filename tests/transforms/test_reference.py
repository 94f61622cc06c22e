"""The optimizers against trajectories of public PyTorch code (tests/support/data/README.md), in float64."""

import numpy as np
import optax
import pytest
import reference

import padam_optax
from padam_optax.experiments.methods import make_optimizer

TOLERANCE = 1e-10


def by_name(*prefixes: str):
    return [pytest.param(case, id=case["name"]) for prefix in prefixes for case in reference.cases(prefix)]


def assert_reproduces(optimizer: optax.GradientTransformation, name: str):
    assert reference.largest_difference(reference.trajectory(optimizer), reference.expected(name)) < TOLERANCE


def adam_settings(case: dict) -> dict[str, float]:
    return {"learning_rate": case["lr"], "b1": case["b1"], "b2": case["b2"], "eps": case["eps"]}


@pytest.mark.parametrize("case", by_name("paper_"))
def test_algorithm_1(case):
    assert_reproduces(padam_optax.padam(case["lr"], case["b1"], case["b2"], 0.0, p=case["p"]), case["name"])


@pytest.mark.parametrize("case", by_name("official_"))
def test_authors_code(case):
    assert case["amsgrad"]
    optimizer = padam_optax.padam(
        **adam_settings(case), p=case["p"], weight_decay=case["weight_decay"], bias_correction="official"
    )
    assert_reproduces(optimizer, case["name"])


@pytest.mark.parametrize("case", by_name("adabound_", "amsbound_"))
def test_adabound(case):
    optimizer = padam_optax.adabound(
        **adam_settings(case),
        final_learning_rate=case["final_lr"],
        gamma=case["gamma"],
        weight_decay=case["weight_decay"],
        amsbound=case["amsbound"],
    )
    assert_reproduces(optimizer, case["name"])


@pytest.mark.parametrize("case", by_name("adabound_"))
def test_adabound_baseline(case):
    settings = {name: case[name] for name in ("gamma", "weight_decay")}
    optimizer = make_optimizer("adabound", {**adam_settings(case), **settings, "final_learning_rate": case["final_lr"]})
    assert_reproduces(optimizer, case["name"])


@pytest.mark.parametrize("case", by_name("official_"))
def test_padam_baseline(case):
    optimizer = make_optimizer("padam", {**adam_settings(case), "p": case["p"], "weight_decay": case["weight_decay"]})
    assert_reproduces(optimizer, case["name"])


@pytest.mark.parametrize("case", by_name("torch_sgdm_wd"))
def test_sgdm_baseline(case):
    settings = {"learning_rate": case["lr"], "momentum": case["momentum"], "weight_decay": case["weight_decay"]}
    assert_reproduces(make_optimizer("sgdm", settings), case["name"])


@pytest.mark.parametrize("case", [case for case in by_name("torch_adam_") if not case.values[0]["amsgrad"]])
def test_adam_baseline(case):
    settings = {**adam_settings(case), "weight_decay": case["weight_decay"]}
    assert_reproduces(make_optimizer("adam", settings), case["name"])


@pytest.mark.parametrize("case", by_name("torch_adamw"))
def test_adamw_baseline(case):
    """PyTorch's decay is multiplied by the rate; the normalised one is not, but by 1/sqrt(updates)."""
    updates = len(reference.gradients()["w"])
    settings = {**adam_settings(case), "normalized_weight_decay": case["lr"] * case["weight_decay"] * updates**0.5}
    assert_reproduces(make_optimizer("adamw", settings, total_updates=updates), case["name"])


@pytest.mark.parametrize(
    "case",
    [case for case in by_name("yogi_") if not case.values[0]["weight_decouple"] or not case.values[0]["weight_decay"]],
)
def test_yogi_baseline(case):
    """The decay of the experiments is coupled; a decoupled one is another method."""
    settings = {**adam_settings(case), "weight_decay": case["weight_decay"]}
    assert_reproduces(make_optimizer("yogi", settings), case["name"])


def amsgrad_loop(case: dict, *, eps_on_corrected_root: bool) -> dict[str, np.ndarray]:
    """AMSGrad with the maximum of the uncorrected second moment, eps where PyTorch or where the authors add it."""
    after = {}
    for leaf, gradients in reference.gradients().items():
        params = reference.start()[leaf]
        mu = nu = nu_max = np.zeros_like(params)
        rows = []
        for t, gradient in enumerate(gradients, start=1):
            gradient = gradient + case["weight_decay"] * params
            mu = case["b1"] * mu + (1 - case["b1"]) * gradient
            nu = case["b2"] * nu + (1 - case["b2"]) * gradient**2
            nu_max = np.maximum(nu_max, nu)
            root = np.sqrt(1 - case["b2"] ** t)
            scaled_eps = case["eps"] * root if eps_on_corrected_root else case["eps"]
            params = params - case["lr"] * root / (1 - case["b1"] ** t) * mu / (np.sqrt(nu_max) + scaled_eps)
            rows.append(params)
        after[leaf] = np.stack(rows)
    return after


@pytest.mark.parametrize("case", [case for case in by_name("torch_adam_") if case.values[0]["amsgrad"]])
def test_amsgrad_baseline(case):
    """PyTorch adds eps to the root of the corrected maximum; ours, as the authors' code, to the uncorrected one.

    This is the only difference: the loop reproduces PyTorch with the one and ours with the other.
    """
    theirs = amsgrad_loop(case, eps_on_corrected_root=True)
    assert reference.largest_difference(theirs, reference.expected(case["name"])) < TOLERANCE
    ours = reference.trajectory(
        make_optimizer("amsgrad", {**adam_settings(case), "weight_decay": case["weight_decay"]})
    )
    assert reference.largest_difference(ours, amsgrad_loop(case, eps_on_corrected_root=False)) < TOLERANCE
    assert reference.largest_difference(ours, theirs) < 0.03 * case["lr"]


def test_a_wrong_maximum_is_seen():
    """Optax's own amsgrad corrects before the maximum: far outside the tolerance on these gradients."""
    case = reference.case("torch_adam_amsgrad_lr1e-1_wd0")
    difference = reference.largest_difference(
        reference.trajectory(optax.amsgrad(case["lr"], case["b1"], case["b2"], case["eps"])),
        reference.expected(case["name"]),
    )
    np.testing.assert_allclose(difference, 0.22, atol=0.01)
