"""Algorithm 1 in plain NumPy, to be read beside the paper: g, m, v, v_hat and x as there, float64 throughout.

The factor c is 1 in Algorithm 1; the other two are the bias corrections of `scale_by_partial_amsgrad`.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np


def updates(
    gradients: Iterable[np.ndarray], b1=0.9, b2=0.999, eps=1e-8, *, p: float, bias_correction: str = "none"
) -> Iterator[np.ndarray]:
    """Yields u_t for each g_t, so that x_{t+1} = x_t - alpha_t u_t."""
    m = v = v_hat = 0.0
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        v_hat = np.maximum(v_hat, v)
        c = {
            "none": 1.0,
            "official": np.sqrt(1 - b2**t) / (1 - b1**t),
            "debiased": (1 - b2**t) ** p / (1 - b1**t),
        }[bias_correction]
        yield c * m / (np.sqrt(v_hat) + eps) ** (2 * p)


def iterates(
    x: np.ndarray, gradient: Callable[[np.ndarray, int], np.ndarray], learning_rate: float, steps: int, **settings
) -> np.ndarray:
    """x_2, x_3, ... stacked, where g_t = gradient(x_t, t); settings are those of `updates`."""
    found = [x]
    gradients = (gradient(found[-1], t) for t in range(1, steps + 1))
    for u in updates(gradients, **settings):
        found.append(found[-1] - learning_rate * u)
    return np.stack(found[1:])
