"""The constants and bounds of Theorem 4.3 by hand, on functions whose constants are known, and its lemmas on runs."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from padam_optax import padam, sampled_iterate, scale_by_partial_amsgrad, theory, with_sampled_iterate

# Numbers worked by hand


# 1 - b2 = 1/16, so that (1 - b2)^(2p) = 1/4 and (1 - b2)^-p = 2 at p = 1/4; b2^(2p) = sqrt(15)/4.
SETTINGS = {"p": 1 / 4, "b1": 0.5, "b2": 0.9375, "L": 3.0, "G_inf": 4.0, "delta_f": 3.0, "d": 3, "v1_norm": 6.0}
GAMMA = 2 / math.sqrt(15)


def problem(**changed):
    return theory.Problem(**SETTINGS | changed)


def test_m1():
    """2 G^(2p) delta_f = 2 * 4^(1/2) * 3."""
    assert theory.m1(problem()) == 12
    assert theory.m1(problem(p=0)) == 6
    assert theory.m1(problem(p=1 / 2)) == 24


def test_m2():
    """4 G^(2+2p) V / (d (1 - b1)) + 4 G^2 = 4 * 32 * 6 / (3 * 1/2) + 64, and 128 for the last term corrected."""
    assert theory.m2(problem()) == 512 + 64
    assert theory.m2(problem(), corrected=True) == 512 + 128


def test_m3():
    """4 L G^(1+q-2p) / (1 - b2)^(2p) = 4 * 3 * 4 / (1/4) = 192 at q = 1/2; twice that times 1/2 / (1 - gamma)."""
    found = theory.m3(problem(), q=0.5)
    assert found == pytest.approx(192 + 192 / (1 - GAMMA), rel=1e-14)
    assert theory.m3_prime(problem()) == pytest.approx(found / 2, rel=1e-14)
    without_momentum = problem(p=1 / 2, b1=0.0, b2=0.75)
    assert theory.m3(without_momentum, q=1.0) == 4 * 3 * 4 / 0.25


def test_bounds():
    """M1/(T alpha) + M2 d/T + M3 alpha d G^(1-q) / T^((1-q)(1/2-s)) at T = 16, alpha = 1/8, s = 1/8."""
    run = {"T": 16, "alpha": 1 / 8, "s": 1 / 8}
    m3 = 192 + 192 / (1 - GAMMA)
    # q = 1/2: G^(1/2) = 2 and 16^(3/16) = 2^(3/4); q = 0: M3' = M3/2, G = 4 and 16^(3/8) = 2^(3/2).
    expected = 12 / 2 + 576 * 3 / 16 + m3 * (3 / 8) * 2 / 2**0.75
    assert theory.bound(problem(), q=0.5, **run) == pytest.approx(expected, rel=1e-14)
    by_corollary = 12 / 2 + 576 * 3 / 16 + m3 / 2 * (3 / 8) * 4 / 2**1.5
    assert theory.corollary_bound(problem(), **run) == pytest.approx(by_corollary, rel=1e-14)
    by_default = theory.bound(problem(), **run)
    assert by_default == theory.bound(problem(), q=0.0, **run) == theory.corollary_bound(problem(), **run)
    corrected = theory.bound(problem(), q=0.5, corrected=True, **run)
    assert corrected == pytest.approx(expected + 64 * 3 / 16, rel=1e-14)
    assert theory.corollary_bound(problem(), corrected=True, **run) == pytest.approx(by_corollary + 12, rel=1e-14)


def test_step_size_and_rate():
    """T = 256: T^(1/4) = 4, T^(s/2) = 2 at s = 1/4 and 4 at s = 1/2."""
    assert theory.step_size(256, 4, 0.25) == 1 / 16
    assert theory.step_size(256, 4) == 1 / 32
    assert theory.step_size(256, 4, constant=3.0) == 3 / 32
    assert theory.rate(256, 4) == pytest.approx(2 / 16 + 4 / 256)
    assert theory.rate(256, 4, 0.25) == pytest.approx(2 / 32 + 4 / 256)
    assert (theory.rate_exponent(0.5), theory.rate_exponent(0.25), theory.rate_exponent(0.0)) == (0.5, 0.625, 0.75)
    assert theory.growth_bound(T=257, d=3, G_inf=2.0, s=0.0) == 12 / 256


def test_arrays_of_t():
    steps = np.array([10, 100, 1_000])
    found = theory.bound(problem(), T=steps, alpha=theory.step_size(steps, 3))
    expected = [theory.bound(problem(), T=int(T), alpha=theory.step_size(int(T), 3)) for T in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_optimal_constant_minimises_the_corollary():
    best = theory.optimal_constant(problem())

    def at(constant):
        alpha = theory.step_size(10**6, 3, 0.25, constant=constant)
        return theory.corollary_bound(problem(), T=10**6, alpha=alpha, s=0.25)

    assert at(best) < min(at(0.99 * best), at(1.01 * best))


@pytest.mark.parametrize("s", [0.0, 0.25, 0.5])
def test_corollary_with_the_step_size_has_the_rate(s):
    """(4.2) over (4.3) tends to a constant: the remark's O."""
    steps = 10.0 ** np.array([12, 16, 20])
    bounds = theory.corollary_bound(problem(), T=steps, alpha=theory.step_size(steps, 3, s), s=s)
    ratio = bounds / theory.rate(steps, 3, s)
    np.testing.assert_allclose(ratio[1:] / ratio[:-1], 1.0, rtol=0.1)


