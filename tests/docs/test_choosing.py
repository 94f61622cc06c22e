"""Every line of the tables "Coming from AdamW" and "Coming from SGD" in docs/choosing.md runs, and is what it says."""

import pathlib
import re

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import padam_optax

GUIDE = pathlib.Path(padam_optax.__file__).parents[1] / "docs" / "choosing.md"
ROWS = re.findall(r"^\| `(optax\..+?)` \| `(.+?)` \| `(.+?)` \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


def first_step(code: str) -> np.ndarray:
    """The update of a constant gradient; of a transformation without a rate, its size."""
    optimizer = eval(code, {"optax": optax, "padam_optax": padam_optax})
    params = {"w": jnp.full((3,), 0.5)}
    updates, state = optimizer.update({"w": jnp.full((3,), 0.01)}, optimizer.init(params), params)
    updates, _ = optimizer.update({"w": jnp.full((3,), 0.01)}, state, params)
    return np.asarray(updates["w"])


def test_the_tables_are_read():
    assert len(ROWS) == 7


@pytest.mark.parametrize(("have", "write", "without"), ROWS, ids=[row[0] for row in ROWS])
def test_each_line_runs(have, write, without):
    before, after = first_step(have), first_step(write)
    assert np.isfinite(first_step(without)).all()
    if "sgd" in have:
        # Debiased, an average begins at its end; a trace of 0.9 has come to .19 of it after two steps.
        np.testing.assert_allclose(after * 0.19, before, rtol=0.01)
    elif "rmsprop" not in have:
        np.testing.assert_allclose(after, before, rtol=1e-3)


def test_sgd_without_a_reference():
    """padam(1.0, p=0) makes the very steps of sgd(0.1, momentum=0.9)."""
    np.testing.assert_allclose(first_step("padam_optax.padam(1.0, p=0)"), first_step("optax.sgd(0.1, 0.9)"), rtol=1e-6)
