"""Random trees, dtypes, shapes and hyper-parameters at their limits, against the formulas in float64 NumPy."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import padam_optax

STEPS = 3
# Magnitudes of gradients whose squares and updates the dtype holds.
MAGNITUDES = {"float16": (-4, 3), "bfloat16": (-12, 12), "float32": (-12, 12), "float64": (-40, 40)}
# A scalar, no element, and some.
SHAPES = [(), (0,), (2, 3)]
NEARLY_1 = 1 - 2.0**-20
DECAYS = [0.0, 0.9, 0.999, NEARLY_1]
POWERS = [0, 1 / 16, 1 / 8, 0.2, 1 / 2]


def power(base, exponent):
    """`base^exponent`, and infinity where the base is 0, so that what is divided by it is 0; anything to the 0 is 1."""
    return np.where(np.logical_and(base == 0, exponent != 0), np.inf, base**exponent)


def one_minus_power(decay, t):
    """`1 - decay^t` to float64's last digits."""
    return -np.expm1(t * np.log(decay)) if decay else 1.0


def average(values, decay):
    """Exponential moving averages from 0 on."""
    found, last = [], 0.0
    for value in values:
        last = decay * last + (1 - decay) * value
        found.append(last)
    return found


# Each yields for every step what is scaled, a bound on the size of its terms, and the scale.


def amsgrad(gradients, *, b1, b2, eps, p, bias_correction):
    roots = np.sqrt(np.maximum.accumulate(average([g**2 for g in gradients], b2)))
    terms = zip(average(gradients, b1), average(map(abs, gradients), b1), roots, strict=True)
    for t, (mu, size, root) in enumerate(terms, 1):
        exponent = {"none": 0, "official": 1 / 2, "debiased": p}[bias_correction]
        debiasing = one_minus_power(b2, t) ** exponent / one_minus_power(b1, t)
        correction = 1 if bias_correction == "none" else debiasing
        yield mu, size, correction / power(root + eps, 2 * p)


def rss(gradients, *, initial_accumulator_value, eps, p):
    totals = initial_accumulator_value + np.cumsum([g**2 for g in gradients], axis=0)
    for g, total in zip(gradients, totals, strict=True):
        yield g, abs(g), 1 / power(np.where(total > 0, total + eps, 0), p)


def rms(gradients, *, decay, eps, p, eps_in_sqrt):
    for g, nu in zip(gradients, average([g**2 for g in gradients], decay), strict=True):
        yield g, abs(g), 1 / (power(nu + eps, p) if eps_in_sqrt else power(np.sqrt(nu) + eps, 2 * p))


def adadelta(gradients, *, rho, eps, p):
    e_x = 0.0
    for g, e_g in zip(gradients, average([g**2 for g in gradients], rho), strict=True):
        above, below = np.broadcast_arrays(e_x + eps, e_g + eps)
        ratio = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
        scale = ratio**p
        e_x = rho * e_x + (1 - rho) * (scale * g) ** 2
        yield g, abs(g), scale


def adamax(gradients, *, b1, b2, eps, p):
    largest = 0.0
    for t, (g, mu, size) in enumerate(
        zip(gradients, average(gradients, b1), average(map(abs, gradients), b1), strict=True), 1
    ):
        largest = np.maximum(b2 * largest, abs(g) + eps)
        yield mu, size, 1 / one_minus_power(b1, t) / power(largest, 2 * p)


def adabound(gradients, *, b1, b2, eps, final_ratio, gamma, amsbound):
    nus = np.array(average([g**2 for g in gradients], b2))
    nus = np.maximum.accumulate(nus) if amsbound else nus
    terms = zip(average(gradients, b1), average(map(abs, gradients), b1), nus, strict=True)
    for t, (mu, size, nu) in enumerate(terms, 1):
        factor = np.sqrt(one_minus_power(b2, t)) / one_minus_power(b1, t) / (np.sqrt(nu) + eps)
        upper = final_ratio * (1 + 1 / (gamma * t)) if gamma else np.inf
        yield mu, size, np.clip(factor, final_ratio * gamma * t / (gamma * t + 1), upper)


