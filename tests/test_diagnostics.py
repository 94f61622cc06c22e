"""Effective learning rates from optimizer states."""

import functools
import math
import re
import statistics

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import padam_optax
from padam_optax import adabound, diagnostics, padam, padamw, scale_by_partial_amsgrad

SCHEDULE = optax.piecewise_constant_schedule(0.1, {2: 0.1, 4: 0.1})


def problem():
    params = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array([0.25, -0.5])}
    gradients = [jax.tree.map(lambda x, scale=scale: scale * x, params) for scale in (1.0, 3.0, 0.5, 0.1, 0.1)]
    return params, gradients


def state_after(optimizer, updates: int):
    params, gradients = problem()
    state = optimizer.init(params)
    for gradient in gradients[:updates]:
        _, state = optimizer.update(gradient, state, params)
    return state


def expected_rates(updates: int, p: float, eps: float = 1e-8, b2: float = 0.999):
    """By the definition, in float64, under SCHEDULE."""
    params, gradients = problem()
    alpha = 0.1 * 0.1 ** sum(updates - 1 >= boundary for boundary in (2, 4))
    rates = {}
    for leaf in params:
        nu, nu_max = 0.0, 0.0
        for gradient in gradients[:updates]:
            nu = b2 * nu + (1 - b2) * np.asarray(gradient[leaf], np.float64) ** 2
            nu_max = np.maximum(nu_max, nu)
        rates[f"['{leaf}']"] = alpha / (np.sqrt(nu_max) + eps) ** (2 * p)
    return rates


def assert_close(found, expected, **tolerance):
    assert sorted(found) == sorted(expected)
    for name, rates in expected.items():
        np.testing.assert_allclose(found[name], rates, rtol=1e-5, err_msg=name, **tolerance)


P = 1 / 8
HOLDERS = {
    "transformation": scale_by_partial_amsgrad(p=P),
    "padam": padam(SCHEDULE, p=P, weight_decay=0.0),
    "padamw": padamw(SCHEDULE, p=P),
    "chain": optax.chain(optax.clip(100.0), padam(SCHEDULE, p=P), optax.trace(0.9)),
    "masked": optax.masked(padam(SCHEDULE, p=P), {"w": True, "b": True}),
    "injected": optax.inject_hyperparams(padam)(SCHEDULE, p=P),
    "multi-steps": optax.MultiSteps(padam(SCHEDULE, p=P), every_k_schedule=1),
    "if finite": optax.apply_if_finite(padam(SCHEDULE, p=P), 3),
    "sampled": padam_optax.with_sampled_iterate(padam(SCHEDULE, p=P), SCHEDULE, jax.random.key(0)),
}


@pytest.mark.parametrize("updates", [2, 3])
@pytest.mark.parametrize("optimizer", HOLDERS.values(), ids=HOLDERS)
def test_definition(optimizer, updates):
    """alpha_t over v_hat_t^p, with the rate that the last update was made with."""
    state = state_after(optimizer, updates)
    found = diagnostics.effective_learning_rates(state, SCHEDULE, p=P)
    assert_close(found, expected_rates(updates, P))


@pytest.mark.parametrize("p", [0, 1 / 4, 0.2, 1 / 2])
def test_any_p(p):
    found = diagnostics.effective_learning_rates(state_after(padam(0.1), 3), SCHEDULE, p=p)
    assert_close(found, expected_rates(3, p))


def test_it_is_what_the_update_is_made_with():
    """Without momentum the update is the gradient times the rate."""
    params, gradients = problem()
    optimizer = padam(0.3, b1=0.0, p=P)
    updates, state = optimizer.update(gradients[0], optimizer.init(params), params)
    found = diagnostics.effective_learning_rates(state, 0.3, p=P)
    for leaf in params:
        np.testing.assert_allclose(updates[leaf], -found[f"['{leaf}']"] * gradients[0][leaf], rtol=1e-6)


def test_optax_amsgrad_and_amsbound():
    _, gradients = problem()
    for optimizer in (optax.amsgrad(0.1), adabound(0.1, amsbound=True)):
        state = state_after(optimizer, 3)
        nu_max = optax.tree.get(state, "nu_max")
        found = diagnostics.effective_learning_rates(state, 0.1, p=1 / 2)
        assert_close(found, {f"['{leaf}']": 0.1 / np.sqrt(nu_max[leaf]) for leaf in gradients[0]})


