"""Times a whole optimizer step with each form of the power of an accumulator, and measures the form's error.

    python benchmarks/speed/powers.py [--size 8000000] [--repeats 20] [--out FILE]

`padam_optax/transforms/_powers.py` divides the momentum by `(sqrt(nu_max) + eps)^(2p)`. Each form below computes that
power inside one compiled step (five arrays read, four written, buffers donated), as an optimizer does. The ratio
compares it with the same step without a power (p = 0: momentum SGD that still keeps its second moments), interleaved in
the same run. Errors are relative, over nu_max in [1.2e-38, 1e38], against float64. Run it on an idle machine.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from measuring import write

from padam_optax.transforms._powers import divide_by_power

B1, B2, EPS, RATE = 0.9, 0.999, 1e-8, 0.1


def ours(p: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda numerator, root: divide_by_power(numerator, root, p)


def power(p: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda numerator, root: numerator / jnp.power(root, 2 * p)


def exp_log(p: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda numerator, root: numerator / jnp.exp(2 * p * jnp.log(root))


def exp2_log2(p: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda numerator, root: numerator / jnp.exp2(2 * p * jnp.log2(root))


FORMS = {
    "p=1/2, ours": ours(1 / 2),
    "p=1/4, ours": ours(1 / 4),
    "p=1/8, ours": ours(1 / 8),
    "p=1/16, ours": ours(1 / 16),
    "p=3/8, ours": ours(3 / 8),
    "p=1/5, ours": ours(1 / 5),
    "p=2/5, ours": ours(2 / 5),
    "p=1/8, jnp.power": power(1 / 8),
    "p=1/5, jnp.power": power(1 / 5),
    "p=1/8, exp(log)": exp_log(1 / 8),
    "p=1/5, exp(log)": exp_log(1 / 5),
    "p=1/5, exp2(log2)": exp2_log2(1 / 5),
}
BASELINE = "no power"


def compiled_step(divide: Callable[[jax.Array, jax.Array], jax.Array], size: int) -> Callable[[], None]:
    """One step on arrays that it owns."""

    def step(arrays, gradient):
        param, mu, nu, nu_max = arrays
        mu = B1 * mu + (1 - B1) * gradient
        nu = B2 * nu + (1 - B2) * jnp.square(gradient)
        nu_max = jnp.maximum(nu_max, nu)
        return param - RATE * divide(mu, jnp.sqrt(nu_max) + EPS), mu, nu, nu_max

    gradient = jax.random.normal(jax.random.key(0), (size,)) * 1e-2
    arrays = tuple(jnp.zeros(size) + 0.0 for _ in range(4))
    program = jax.jit(step, donate_argnums=0).lower(arrays, gradient).compile()

    def once() -> None:
        nonlocal arrays
        arrays = jax.block_until_ready(program(arrays, gradient))

    once()
    return once


def largest_error(name: str, dtype: str) -> float:
    """Relative error of 1 / root^(2p) over the range of float32, against NumPy's long double."""
    p = p_of(name)
    values = np.exp(np.linspace(np.log(1.2e-38), np.log(1e38), 200_001)).astype(dtype)
    root = np.sqrt(values)
    with jax.enable_x64(dtype == "float64"):
        found = np.asarray(jax.jit(FORMS[name])(jnp.ones_like(root), jnp.asarray(root)), np.longdouble)
    exact = root.astype(np.longdouble) ** (-2 * np.longdouble(p))
    return float(np.max(np.abs(found / exact - 1)))


def p_of(name: str) -> float:
    numerator, denominator = name.split(",")[0].removeprefix("p=").split("/")
    return int(numerator) / int(denominator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8_000_000, help="elements of the array")
    parser.add_argument("--repeats", type=int, default=20, help="steps timed of each form")
    parser.add_argument("--out", type=pathlib.Path, help="write the result as JSON")
    arguments = parser.parse_args()

    steps = {BASELINE: compiled_step(lambda numerator, root: numerator, arguments.size)}
    steps |= {name: compiled_step(form, arguments.size) for name, form in FORMS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)

    baseline = statistics.median(seconds[BASELINE])
    rows = []
    print(f"{'form':20} {'ms':>7} {'min':>7} {'max':>7} {'ratio':>6}  error float32, float64")
    for name, times in seconds.items():
        errors = None if name == BASELINE else {dtype: largest_error(name, dtype) for dtype in ("float32", "float64")}
        median = statistics.median(times)
        rows.append(
            {
                "form": name,
                "median_seconds": median,
                "min_seconds": min(times),
                "max_seconds": max(times),
                "ratio": median / baseline,
                "largest_relative_error": errors,
            }
        )
        shown = "" if errors is None else f"{errors['float32']:.1e}, {errors['float64']:.1e}"
        print(
            f"{name:20} {1e3 * median:7.2f} {1e3 * min(times):7.2f} {1e3 * max(times):7.2f}"
            f" {median / baseline:6.2f}  {shown}"
        )
    if arguments.out is not None:
        write(arguments.out, size=arguments.size, repeats=arguments.repeats, forms=rows)


if __name__ == "__main__":
    main()
