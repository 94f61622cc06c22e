"""The constants and bounds against their formulas in 40 digits, and the edges of what is admitted."""

import dataclasses
import functools

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from padam_optax import theory

mp = mpmath.mp.clone()
mp.dps = 40
mpf = mp.mpf


def exactly(value):
    """A float as it is, with no rounding."""
    return mpf(value)


def drawn_problem(seed, *, largest_p=0.5):
    """Settings that the theorem admits, over several orders of magnitude."""
    random = np.random.default_rng(seed)
    p, b2 = random.uniform(0, largest_p), 1 - 10 ** random.uniform(-4, -0.3)
    G_inf, d = 10 ** random.uniform(-3, 3), int(random.integers(1, 10_000))
    return theory.Problem(
        p=p,
        b1=random.uniform(0, 0.999) * b2 ** (2 * p),
        b2=b2,
        L=10 ** random.uniform(-2, 2),
        G_inf=G_inf,
        delta_f=10 ** random.uniform(-2, 2),
        d=d,
        v1_norm=d * ((1 - b2) * G_inf**2) ** -p * random.uniform(1, 100),
    )


def drawn_run(seed):
    random = np.random.default_rng(1_000 + seed)
    T, s, part = int(10 ** random.uniform(0.4, 9)), random.uniform(0, 0.5), random.uniform(0, 1)
    return {"T": T, "alpha": 10 ** random.uniform(-5, 1), "s": s}, part


def in_digits(problem):
    """The problem's values, gamma and 1 - b1, 1 - b2, in 40 digits."""
    values = {field.name: exactly(getattr(problem, field.name)) for field in dataclasses.fields(problem)}
    gamma = values["b1"] / values["b2"] ** (2 * values["p"])
    return values, gamma


def m3_in_digits(problem, q):
    """The two sums of the proof's last step, each from (B.5): of g 2L * 2, of m 4L (b1/(1-b1))^2 * 2."""
    v, gamma = in_digits(problem)
    of_squares = v["G_inf"] ** (2 * v["p"]) * v["G_inf"] ** (1 + q - 4 * v["p"]) / (1 - v["b2"]) ** (2 * v["p"])
    of_g = 2 * v["L"] * of_squares
    of_m = 4 * v["L"] * (v["b1"] / (1 - v["b1"])) ** 2 * of_squares * (1 - v["b1"]) / (1 - gamma)
    return 2 * of_g + 2 * of_m


def third_in_digits(problem, q, run):
    v, _ = in_digits(problem)
    T, alpha, s = (exactly(run[name]) for name in ("T", "alpha", "s"))
    return m3_in_digits(problem, q) * alpha * v["d"] * v["G_inf"] ** (1 - q) / T ** ((1 - q) * (mpf(1) / 2 - s))


seeds = pytest.mark.parametrize("seed", range(20))
close = functools.partial(pytest.approx, rel=1e-12)


@seeds
def test_printed_bounds(seed):
    problem, (run, part) = drawn_problem(seed, largest_p=0.25), drawn_run(seed)
    v, _ = in_digits(problem)
    T, alpha = exactly(run["T"]), exactly(run["alpha"])
    first = 2 * v["G_inf"] ** (2 * v["p"]) * v["delta_f"] / (T * alpha)
    of_v1 = 4 * v["G_inf"] ** (2 + 2 * v["p"]) * v["v1_norm"] / (1 - v["b1"]) / T
    for corrected in (False, True):
        factor = (1 - v["b2"]) ** -v["p"] if corrected else 1
        second = of_v1 + 4 * v["G_inf"] ** 2 * v["d"] * factor / T
        expected = first + second + third_in_digits(problem, exactly(part), run)
        assert theory.bound(problem, q=part, corrected=corrected, **run) == close(float(expected))
        expected = first + second + third_in_digits(problem, mpf(0), run)
        assert theory.corollary_bound(problem, corrected=corrected, **run) == close(float(expected))