def test_masked_leaves_are_left_out():
    optimizer = optax.masked(padam(SCHEDULE, p=P), {"w": True, "b": False})
    found = diagnostics.effective_learning_rates(state_after(optimizer, 2), SCHEDULE, p=P)
    assert_close(found, {"['w']": expected_rates(2, P)["['w']"]})


def test_partition_gathers_its_parts():
    parts = {"w": padam(SCHEDULE, p=P), "b": padam(SCHEDULE, p=P)}
    state = state_after(optax.partition(parts, {"w": "w", "b": "b"}), 2)
    assert_close(diagnostics.effective_learning_rates(state, SCHEDULE, p=P), expected_rates(2, P))
    one = diagnostics.effective_learning_rates(state.inner_states["b"], SCHEDULE, p=P)
    assert_close(one, {"['b']": expected_rates(2, P)["['b']"]})


def test_injected_hyperparameters_are_the_default():
    optimizer = optax.inject_hyperparams(padam)(SCHEDULE, eps=0.1, p=P)
    for updates in (1, 3, 5):
        state = state_after(optimizer, updates)
        assert_close(diagnostics.effective_learning_rates(state), expected_rates(updates, P, eps=0.1))
    given = diagnostics.effective_learning_rates(state, SCHEDULE, p=1 / 2, eps=0.0)
    assert_close(given, expected_rates(5, 1 / 2, eps=0.0))


def test_schedule_of_p():
    schedule = lambda count: jnp.array([0.5, 0.25, 0.0])[count]
    for updates, p in ((1, 0.5), (2, 0.25), (3, 0.0)):
        state = state_after(padam(0.1, p=schedule), updates)
        found = diagnostics.effective_learning_rates(state, SCHEDULE, p=schedule)
        assert_close(found, expected_rates(updates, p))


def test_before_the_first_update():
    """nu_max is 0: the rate is alpha over eps^(2p), and 0 with eps = 0."""
    state = state_after(padam(0.1), 0)
    found = diagnostics.effective_learning_rates(state, SCHEDULE, p=1 / 4, eps=1e-4)
    np.testing.assert_allclose(found["['w']"], np.full((2, 2), 0.1 / 1e-2), rtol=1e-5)
    found = diagnostics.effective_learning_rates(state, SCHEDULE, p=1 / 4, eps=0.0)
    np.testing.assert_array_equal(found["['w']"], np.zeros((2, 2)))


def test_summary():
    state = state_after(padam(0.1), 5)
    rates = {name: leaf.ravel() for name, leaf in expected_rates(5, 1 / 4).items()}
    everything = np.concatenate(list(rates.values()))
    threshold = float(np.median(everything))
    summary = diagnostics.summarize(state, SCHEDULE, p=1 / 4, threshold=threshold)
    np.testing.assert_allclose(summary.quantiles, np.quantile(everything, diagnostics.QUANTILES), rtol=1e-5)
    assert summary.share_below == 0.5
    for name, leaf in rates.items():
        np.testing.assert_allclose(summary.leaf_quantiles[name], np.quantile(leaf, diagnostics.QUANTILES), rtol=1e-5)
        assert float(summary.leaf_share_below[name]) == pytest.approx(np.mean(leaf < threshold), rel=1e-6)


def test_summary_counts_coordinates_not_leaves():
    params = {"large": jnp.full(900, 10.0), "small": jnp.full(100, 0.1), "empty": jnp.ones((0, 2))}
    optimizer = padam(0.1)
    _, state = optimizer.update(params, optimizer.init(params))
    summary = diagnostics.summarize(state, 0.1, p=1 / 2, threshold=1.0, quantiles=(0.5, 0.95))
    assert float(summary.share_below) == pytest.approx(0.9, rel=1e-6)
    assert {name: float(share) for name, share in summary.leaf_share_below.items()} == {"['large']": 1, "['small']": 0}
    np.testing.assert_allclose(summary.quantiles, 0.1 / np.sqrt(0.001 * np.array([100, 0.01])), rtol=1e-4)