# Conditions


RUN = {"T": 100, "alpha": 0.1, "q": 0.5, "s": 0.5}
BAD = [
    ("p", -0.1, "p in [0, 1/2]"),
    ("p", 0.51, "p in [0, 1/2]"),
    ("p", math.nan, "p in [0, 1/2]"),
    ("b1", 0.97, "b1 < b2^(2p)"),
    ("b1", 1.0, "b1 and b2 in [0, 1)"),
    ("b2", 1.0, "b1 and b2 in [0, 1)"),
    ("b2", 0.2, "b1 < b2^(2p)"),
    ("q", -0.1, "q in [max(0, 4p - 1), 1]"),
    ("q", 1.1, "q in [max(0, 4p - 1), 1]"),
    ("s", -0.1, "0 <= s <= 1/2"),
    ("s", 0.6, "0 <= s <= 1/2"),
    ("T", 1, "T >= 2"),
    ("T", np.array([10, 1]), "T >= 2"),
    ("T", 2.5, "T >= 2 and whole"),
    ("T", 10**400, "T >= 2"),
    ("alpha", 0.0, "alpha > 0"),
    ("L", 0.0, "L > 0"),
    ("G_inf", 0.0, "G_inf > 0"),
    ("G_inf", math.inf, "G_inf > 0"),
    ("delta_f", -1.0, "delta_f >= 0"),
    ("d", 0, "d >= 1"),
    ("d", 2.5, "d >= 1 and whole"),
    ("v1_norm", 0.0, "v1_norm > 0"),
]


def bound_with(**changed):
    """The bound with settings of the problem or of the run changed."""
    run = {name: changed.pop(name, value) for name, value in RUN.items()}
    return theory.bound(problem(**changed), **run)


@pytest.mark.parametrize(("name", "value", "condition"), BAD)
def test_conditions(name, value, condition):
    bound_with()
    with pytest.raises(ValueError, match=re.escape(f"needs {condition}") + rf".*{name} = {re.escape(str(value))}"):
        bound_with(**{name: value})


def test_boundaries_of_the_conditions():
    """b1 = b2^(2p) is out, q = 4p - 1 in; p = 1/2 leaves q = 1 only."""
    with pytest.raises(ValueError, match=re.escape("b1 < b2^(2p)")):
        problem(p=1 / 2, b1=0.9, b2=0.9)
    bound_with(p=3 / 8, q=0.5)
    with pytest.raises(ValueError, match=r"= \[0\.5, 1\], got q = 0\.49"):
        bound_with(p=3 / 8, q=0.49)
    with pytest.raises(ValueError, match=r"Corollary 4.5 needs p in \[0, 1/4\], got p = 0.26"):
        theory.corollary_bound(problem(p=0.26), T=100, alpha=0.1)


def test_a_problem_stays_as_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem().b1 = 1.0
    with pytest.raises(ValueError, match=r"got p = 0\.6"):
        dataclasses.replace(problem(), p=0.6)