@seeds
def test_sharper_bound(seed):
    """2 G^2p / T times what (A.13) with Lemma A.4 and the telescoped sum leave; q from 4p - 1 to 1."""
    problem, (run, part) = drawn_problem(seed), drawn_run(seed)
    v, _ = in_digits(problem)
    T, alpha = exactly(run["T"]), exactly(run["alpha"])
    after_a13 = v["G_inf"] ** 2 * v["v1_norm"]
    telescoped = v["G_inf"] ** 2 * v["v1_norm"] / (1 - v["b1"])
    two_terms = 2 * v["G_inf"] ** (2 * v["p"]) / T * (v["delta_f"] / alpha + after_a13 + telescoped)
    smallest = theory.sharper_smallest_q(problem.p)
    for q in (smallest, smallest + part * (1 - smallest), 1.0):
        expected = two_terms + third_in_digits(problem, exactly(q), run)
        assert theory.sharper_bound(problem, q=q, **run) == close(float(expected))
    assert theory.sharper_bound(problem, **run) == theory.sharper_bound(problem, q=smallest, **run)
    assert theory.sharper_bound(problem, q=1.0, **run) < theory.bound(problem, q=1.0, **run)
    assert theory.sharper_m2(problem) * problem.d / T == pytest.approx(
        float(2 * v["G_inf"] ** (2 * v["p"]) / T * (after_a13 + telescoped)), rel=1e-12
    )


@seeds
def test_held_bound(seed):
    """G^2p / (n alpha kappa) times the telescoped sum from tau on, its smallest and largest factors in their places."""
    problem, (run, part) = drawn_problem(seed), drawn_run(seed)
    v, gamma = in_digits(problem)
    n, alpha, s = run["T"], exactly(run["alpha"]), run["s"]
    q = theory.sharper_smallest_q(problem.p) + part * (1 - theory.sharper_smallest_q(problem.p))
    gap, v_norm = 3.0, 2 * problem.d * problem.G_inf ** (-2 * problem.p)
    beta = v["b1"] / (1 - v["b1"])
    for kappa in (0.25, np.array([2.0, 0.25, 0.5])):
        low, high = exactly(np.min(kappa).item()), exactly(np.max(kappa).item())
        step = alpha * high
        of_squares = v["G_inf"] ** (1 + exactly(q) - 4 * v["p"]) / (1 - v["b2"]) ** (2 * v["p"])
        grown = v["d"] * v["G_inf"] ** (1 - exactly(q))
        grown *= exactly(n) ** ((1 + exactly(q)) / 2 + exactly(s) * (1 - exactly(q)))
        before = v["d"] * v["G_inf"] ** (1 - exactly(q)) / (1 - gamma) ** 2
        of_g = 2 * v["L"] * step**2 * of_squares * grown
        of_m = 4 * v["L"] * beta**2 * step**2 * of_squares * (1 - v["b1"]) * (grown / (1 - gamma) + before)
        of_z = v["L"] / 2 * beta**2 * step**2 * of_squares * (1 - v["b1"]) * before
        of_v = step * v["G_inf"] ** 2 * exactly(v_norm) * (beta + 1 / (1 - v["b1"]))
        expected = v["G_inf"] ** (2 * v["p"]) / (n * alpha * low) * (gap + of_v + of_g + of_m + of_z)
        found = theory.held_bound(problem, n=n, alpha=run["alpha"], kappa=kappa, gap=gap, v_norm=v_norm, s=s, q=q)
        assert found == close(float(expected))


def rates_of(s, p):
    """The two terms' exponents in T at the step size T^-a, negated."""
    first = lambda a: 1 - a
    third = lambda a: a + (1 - (4 * p - 1)) * (mpf(1) / 2 - s)
    return first, third


@pytest.mark.parametrize("p", [0.0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2])
@pytest.mark.parametrize("s", [0.0, 0.1, 1 / 6, 0.25, 0.5])
def test_the_sharper_rate_balances_the_terms(s, p):
    """At the sharper step size the first and the third term fall alike, as the sharper rate does."""
    first, third = rates_of(exactly(s), exactly(p))
    a = mp.findroot(lambda a: first(a) - third(a), mpf("0.3"))
    exponent = theory.sharper_rate_exponent(s, p=p)
    assert exponent == close(float(first(a)))
    assert theory.sharper_step_size(2**20, 4, s, p=p) == close(float(1 / (2 * mpf(2) ** (20 * a))))
    assert theory.sharper_rate(2**20, 4, s, p=p) == close(float(2 / mpf(2) ** (20 * first(a)) + mpf(4) / 2**20))
    assert theory.sharper_rate_exponent(s, p=1 / 4) == close(theory.rate_exponent(s))
    # The growth condition alone has the exponent 1 - 2s: it wins for s < p / (1 + 2p), which is 1/6 at p = 1/4.
    if abs(s - p / (1 + 2 * p)) > 1e-9:
        assert (1 - 2 * s > exponent) == (s < p / (1 + 2 * p))