@pytest.mark.parametrize("p", [1 / 2, 1 / 4, 1 / 8, 0])
def test_the_dilemma_is_graver_for_larger_p(p):
    """With the rate chosen so that the largest effective rate is .1, two decays leave fewer coordinates above 1e-4."""
    scales = 10.0 ** jnp.linspace(-4, 0, 1_000)
    optimizer = padam(1.0)
    _, state = optimizer.update(scales, optimizer.init(scales))
    largest = diagnostics.summarize(state, 1.0, p=p, quantiles=(1.0,)).quantiles[0]
    below = diagnostics.summarize(state, 0.001 / largest, p=p, threshold=1e-4 / 3.0, quantiles=()).share_below
    # Rates span 10^(8p), of which the lower part, all but a factor of 30, lies below: log10(30) = 1.477.
    np.testing.assert_allclose(below, max(0.0, 1 - 1.477 / (8 * p)) if p else 0.0, atol=2e-3)


def test_jit_and_bfloat16():
    params = {"w": jnp.array([1.0, 2.0, 4.0], jnp.bfloat16)}
    optimizer = padam(SCHEDULE, nu_dtype="bfloat16")
    _, state = optimizer.update(params, optimizer.init(params), params)
    compute = functools.partial(diagnostics.summarize, learning_rate=SCHEDULE, p=P)
    compiled, plain = jax.jit(compute)(state), compute(state)
    assert compiled.quantiles.dtype == jnp.float32
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), compiled, plain)


def test_measure_in_monitor():
    """The same numbers as from the optimizer's own state, which a second one beside it does not disturb."""
    settings = {"p": P, "threshold": 0.2}
    optimizer = optax.chain(
        optax.clip(100.0), optax.monitor({"rates": diagnostics.measure(SCHEDULE, **settings)}), padam(SCHEDULE, p=P)
    )
    params, gradients = problem()
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for gradient in gradients:
        _, state = update(gradient, state, params)
        found = optax.tree.get(state, "rates")
        expected = diagnostics.summarize(state, SCHEDULE, **settings)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), found, expected)


def test_measure_keeps_its_types():
    measure = diagnostics.measure(0.1)
    params = {"w": jnp.ones(3, jnp.bfloat16), "absent": None}
    state = measure.init(params)
    _, after = jax.eval_shape(measure.update, params, state)
    types = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert types(after) == types(state)


def test_strict_promotion():
    state = state_after(padam(0.1), 2)
    for p in (P, jnp.float32(P)):
        expected = diagnostics.summarize(state, optax.constant_schedule(0.1), p=p)
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            found = diagnostics.summarize(state, optax.constant_schedule(0.1), p=p)
        chex.assert_trees_all_equal(found, expected)


NO_NU_MAX = [optax.adam(0.1), adabound(0.1), optax.sgd(0.1)]


@pytest.mark.parametrize("optimizer", NO_NU_MAX)
def test_state_without_nu_max(optimizer):
    with pytest.raises(ValueError, match=r"^state must hold nu_max, .*got none\.$"):
        diagnostics.effective_learning_rates(state_after(optimizer, 1), 0.1, p=P)


def test_a_parameter_called_nu_max_is_no_state():
    params = {"nu_max": jnp.ones(2)}
    with pytest.raises(ValueError, match="got none"):
        diagnostics.effective_learning_rates(optax.adam(0.1).init(params), 0.1, p=P)
    found = diagnostics.effective_learning_rates(padam(0.1).init(params), 0.1, p=P)
    assert [*found] == ["['nu_max']"]


def test_two_nu_max_for_one_leaf():
    state = state_after(optax.chain(padam(0.1), padam(0.1)), 1)
    with pytest.raises(ValueError, match=r"got two for \"\['b'\]\"\.$"):
        diagnostics.effective_learning_rates(state, 0.1, p=P)


def test_arguments():
    state = state_after(padam(0.1), 1)
    for name, settings in (("learning_rate", {"p": P}), ("p", {"learning_rate": 0.1})):
        with pytest.raises(ValueError, match=rf"^{name} must be given .*got None\.$"):
            diagnostics.effective_learning_rates(state, **settings)
    for name, bad in (("p", 1.1), ("eps", -1.0), ("eps", math.nan)):
        with pytest.raises(ValueError, match=rf"^{name} must .*got {bad}"):
            diagnostics.effective_learning_rates(state, 0.1, **{"p": P, name: bad})
    with pytest.raises(ValueError, match=re.escape("quantiles must be in [0, 1], got (0, 1.5).")):
        diagnostics.summarize(state, 0.1, p=P, quantiles=(0, 1.5))
    with pytest.raises(ValueError, match="empty leaves only"):
        diagnostics.summarize(padam(0.1).init(jnp.ones(0)), 0.1, p=P)
    for name, bad in (("b2", 1.0), ("eps", -1.0), ("p", 1.1)):
        with pytest.raises(ValueError, match=rf"^{name} must .*got {bad}"):
            diagnostics.measure(0.1, **{name: bad})