def test_a_zero_in_the_first_gradient_makes_the_bound_infinite():
    gradients = jnp.array([[0.0, 1.0], [1.0, 1.0]])
    v1_norm = theory.estimate(gradients, p=1 / 4, b2=0.9).v1_norm
    assert v1_norm == math.inf
    assert bound_with(v1_norm=v1_norm) == math.inf
    assert theory.estimate(gradients, p=0, b2=0.9).v1_norm == 2


# The estimator


def test_estimate_of_dense_gradients():
    found = theory.estimate({"w": np.full((64, 3), -2.0), "b": np.full((64, 1, 2), 1.0)}, p=1 / 4, b2=0.9375)
    assert (found.T, found.d, found.G_inf, found.s) == (64, 5, 2.0, 0.5)
    # 2 (3 / sqrt(2) + 2), as (1 - b2)^-p = 2.
    assert found.v1_norm == pytest.approx(6 / math.sqrt(2) + 4, rel=1e-12)


@pytest.mark.parametrize("s", [0.0, 0.125, 0.25, 0.375])
def test_estimate_of_sparse_gradients(s):
    """T^(2s) of T gradients of one size are not 0, the first among them."""
    gradients = np.zeros((256, 2))
    gradients[: round(256 ** (2 * s))] = 3.0
    assert theory.estimate(gradients, p=0, b2=0.9).s == pytest.approx(s, abs=1e-12)


def test_estimate_fulfils_the_condition_with_equality():
    gradients = np.random.default_rng(0).normal(size=(100, 7)) * np.geomspace(1, 1e-3, 100)[:, None]
    found = theory.estimate(gradients, p=1 / 8, b2=0.99)
    norms = np.linalg.norm(gradients, axis=0)
    assert norms.max() == pytest.approx(found.G_inf * 100**found.s, rel=1e-12)
    expected = np.sum((0.01 * gradients[0] ** 2) ** (-1 / 8))
    assert found.v1_norm == pytest.approx(expected, rel=1e-12)


def test_estimate_of_one_gradient_and_of_complex_ones():
    assert theory.estimate(np.ones((1, 3)), p=0, b2=0.9).s == 0
    assert theory.estimate(jnp.array([[3 + 4j]]), p=0, b2=0.9).G_inf == pytest.approx(5)


def test_the_problem_of_an_estimate():
    """It has what was estimated, and the p and b2 with which."""
    found = theory.estimate(np.full((256, 2), -2.0), p=1 / 4, b2=0.9375)
    expected = problem(p=1 / 4, b1=0.5, b2=0.9375, L=3.0, G_inf=2.0, delta_f=1.0, d=2, v1_norm=found.v1_norm)
    assert found.problem(b1=0.5, L=3.0, delta_f=1.0) == expected


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ([], "got lengths []"),
        (np.ones(()), "got lengths [0]"),
        ([np.ones((2, 1)), np.ones((3, 1))], "got lengths [2, 3]"),
        (np.zeros((2, 2)), "got 0.0 as their largest"),
        (np.array([[1.0, np.inf]]), "got inf as their largest"),
        (np.array([[1.0, np.nan]]), "got nan as their largest"),
    ],
)
def test_bad_gradients(gradients, message):
    with pytest.raises(ValueError, match=rf"^gradients must .*{re.escape(message)}"):
        theory.estimate(gradients, p=0.1, b2=0.9)


# (A.13)


def test_the_line_after_a13_lacks_a_factor():
    """At a gradient of the largest size, V_hat_1^-p g_1 is (1 - b2)^-p as large as that line says, and no larger."""
    p, b2, largest = 1 / 8, 0.999, 3.0
    g = np.array([largest, -largest, 0.5])
    scaled = np.abs(((1 - b2) * g**2) ** -p * g).max()
    assert scaled > 2 * largest ** (1 - 2 * p)
    assert scaled == pytest.approx(largest ** (1 - 2 * p) * (1 - b2) ** -p, rel=1e-12)
    settings = problem(p=p, b1=0.9, b2=b2, G_inf=largest, v1_norm=9.0)
    difference = [theory.m2(settings, corrected=corrected) for corrected in (True, False)]
    assert difference[0] - difference[1] == pytest.approx(4 * largest**2 * ((1 - b2) ** -p - 1), rel=1e-9)