def test_exponents_by_hand():
    assert theory.sharper_rate_exponent(0.0, p=1 / 8) == 7 / 8
    assert theory.sharper_rate_exponent(1 / 6, p=1 / 8) == pytest.approx(3 / 4)
    assert theory.sharper_rate_exponent(1 / 4, p=1 / 8) == 11 / 16
    np.testing.assert_allclose(theory.sharper_rate_exponent(np.array([0.0, 0.5]), p=0), [1.0, 0.5])


@pytest.mark.parametrize("p", [0.0, 1 / 8, 1 / 2])
def test_the_sharper_constant_minimises_the_sharper_bound(p):
    known = dataclasses.replace(drawn_problem(3), p=p, b1=0.5, v1_norm=1e9)
    best = theory.sharper_optimal_constant(known)

    def at(constant):
        """Without the second term, which does not depend on it and would hide a difference."""
        alpha = theory.sharper_step_size(10**6, known.d, 0.25, p=p, constant=constant)
        return theory.sharper_bound(known, T=10**6, alpha=alpha, s=0.25) - theory.sharper_m2(known) * known.d / 10**6

    assert at(best) < min(at(0.9 * best), at(1.1 * best))


@pytest.mark.parametrize("p", [0.26, 0.4, 0.5])
def test_from_a_quarter_on_only_m2_is_sharper(p):
    assert theory.sharper_smallest_q(p) == theory.smallest_q(p)
    known = dataclasses.replace(drawn_problem(5), p=p, b1=0.5, v1_norm=1e9)
    run = {"T": 100, "alpha": 0.1, "s": 0.25}
    difference = theory.bound(known, **run) - theory.sharper_bound(known, **run)
    assert difference == pytest.approx((theory.m2(known) - theory.sharper_m2(known)) * known.d / 100)


@pytest.mark.parametrize("b1", [0.0, 0.9, 0.998])
def test_the_sharper_m2_is_at_most_the_printed_one(b1):
    """Its first term is (2 - b1) / 2 of the printed one's."""
    for p in (0.0, 1 / 8, 1 / 2):
        known = dataclasses.replace(drawn_problem(7), p=p, b1=b1, b2=0.999, v1_norm=1e9)
        printed = theory.m2(known) - 4 * known.G_inf**2
        assert theory.sharper_m2(known) == pytest.approx((2 - b1) / 2 * printed, rel=1e-6)


# Edges


HUGE = np.array([2**31, 2**40, 2**62])


def test_integer_arrays_of_large_t():
    """No wrap in int64, though T times a whole alpha is beyond it, and none of T is refused."""
    known = drawn_problem(0, largest_p=0.25)
    by_one = [theory.bound(known, T=int(T), alpha=4, s=0.25) for T in HUGE]
    np.testing.assert_allclose(theory.bound(known, T=HUGE, alpha=4, s=0.25), by_one, rtol=1e-14)
    np.testing.assert_allclose(
        theory.step_size(HUGE, 2, 0.0), [float(1 / (mp.sqrt(2) * mp.root(T, 4))) for T in HUGE.tolist()]
    )
    for function in (theory.rate, functools.partial(theory.sharper_rate, p=1 / 8)):
        np.testing.assert_allclose(function(HUGE, 2), [function(int(T), 2) for T in HUGE], rtol=1e-14)
    np.testing.assert_allclose(
        theory.growth_bound(T=HUGE, d=2, G_inf=1.0, s=0.0), [float(2 / (mpf(T) - 1)) for T in HUGE.tolist()], rtol=1e-14
    )


def test_small_values_in_arrays():
    """alpha = 1e-46 is 0 in float32, and s = 1/2 + 1e-9 is 1/2."""
    known = drawn_problem(0, largest_p=0.25)
    alpha = np.array([1e-46, 1e-3])
    expected = [theory.corollary_bound(known, T=100, alpha=float(value)) for value in alpha]
    np.testing.assert_allclose(theory.corollary_bound(known, T=100, alpha=alpha), expected, rtol=1e-14)
    for bad in (0.5 + 1e-9, np.array([0.5 + 1e-9]), np.array([0.1, -1e-300])):
        with pytest.raises(ValueError, match=r"needs 0 <= s <= 1/2"):
            theory.rate_exponent(bad)
    assert theory.rate_exponent(np.array([0.5])).dtype == np.float64


def test_arrays_of_jax_are_computed_in_float64():
    found = theory.rate(jnp.array([100, 10_000]), 4)
    assert (type(found), found.dtype) == (np.ndarray, np.float64)
    np.testing.assert_allclose(found, [theory.rate(100, 4), theory.rate(10_000, 4)], rtol=1e-14)