def test_injected_twice():
    make = optax.inject_hyperparams(padam)
    state = state_after(optax.partition({"w": make(0.1), "b": make(0.2)}, {"w": "w", "b": "b"}), 1)
    with pytest.raises(ValueError, match=r"^learning_rate must be given .*got 2"):
        diagnostics.effective_learning_rates(state, p=P)
    one = diagnostics.effective_learning_rates(state.inner_states["b"])
    np.testing.assert_allclose(one["['b']"], 2 * expected_rates(1, P)["['b']"], rtol=1e-5)


# The median root


def state_with_roots(*roots: float):
    """Padam's, whose nu_max is each root squared."""
    state = padam(0.1).init(jnp.ones(len(roots)))
    return optax.tree.set(state, nu_max=jnp.square(jnp.array(roots)))


@pytest.mark.parametrize("eps", [0.0, 1e-8])
@pytest.mark.parametrize(
    ("roots", "median"),
    [
        ((1.0, 3.0), 2.0),
        ((1.0, 2.0, 8.0, 16.0), 5.0),
        ((0.0, 1.0, 4.0), 1.0),
        ((0.0, 0.0, 1.0, 1.0, 3.0), 1.0),
        ((0.0, 0.0, 3.0), 0.0),
    ],
)
def test_median_of_the_roots(roots, median, eps):
    """Not 1 over the median of their inverses, which is 1.5 for 1 and 3, and infinite where zeros are most."""
    assert statistics.median(roots) == median
    found = diagnostics.median_root(state_with_roots(*roots), eps=eps)
    np.testing.assert_allclose(found, median, rtol=1e-6, atol=1e-7)


MEDIAN_OF = {
    "adam": (optax.adam(0.1), 0.999),
    "adamw": (optax.adamw(0.1, b2=0.95), 0.95),
    "nadam, injected": (optax.inject_hyperparams(optax.nadam)(0.1, b2=0.9), None),
    "in a chain": (optax.chain(optax.clip(100.0), optax.adamw(0.1), optax.trace(0.9)), 0.999),
    "masked": (optax.masked(optax.adam(0.1), {"w": True, "b": True}), 0.999),
    "rmsprop, corrected": (optax.rmsprop(0.1, decay=0.9, bias_correction=True), 0.9),
}


@pytest.mark.parametrize(("optimizer", "b2"), MEDIAN_OF.values(), ids=MEDIAN_OF)
@pytest.mark.parametrize("updates", [1, 5])
def test_median_root_of_adam(optimizer, b2, updates):
    """The root of the corrected moment, which Adam divides by: after one update that of the gradient itself."""
    decay = b2 or 0.9
    _, gradients = problem()
    nu = dict.fromkeys(gradients[0], 0.0)
    for gradient in gradients[:updates]:
        nu = {leaf: decay * nu[leaf] + (1 - decay) * np.asarray(gradient[leaf]) ** 2 for leaf in nu}
    roots = np.sqrt(np.concatenate([leaf.ravel() for leaf in nu.values()]) / (1 - decay**updates))
    state = state_after(optimizer, updates)
    np.testing.assert_allclose(diagnostics.median_root(state, b2=b2), np.median(roots), rtol=1e-5)
    found = jax.jit(functools.partial(diagnostics.median_root, b2=b2))(state)
    np.testing.assert_allclose(found, np.median(roots), rtol=1e-5)


@pytest.mark.parametrize("optimizer", [optax.rmsprop(0.1), padam_optax.scale_by_partial_rms(0.9)])
def test_median_root_of_rmsprop(optimizer):
    """Its moment is not corrected."""
    params, _ = problem()
    gradient = np.concatenate([np.asarray(leaf).ravel() for leaf in params.values()])
    expected = np.median(np.sqrt(0.1) * np.abs(gradient))
    np.testing.assert_allclose(diagnostics.median_root(state_after(optimizer, 1)), expected, rtol=1e-5)


def test_median_root_of_a_partition():
    parts = {"w": optax.adam(0.1), "b": padam(0.1)}
    state = state_after(optax.partition(parts, {"w": "w", "b": "b"}), 1)
    params, _ = problem()
    roots = [np.abs(params["w"]).ravel(), np.sqrt(0.001) * np.abs(params["b"])]
    np.testing.assert_allclose(diagnostics.median_root(state), np.median(np.concatenate(roots)), rtol=1e-5)
    alone = diagnostics.median_root(state, lambda name: name == "['b']")
    np.testing.assert_allclose(alone, np.median(roots[1]), rtol=1e-5)