@pytest.mark.parametrize("p", [0, 1 / 8, 1 / 4, 1 / 2])
@pytest.mark.parametrize("b1", [0.0, 0.5, 0.9])
def test_the_printed_m2_has_room_for_what_a13_needs(b1, p):
    """What the steps of the proof add up to, without the line: 2 G^(2+2p) V (1 + 1/(1 - b1)) / d <= M2."""
    b2, largest, d = 0.999, 3.0, 2
    smallest = d * ((1 - b2) * largest**2) ** -p
    for v1_norm in (smallest, 10 * smallest, 1_000 * smallest):
        needed = 2 * largest ** (2 + 2 * p) * v1_norm * (1 + 1 / (1 - b1)) / d
        assert needed <= theory.m2(problem(p=p, b1=b1, b2=b2, G_inf=largest, d=d, v1_norm=v1_norm))


# Runs on functions whose L, G_inf and inf f are known


class Objective:
    """f(x) = sum_i phi(x_i) with phi's gradient plus or minus `noise`, from x_1 = `start` in each coordinate.

    Attributes: `slope` of phi, its bound `steepest`, `L` a bound of phi's second derivative; inf phi = 0.
    """

    def __init__(self, phi, slope, steepest: float, L: float, start: float, noise: float):
        self.slope, self.L, self.start, self.noise = slope, L, start, noise
        self.G_inf = steepest + noise
        self.drop = float(phi(start))

    def problem(self, *, d: int, p: float, b1: float, b2: float) -> theory.Problem:
        first = [abs(float(self.slope(self.start)) + sign * self.noise) for sign in (1, -1)]
        v1_norm = d * (1 - b2) ** -p * sum(size ** (-2 * p) for size in first) / 2
        known = {"L": self.L, "G_inf": self.G_inf, "delta_f": d * self.drop}
        return theory.Problem(p=p, b1=b1, b2=b2, d=d, v1_norm=v1_norm, **known)


OBJECTIVES = {
    # 1 - cos: slope sin, second derivative cos.
    "cosine": Objective(lambda x: 1 - math.cos(x), jnp.sin, 1.0, 1.0, start=2.0, noise=0.5),
    # x^2/(1+x^2): the slope is steepest at 1/sqrt(3), the second derivative (2 - 6x^2)/(1+x^2)^3 largest at 0.
    "rational": Objective(
        lambda x: x**2 / (1 + x**2), lambda x: 2 * x / (1 + x**2) ** 2, 3**1.5 / 8, 2.0, start=1.0, noise=2.0
    ),
}


def test_constants_of_the_objectives():
    """G_inf, L and the drop against a fine grid."""
    x = np.linspace(-5, 5, 200_001)
    for objective in OBJECTIVES.values():
        with jax.enable_x64(True):
            slope = np.asarray(objective.slope(jnp.asarray(x)))
        assert np.abs(slope).max() == pytest.approx(objective.G_inf - objective.noise, rel=1e-5)
        assert np.abs(np.gradient(slope, x)).max() == pytest.approx(objective.L, rel=1e-3)
        integral = np.sum((slope[:-1] + slope[1:]) / 2 * np.diff(x) * ((x[:-1] >= 0) & (x[:-1] < objective.start)))
        assert objective.drop == pytest.approx(integral, rel=1e-3)


def mean_squared_gradients(name, alpha, p, b1, b2, *, d, T, seed):
    """Of each of 64 runs: the mean of |grad f|^2 over x_2, ..., x_T, and |grad f(x_out)|^2."""
    objective = OBJECTIVES[name]
    index, key = list(OBJECTIVES).index(name), jax.random.key(seed)
    return _mean_squared_gradients(index, objective.start, objective.noise, key, alpha, p, b1, b2, d=d, T=T)