@pytest.mark.parametrize("bad", ["100", [100, 200], None])
def test_what_is_neither_number_nor_array(bad):
    with pytest.raises(ValueError, match=r"^T must be a number or an array, got "):
        theory.rate(bad, 4)


@pytest.mark.parametrize("p", [0.0, 1 / 8, 1 / 2])
def test_the_smallest_v1_norm(p):
    """Each coordinate of v_1 is at most (1 - b2) G^2: a sum of d powers -p below that of the largest cannot be."""
    d, G_inf, b2 = 7, 3.0, 0.99
    least = float(d * ((1 - exactly(b2)) * exactly(G_inf) ** 2) ** -exactly(p))
    make = functools.partial(theory.Problem, p=p, b1=0.5, b2=b2, L=1.0, G_inf=G_inf, delta_f=1.0, d=d)
    assert make(v1_norm=least).v1_norm == least
    with pytest.raises(ValueError, match=r"^Assumption 4.1 needs v1_norm >= .*, got v1_norm = "):
        make(v1_norm=least * (1 - 1e-6))
    # Gradients as large as they may be, in a leaf of many coordinates: the estimate's rounding does not refuse it.
    found = theory.estimate(np.full((2, 10_001), -0.3), p=p, b2=b2)
    assert found.problem(b1=0.5, L=1.0, delta_f=1.0).v1_norm == found.v1_norm


@pytest.mark.parametrize("constant", [theory.optimal_constant, theory.sharper_optimal_constant])
def test_the_optimal_constant_is_never_0(constant):
    """At a minimum of f no step size above 0 is the best; a very small difference is none of these."""
    make = functools.partial(theory.Problem, p=1 / 8, b1=0.5, b2=0.9, L=1e30, G_inf=1.0, d=1, v1_norm=2.0)
    with pytest.raises(ValueError, match=r"needs delta_f > 0, got delta_f = 0"):
        constant(make(delta_f=0.0))
    assert theory.step_size(100, 1, constant=constant(make(delta_f=1e-320))) > 0


@pytest.mark.parametrize("q", [-0.51, 1.01])
def test_q_out_of_the_sharper_range(q):
    known = drawn_problem(0, largest_p=0.25)
    known = dataclasses.replace(known, p=1 / 8, v1_norm=1e9)
    with pytest.raises(ValueError, match=r"needs q in \[4p - 1, 1\] = \[-0\.5, 1\], got q = "):
        theory.sharper_bound(known, T=100, alpha=0.1, q=q)
    with pytest.raises(ValueError, match=r"needs q in \[4p - 1, 1\] = \[-0\.5, 1\], got q = "):
        theory.held_bound(known, n=100, alpha=0.1, kappa=1.0, gap=1.0, v_norm=1e9, q=q)


# E |v_1^-p|_1


def truncated_moment(power, smallest):
    """E |g|^-power of |g| in (smallest, 1), g uniform in (-1, 1)."""
    return mp.quad(lambda g: g**-power, [smallest, mp.sqrt(smallest), 1])


def test_where_the_expectation_and_the_variance_are_infinite():
    """Of |g|^(-2p), where g has a density at 0: the expectation at p = 1/2, the second moment from p = 1/4 on."""
    smallest = [mpf(10) ** -k for k in (10, 20, 30)]
    for power, finite in ((2 * mpf(1) / 4, True), (mpf(1), False)):
        at = [truncated_moment(power, value) for value in smallest]
        grows = (at[2] - at[1]) / (at[1] - at[0])
        assert grows < 0.01 if finite else grows > 0.99
    assert truncated_moment(mpf(1) / 4, smallest[2]) == pytest.approx(float(1 / (1 - mpf(1) / 4)))


def test_the_estimate_does_not_settle_at_one_half():
    """The largest of 10,000 runs has a tenth of the sum or more at p = 1/2, at p = 1/8 next to nothing."""
    random = np.random.default_rng(0)
    first = random.uniform(-1, 1, size=10_000)
    share = {}
    for p in (1 / 8, 1 / 2):
        norms = np.array([theory.estimate(g.reshape(1, 1), p=p, b2=0.99).v1_norm for g in first[:200]])
        np.testing.assert_allclose(norms, 0.01**-p * np.abs(first[:200]) ** (-2 * p), rtol=1e-12)
        powers = np.abs(first) ** (-2 * p)
        share[p] = powers.max() / powers.sum()
    assert share[1 / 2] > 0.05 > 0.01 > share[1 / 8]