def test_median_root_before_the_first_update():
    for optimizer in (optax.adam(0.1), optax.rmsprop(0.1), padam(0.1)):
        assert diagnostics.median_root(state_after(optimizer, 0), eps=1e-4) == np.float32(1e-4)


def test_median_root_where_there_is_none():
    for optimizer in (optax.sgd(0.1), optax.lion(0.1)):
        with pytest.raises(ValueError, match=r"^state must hold nu_max, .* or nu, .*got none\.$"):
            diagnostics.median_root(state_after(optimizer, 1))
    with pytest.raises(ValueError, match=r"got two for \"\['b'\]\"\.$"):
        diagnostics.median_root(state_after(optax.chain(optax.adam(0.1), padam(0.1)), 1))
    for name, bad in (("eps", -1.0), ("b2", 1.0)):
        with pytest.raises(ValueError, match=rf"^{name} must .*got {bad}"):
            diagnostics.median_root(state_after(optax.adam(0.1), 1), **{name: bad})


def test_the_rate_of_adam_is_kept():
    """From a state of AdamW: a coordinate at the median root goes as far at p = 1/8 as with AdamW's own rate."""
    params = {"w": jnp.array([2.0, 8.0, 32.0])}
    _, state = optax.adamw(1e-3).update(params, optax.adamw(1e-3).init(params), params)
    rate = padam_optax.convert_learning_rate(1e-3, 1 / 2, 1 / 8, diagnostics.median_root(state))
    padam_at = padam(rate, b1=0.0, p=1 / 8, bias_correction="debiased")
    adam = optax.adam(1e-3, b1=0.0)
    found, expected = (tx.update(params, tx.init(params), params)[0]["w"] for tx in (padam_at, adam))
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


# Debugging flags


@pytest.mark.parametrize("without_jit", [False, True])
@pytest.mark.parametrize("p", [1 / 5, jnp.float32(1 / 8), optax.constant_schedule(jnp.float32(2 / 5))])
def test_no_false_alarm_of_the_debugging_flags(p, without_jit):
    """On 16,384 coordinates and more the power has a form of its own; those that are 0 stay so with eps = 0."""
    params = jnp.concatenate([jnp.ones(16_384), jnp.zeros(16)])
    measure = diagnostics.measure(0.1, eps=0.0, p=p)
    with jax.debug_nans(True), jax.debug_infs(True), jax.disable_jit(without_jit):
        _, state = measure.update(params, measure.init(params))
        diagnostics.effective_learning_rates(state, 0.1, p=p)
        assert float(diagnostics.median_root(state, eps=0.0)) == pytest.approx(0.001**0.5, rel=1e-5)
        summary = jax.jit(functools.partial(diagnostics.summarize, learning_rate=0.1, p=p))(measure.init(params))
    assert np.isfinite(summary.quantiles).all()
    rates = diagnostics.effective_learning_rates(state._replace(nu_max=state.nu_max * jnp.nan), 0.1, p=p)
    assert np.isnan(rates[""]).all()


@pytest.mark.parametrize("scope", ["leaf", "all"])
def test_rates_with_a_reference(scope):
    """Those of the optimizer's own updates: where momentum is 1, an update is a rate."""
    gradients = {"a": jnp.array([1e-3, 2e-3]), "b": jnp.array([0.5, 0.1, 3.0])}
    settings = {"p": 1 / 8, "reference_p": 1 / 2, "bias_correction": "none", "b1": 0.0, "reference_scope": scope}
    optimizer = padam_optax.padam(0.01, **settings)
    updates, state = optimizer.update(gradients, optimizer.init(gradients))
    rates = diagnostics.effective_learning_rates(state, 0.01, p=1 / 8, reference_p=1 / 2)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(-updates[name] / gradient, rates[f"['{name}']"], rtol=1e-5)
    summary = diagnostics.summarize(state, 0.01, p=1 / 8, reference_p=1 / 2, quantiles=(0, 1))
    np.testing.assert_allclose(summary.quantiles[1], max(leaf.max() for leaf in rates.values()), rtol=1e-6)
    with pytest.raises(ValueError, match="reference_p must be given"):
        diagnostics.effective_learning_rates(state, 0.01, p=1 / 8)