@functools.partial(jax.jit, static_argnames=("d", "T"))
def _mean_squared_gradients(index, start, size, key, alpha, p, b1, b2, *, d, T):
    slopes = [objective.slope for objective in OBJECTIVES.values()]
    slope = lambda x: jax.lax.switch(index, slopes, x)

    def run(key):
        draw, noise = jax.random.split(key)
        optimizer = with_sampled_iterate(padam(alpha, b1, b2, 0.0, p=p), alpha, draw)
        params = jnp.full(d, start)

        def step(carry, key):
            params, state = carry
            gradient = slope(params) + size * jax.random.rademacher(key, (d,), jnp.float32)
            updates, state = optimizer.update(gradient, state, params)
            params = params + updates
            return (params, state), jnp.sum(slope(params) ** 2)

        (_, state), squares = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(noise, T - 1))
        return squares.mean(), jnp.sum(slope(sampled_iterate(state)) ** 2)

    return jax.vmap(run)(jax.random.split(key, 64))


DECAYS = [(0.0, 0.9), (0.9, 0.99), (0.9, 0.999)]


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("d", "T"), [(1, 2), (5, 200)])
def test_measured_gradients_stay_below_the_bounds(name, d, T):
    """E|grad f(x_out)|^2, as the mean over the iterates and over the draws, of 64 runs."""
    for p in (0.0, 1 / 8, 1 / 4, 1 / 2):
        for b1, b2 in DECAYS:
            known = OBJECTIVES[name].problem(d=d, p=p, b1=b1, b2=b2)
            for constant in (0.1, 1.0, 5.0):
                alpha = theory.step_size(T, d, constant=constant)
                means, outputs = mean_squared_gradients(name, alpha, p, b1, b2, d=d, T=T, seed=T)
                qs = (theory.smallest_q(p), 1.0)
                bounds = [theory.bound(known, T=T, alpha=alpha, q=q, corrected=c) for q in qs for c in (False, True)]
                if p <= 1 / 4:
                    bounds.append(theory.corollary_bound(known, T=T, alpha=alpha))
                assert max(float(means.mean()), float(outputs.mean())) < min(bounds)


def test_the_drawn_output_has_the_mean_of_the_iterates():
    """1,024 runs."""
    run = functools.partial(mean_squared_gradients, "cosine", 0.1, 1 / 8, 0.9, 0.99, d=5, T=200)
    means, outputs = np.concatenate([run(seed=seed) for seed in range(16)], axis=1)
    difference = outputs - means
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(len(difference))
    assert outputs.std() > 1.2 * means.std()


# The lemmas, along runs

ALPHA = 0.05


@functools.cache
def recorded_run(p, b1, b2, *, T=60, d=4, seed=0):
    """x_0, ..., x_{T+1} (x_0 = x_1), and g, m, v_hat of t = 0, ..., T; float64; the noise is 0 at times."""
    random = np.random.default_rng(seed)
    noise = random.uniform(-1, 1, size=(T, d)) * random.integers(0, 2, size=(T, d))
    start = random.uniform(0.5, 2.5, size=d)
    with jax.enable_x64(True):
        x, g, m, v_hat = (np.asarray(rows) for rows in _recorded_run(start, noise, p, b1, b2))
    pad = lambda rows: np.concatenate([np.zeros((1, d)), rows])
    return np.concatenate([[start, start], x]), pad(g), pad(m), pad(v_hat)


@jax.jit
def _recorded_run(start, noise, p, b1, b2):
    transformation = scale_by_partial_amsgrad(b1, b2, 0.0, p=p)

    def step(carry, noise):
        x, state = carry
        g = OBJECTIVES["cosine"].slope(x) + noise
        update, state = transformation.update(g, state, x)
        x = x - ALPHA * update
        return (x, state), (x, g, state.mu, state.nu_max)

    return jax.lax.scan(step, (start, transformation.init(start)), noise)[1]


RUNS = [
    (0.0, 0.9, 0.99, 0),
    (1 / 8, 0.9, 0.999, 1),
    (1 / 4, 0.5, 0.9, 2),
    (0.4, 0.8, 0.99, 3),
    (1 / 2, 0.9, 0.999, 4),
    (1 / 8, 0.0, 0.5, 5),
]
each_run = pytest.mark.parametrize(("p", "b1", "b2", "seed"), RUNS)