decays, powers, epsilons = st.sampled_from(DECAYS), st.sampled_from(POWERS), st.sampled_from([0.0, 1e-8, 1.0])
METHODS = {
    "amsgrad": (
        padam_optax.scale_by_partial_amsgrad,
        amsgrad,
        {
            "b1": decays,
            "b2": decays,
            "eps": epsilons,
            "p": powers,
            "bias_correction": st.sampled_from(["none", "official", "debiased"]),
        },
    ),
    "rss": (
        padam_optax.scale_by_partial_rss,
        rss,
        {"initial_accumulator_value": st.sampled_from([0.0, 0.1]), "eps": epsilons, "p": powers},
    ),
    "rms": (
        padam_optax.scale_by_partial_rms,
        rms,
        {"decay": decays, "eps": epsilons, "p": powers, "eps_in_sqrt": st.booleans()},
    ),
    "adadelta": (padam_optax.scale_by_partial_adadelta, adadelta, {"rho": decays, "eps": epsilons, "p": powers}),
    "adamax": (
        padam_optax.scale_by_partial_adamax,
        adamax,
        {"b1": decays, "b2": decays, "eps": epsilons, "p": powers},
    ),
    "adabound": (
        padam_optax.scale_by_adabound,
        adabound,
        {
            "b1": decays,
            "b2": decays,
            "eps": st.sampled_from([1e-8, 1.0]),
            "final_ratio": st.sampled_from([0.0, 0.1, 10.0]),
            "gamma": st.sampled_from([0.0, 1e-3, 1.0]),
            "amsbound": st.booleans(),
        },
    ),
}


@st.composite
def trees(draw):
    """Parameters and gradients of some steps, with leaves of all kinds."""
    kinds = draw(st.lists(st.tuples(st.sampled_from(list(MAGNITUDES)), st.sampled_from(SHAPES)), max_size=3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def gradient(dtype, shape):
        values = 10.0 ** random.uniform(*MAGNITUDES[dtype], shape) * random.choice([-1, 0, 1], shape)
        return jnp.asarray(values, dtype)

    params = [jnp.ones(shape, dtype) for dtype, shape in kinds]
    gradients = [[gradient(*kind) for kind in kinds] for _ in range(STEPS)]
    tree = draw(st.sampled_from([list, tuple, lambda leaves: {"a": {"b": leaves}, "c": ()}]))
    return tree(params), [tree(leaves) for leaves in gradients]


def types(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_formula(method):
    make, formula, settings = METHODS[method]

    # One seed for all: what is compiled for a shape and a dtype is compiled once.
    @hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @hypothesis.given(st.data())
    def check(data):
        drawn = {name: data.draw(strategy, name) for name, strategy in settings.items()}
        with jax.enable_x64(True):
            params, gradients = data.draw(trees())
            transformation = make(**drawn)
            state = transformation.init(params)
            before = types(state)
            found = []
            for gradient in gradients:
                updates, state = transformation.update(gradient, state, params)
                assert types(updates) == types(params)
                assert types(state) == before
                found.append(jax.tree.leaves(updates))
        for leaf, param in enumerate(jax.tree.leaves(params)):
            steps = [np.asarray(jax.tree.leaves(gradient)[leaf], np.float64) for gradient in gradients]
            assert_close([updates[leaf] for updates in found], functools.partial(formula, steps, **drawn), param.dtype)

    check()


def assert_close(found, formula, dtype):
    """Within what the parameters' dtype (of momentum and update) and float32 (of all else) can lose."""
    limits, wide = jnp.finfo(dtype), jnp.finfo(jnp.promote_types(dtype, jnp.float32))
    # The power through exp and log loses the most: some tens of units in the last place.
    relative = (STEPS + 1) * float(limits.eps) + 128 * float(wide.eps)
    smallest = float(limits.smallest_subnormal) if dtype == jnp.float16 else float(limits.tiny)
    for update, (scaled, size, scale) in zip(found, formula(), strict=True):
        update, expected = np.asarray(update, np.float64), scaled * scale
        # Where the second moment forgets faster than the first, a small gradient after a large one can exceed float16.
        fits = abs(expected) < float(limits.max) / 2
        assert np.isfinite(update[fits]).all()
        bound = relative * size * scale + smallest * (1 + STEPS * scale)
        assert (abs(update - expected) <= bound)[fits].all()
