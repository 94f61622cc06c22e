"""The proof of the proposition on a held rate, step by step along runs in float64, and what it says of following."""

import math

import numpy as np
import pytest

from padam_optax import theory

# f(x) = sum of 1 - cos(x_i), whose L is 1; noise of -1, 0 or 1.
G_INF, L, D, TAU, ALPHA = 2.0, 1.0, 4, 6, 0.05


def value(x):
    return float(np.sum(1 - np.cos(x)))


class Run:
    """x_0, ..., x_(T+1), and g, m, v_hat, factors kappa and c of t = 0, ..., T.

    The factors follow up to TAU and are held then: one for all coordinates, or one for each half of them.
    """

    def __init__(self, p, reference_p, b1, b2, *, correction="none", leaves=1, noise=1.0, T=60, seed=0):
        random = np.random.default_rng(seed)
        self.p, self.b1, self.b2, self.T = p, b1, b2, T
        start = random.uniform(0.5, 2.5, size=D)
        self.x, zeros = [start, start], np.zeros(D)
        self.g, self.m, self.v_hat, self.kappa, self.c = [zeros], [zeros], [zeros], [np.ones(D)], [1.0]
        v = zeros
        for t in range(1, T + 1):
            x = self.x[-1]
            g = np.sin(x) + noise * random.integers(-1, 2, size=D)
            v = b2 * v + (1 - b2) * g**2
            v_hat = np.maximum(self.v_hat[-1], v)
            if t <= TAU:
                parts = np.log(v_hat / (1 - b2**t)).reshape(leaves, -1).mean(axis=1) / 2
                kappa = np.repeat(np.exp(2 * (p - reference_p) * parts), D // leaves)
            c = (1 - b2**t) ** p / (1 - b1**t) if correction == "debiased" else 1.0
            m = b1 * self.m[-1] + (1 - b1) * g
            for rows, row in zip(
                (self.g, self.m, self.v_hat, self.kappa, self.c), (g, m, v_hat, kappa, c), strict=True
            ):
                rows.append(row)
            self.x.append(x - self.scale(t) * m)

    def scale(self, t):
        """What m_t is multiplied by."""
        return ALPHA * self.kappa[t] * self.c[t] * self.v_hat[t] ** -self.p

    def z(self, t):
        return self.x[t] + self.b1 / (1 - self.b1) * (self.x[t] - self.x[t - 1])


RUNS = [
    {"p": 1 / 8, "reference_p": 1 / 2, "b1": 0.9, "b2": 0.999},
    {"p": 0.0, "reference_p": 1 / 2, "b1": 0.5, "b2": 0.9, "seed": 1},
    {"p": 1 / 2, "reference_p": 1 / 8, "b1": 0.8, "b2": 0.99, "seed": 2},
    {"p": 1 / 4, "reference_p": 1 / 2, "b1": 0.9, "b2": 0.99, "leaves": 2, "seed": 3},
    {"p": 1 / 8, "reference_p": 1 / 2, "b1": 0.9, "b2": 0.999, "correction": "debiased", "seed": 4},
    {"p": 2 / 5, "reference_p": 1 / 2, "b1": 0.5, "b2": 0.9, "correction": "debiased", "leaves": 2, "seed": 5},
]
each_run = pytest.mark.parametrize("settings", RUNS)


@each_run
def test_one_step(settings):
    """(A.5) with I_1, I_2 and I_3 bounded, before any expectation."""
    run = Run(**settings)
    beta = run.b1 / (1 - run.b1)
    for t in range(TAU + 1, run.T):
        before, now = run.scale(t - 1), run.scale(t)
        gradient, g = np.sin(run.x[t]), run.g[t]
        right = -np.sum(gradient * before * g) + G_INF**2 / (1 - run.b1) * np.abs(before - now).sum()
        right += 2 * L * np.sum((now * g) ** 2) + 4 * L * beta**2 * np.sum((run.x[t] - run.x[t - 1]) ** 2)
        assert value(run.z(t + 1)) - value(run.z(t)) <= right + 1e-12


@each_run
def test_the_first_of_the_held_steps(settings):
    """f(z_(tau+1)) over f(x_(tau+1))."""
    run = Run(**settings)
    beta, moved = run.b1 / (1 - run.b1), run.x[TAU + 1] - run.x[TAU]
    above = beta * G_INF**2 * run.scale(TAU).sum() + L / 2 * beta**2 * np.sum(moved**2)
    assert value(run.z(TAU + 1)) <= value(run.x[TAU + 1]) + above


@each_run
def test_the_scales_fall_but_for_the_correction(settings):
    """They change by what they fall, and by twice what the correction rises."""
    run = Run(**settings)
    changed = sum(np.abs(run.scale(t) - run.scale(t - 1)).sum() for t in range(TAU + 1, run.T + 1))
    rises = sum(max(run.c[t] - run.c[t - 1], 0) for t in range(TAU + 1, run.T + 1))
    at_tau = ALPHA * np.sum(run.kappa[TAU] * run.v_hat[TAU] ** -run.p)
    assert changed <= at_tau * (run.c[TAU] + 2 * rises) * (1 + 1e-12)
    if settings.get("correction") == "debiased":
        assert 0 < rises <= (1 - (1 - run.b2**TAU) ** run.p) / (1 - run.b1**TAU)
        assert all(run.c[t] <= 2 * run.c[t - 1] for t in range(2, run.T + 1))
        assert min(run.c[TAU:]) >= (1 - run.b2**TAU) ** run.p
        assert max(run.c[TAU:]) <= 1 / (1 - run.b1**TAU)
    else:
        assert rises == 0


@each_run
@pytest.mark.parametrize("part", [0.0, 0.3, 1.0])
def test_the_sums(settings, part):
    """Lemma A.5 from tau on, with what came before in its own term; the growth applied to each coordinate."""
    run = Run(**settings)
    p, b1, b2 = run.p, run.b1, run.b2
    q = theory.sharper_smallest_q(p) + part * (1 - theory.sharper_smallest_q(p))
    n, gamma = run.T - TAU, b1 / b2 ** (2 * p)
    g, m, v_hat = (np.array(rows) for rows in (run.g, run.m, run.v_hat))
    s = max(math.log(np.linalg.norm(g[TAU + 1 :], axis=0).max() / G_INF) / math.log(n), 0)
    common = G_INF ** (1 + q - 4 * p) / (1 - b2) ** (2 * p) * D * G_INF ** (1 - q)
    grown = n ** ((1 + q) / 2 + s * (1 - q))
    of_g = np.sum((v_hat[TAU + 1 :] ** -p * g[TAU + 1 :]) ** 2)
    of_m = np.sum((v_hat[TAU:-1] ** -p * m[TAU:-1]) ** 2)
    assert of_g <= common * grown * (1 + 1e-12)
    assert of_m <= (1 - b1) * common * (grown / (1 - gamma) + 1 / (1 - gamma) ** 2)
    assert np.sum((v_hat[TAU] ** -p * m[TAU]) ** 2) <= (1 - b1) * common / (1 - gamma)


@pytest.mark.parametrize("settings", [run for run in RUNS if "correction" not in run])
def test_without_noise_it_holds_run_by_run(settings):
    """Nothing is left to the expectation; a factor for each leaf included."""
    run = Run(**settings, noise=0.0, T=400)
    n = run.T - TAU
    known = theory.Problem(
        p=run.p, b1=run.b1, b2=run.b2, L=L, G_inf=1.0, delta_f=1.0, d=D, v1_norm=D * (1 - run.b2) ** -run.p
    )
    right = theory.held_bound(
        known,
        n=n,
        alpha=ALPHA,
        kappa=np.unique(run.kappa[TAU]),
        gap=value(run.x[TAU + 1]),
        v_norm=float(np.sum(run.v_hat[TAU] ** -run.p)),
    )
    left = np.mean([np.sum(np.sin(run.x[t]) ** 2) for t in range(TAU + 1, TAU + n + 1)])
    assert left <= right


def scales_that_follow(p, reference_p, roots):
    """R^(2(p - r)) / root^(2p) of each coordinate at each step, R the geometric mean of that step's roots."""
    R = np.exp(np.log(roots).mean(axis=1, keepdims=True))
    return R ** (2 * (p - reference_p)) * roots ** (-2 * p)


def test_following_a_maximum():
    """Up to reference_p every coordinate's rate falls as the roots rise, as the proof needs; above it one may rise."""
    roots = np.maximum.accumulate(np.random.default_rng(0).lognormal(size=(200, 5)), axis=0)
    for p in (0.0, 1 / 8, 1 / 2):
        assert np.all(np.diff(scales_that_follow(p, 1 / 2, roots), axis=0) <= 1e-12)
    assert np.any(np.diff(scales_that_follow(1 / 2, 1 / 8, roots), axis=0) > 0.01)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("n", 0, "needs n >= 1 and whole"),
        ("alpha", 0.0, "needs alpha > 0"),
        ("kappa", 0.0, "needs kappa > 0"),
        ("kappa", np.array([1.0, np.inf]), "needs kappa > 0"),
        ("gap", -1.0, "needs gap >= 0"),
        ("s", 0.6, "needs 0 <= s <= 1/2"),
        ("v_norm", 1.0, "needs v_norm >= 2.8"),
    ],
)
def test_bad_values(name, bad, message):
    known = theory.Problem(p=1 / 4, b1=0.5, b2=0.99, L=1.0, G_inf=2.0, delta_f=1.0, d=4, v1_norm=1e3)
    run = {"n": 10, "alpha": 0.1, "kappa": 2.0, "gap": 1.0, "v_norm": 10.0}
    assert theory.held_bound(known, **run) > 0
    assert theory.held_bound(known, **run | {"v_norm": math.inf}) == math.inf
    with pytest.raises(ValueError, match=message):
        theory.held_bound(known, **run | {name: bad})