@each_run
def test_lemma_a1(p, b1, b2, seed):
    """(A.2) and (A.3) for t >= 2, (A.4) for t = 1."""
    x, g, m, v_hat = recorded_run(p, b1, b2, seed=seed)
    beta = b1 / (1 - b1)
    z = lambda t: x[t] + beta * (x[t] - x[t - 1])
    scale = lambda t: ALPHA * v_hat[t] ** -p
    np.testing.assert_allclose(z(2) - z(1), -scale(1) * g[1], rtol=1e-9, atol=1e-13)
    for t in range(2, len(g)):
        by_a2 = beta * (1 - scale(t) / scale(t - 1)) * (x[t - 1] - x[t]) - scale(t) * g[t]
        by_a3 = beta * (scale(t - 1) - scale(t)) * m[t - 1] - scale(t) * g[t]
        np.testing.assert_allclose(z(t + 1) - z(t), by_a2, rtol=1e-8, atol=1e-13)
        np.testing.assert_allclose(z(t + 1) - z(t), by_a3, rtol=1e-8, atol=1e-13)


@each_run
def test_lemma_a2(p, b1, b2, seed):
    """Stated for t >= 2, used at t = 1 too, where it holds as x_0 = x_1."""
    x, g, _, v_hat = recorded_run(p, b1, b2, seed=seed)
    beta = b1 / (1 - b1)
    norm = np.linalg.norm
    for t in range(1, len(g)):
        moved = x[t + 1] - x[t] + beta * (x[t + 1] - 2 * x[t] + x[t - 1])
        bound = norm(ALPHA * v_hat[t] ** -p * g[t]) + beta * norm(x[t - 1] - x[t])
        assert norm(moved) <= bound * (1 + 1e-9)


@each_run
def test_lemma_a3(p, b1, b2, seed):
    """Stated for t >= 2, used at t = 1 too, where both sides are 0."""
    x, g, _, _ = recorded_run(p, b1, b2, seed=seed)
    beta, L = b1 / (1 - b1), OBJECTIVES["cosine"].L
    for t in range(1, len(g)):
        z = x[t] + beta * (x[t] - x[t - 1])
        difference = np.linalg.norm(np.sin(z) - np.sin(x[t]))
        assert difference <= L * beta * np.linalg.norm(x[t] - x[t - 1]) * (1 + 1e-9)


@each_run
def test_lemma_a4(p, b1, b2, seed):
    """With the largest gradient of the run as G_inf, and with the problem's."""
    x, g, m, v_hat = recorded_run(p, b1, b2, seed=seed)
    largest = theory.estimate(g[1:], p=p, b2=b2).G_inf
    assert largest <= 2.0
    assert np.abs(np.sin(x)).max() <= 2.0
    assert np.abs(m).max() <= largest * (1 + 1e-12)
    assert v_hat.max() <= largest**2 * (1 + 1e-12)


@each_run
def test_lemma_a5(p, b1, b2, seed):
    """It holds run by run: its proof takes no expectation."""
    _, g, m, v_hat = recorded_run(p, b1, b2, seed=seed)
    g, m, v_hat = g[1:], m[1:], v_hat[1:]
    (T, d), largest = g.shape, np.abs(g).max()
    gamma = b1 / b2 ** (2 * p)
    for q in (theory.smallest_q(p), (1 + theory.smallest_q(p)) / 2, 1.0):
        common = T ** ((1 + q) / 2) * d**q * ALPHA**2 * largest ** (1 + q - 4 * p) / (1 - b2) ** (2 * p)
        common *= np.linalg.norm(g, axis=0).sum() ** (1 - q)
        assert ALPHA**2 * np.sum((v_hat**-p * m) ** 2) <= common * (1 - b1) / (1 - gamma) * (1 + 1e-9)
        assert ALPHA**2 * np.sum((v_hat**-p * g) ** 2) <= common * (1 + 1e-9)


@each_run
def test_growth_bound(p, b1, b2, seed):
    """It holds with the s of the run: the mean gradient is no larger than the stochastic one, on the whole."""
    x, g, _, _ = recorded_run(p, b1, b2, seed=seed)
    found = theory.estimate(g[1:], p=p, b2=b2)
    measured = np.sum(np.sin(x[2:-1]) ** 2) / (found.T - 1)
    assert measured <= theory.growth_bound(T=found.T, d=found.d, G_inf=found.G_inf, s=found.s)
