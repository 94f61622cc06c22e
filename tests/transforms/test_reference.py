"""The optimizers against trajectories of public PyTorch code (tests/support/data/README.md), in float64."""

import functools

import numpy as np
import optax
import pytest
import reference

import padam_optax
from padam_optax.experiments.methods import MethodContext, make_optimizer

TOLERANCE = 1e-10


def adam_settings(case: dict) -> dict[str, float]:
    return {"learning_rate": case["lr"], "b1": case["b1"], "b2": case["b2"], "eps": case["eps"]}


# What reproduces a case: the package's own optimizers, and the methods of the experiments.


def algorithm_1(case):
    return padam_optax.padam(case["lr"], case["b1"], case["b2"], 0.0, p=case["p"])


def authors_code(case):
    assert case["amsgrad"]
    return padam_optax.padam(
        **adam_settings(case), p=case["p"], weight_decay=case["weight_decay"], bias_correction="official"
    )


def adabound(case):
    return padam_optax.adabound(
        **adam_settings(case),
        final_learning_rate=case["final_lr"],
        gamma=case["gamma"],
        weight_decay=case["weight_decay"],
        amsbound=case["amsbound"],
    )


def adabound_baseline(case):
    settings = {name: case[name] for name in ("gamma", "weight_decay")}
    return make_optimizer("adabound", {**adam_settings(case), **settings, "final_learning_rate": case["final_lr"]})


def padam_baseline(case):
    settings = {**adam_settings(case), "p": case["p"], "weight_decay": case["weight_decay"]}
    return make_optimizer("padam", settings, MethodContext(bias_correction="official"))


def sgdm_baseline(case):
    settings = {"learning_rate": case["lr"], "momentum": case["momentum"], "weight_decay": case["weight_decay"]}
    return make_optimizer("sgdm", settings)


def adam_baseline(case):
    return make_optimizer("adam", {**adam_settings(case), "weight_decay": case["weight_decay"]})


def adamw_baseline(case):
    """PyTorch's decay is multiplied by the rate; the normalised one is not, but by 1/sqrt(updates)."""
    updates = len(reference.gradients()["w"])
    settings = {**adam_settings(case), "normalized_weight_decay": case["lr"] * case["weight_decay"] * updates**0.5}
    return make_optimizer("adamw", settings, MethodContext(total_updates=updates))


def yogi_baseline(case):
    """The decay of the experiments is coupled; a decoupled one is another method."""
    return make_optimizer("yogi", {**adam_settings(case), "weight_decay": case["weight_decay"]})


def cases(*prefixes: str) -> list[dict]:
    return [case for prefix in prefixes for case in reference.cases(prefix)]


CASES = {
    algorithm_1: cases("paper_"),
    authors_code: cases("official_"),
    adabound: cases("adabound_", "amsbound_"),
    adabound_baseline: cases("adabound_"),
    padam_baseline: cases("official_"),
    sgdm_baseline: cases("torch_sgdm_wd"),
    adam_baseline: [case for case in cases("torch_adam_") if not case["amsgrad"]],
    adamw_baseline: cases("torch_adamw"),
    yogi_baseline: [case for case in cases("yogi_") if not case["weight_decouple"] or not case["weight_decay"]],
}


@functools.cache
def trajectories(build):
    """All cases of one builder in one program, by name."""
    return reference.trajectories({case["name"]: build(case) for case in CASES[build]})


@pytest.mark.parametrize(
    ("build", "name"),
    [
        pytest.param(build, case["name"], id=f"{build.__name__}-{case['name']}")
        for build, found in CASES.items()
        for case in found
    ],
)
def test_reproduces(build, name):
    assert reference.largest_difference(trajectories(build)[name], reference.expected(name)) < TOLERANCE


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


AMSGRAD_CASES = {case["name"]: case for case in cases("torch_adam_") if case["amsgrad"]}


@functools.cache
def amsgrad_baselines():
    """The experiments' AMSGrad in every case, and Optax's own in one."""
    official = MethodContext(bias_correction="official")
    optimizers = {
        name: make_optimizer("amsgrad", {**adam_settings(case), "weight_decay": case["weight_decay"]}, official)
        for name, case in AMSGRAD_CASES.items()
    }
    return reference.trajectories(optimizers | {"optax": optax.amsgrad(**adam_settings(AMSGRAD_CASES[WITHOUT_DECAY]))})


WITHOUT_DECAY = "torch_adam_amsgrad_lr1e-1_wd0"


@pytest.mark.parametrize("name", AMSGRAD_CASES)
def test_amsgrad_baseline(name):
    """PyTorch adds eps to the root of the corrected maximum; ours, as the authors' code, to the uncorrected one.

    This is the only difference: the loop reproduces PyTorch with the one and ours with the other.
    """
    case, ours = AMSGRAD_CASES[name], amsgrad_baselines()[name]
    theirs = amsgrad_loop(case, eps_on_corrected_root=True)
    assert reference.largest_difference(theirs, reference.expected(name)) < TOLERANCE
    assert reference.largest_difference(ours, amsgrad_loop(case, eps_on_corrected_root=False)) < TOLERANCE
    assert reference.largest_difference(ours, theirs) < 0.03 * case["lr"]


def test_a_wrong_maximum_is_seen():
    """Optax's own amsgrad corrects before the maximum: far outside the tolerance on these gradients."""
    difference = reference.largest_difference(amsgrad_baselines()["optax"], reference.expected(WITHOUT_DECAY))
    np.testing.assert_allclose(difference, 0.22, atol=0.01)
