"""Windows through a text: what they cover, how long they are, what of them depends on what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from padam_optax.training.batches import Windows

COLUMNS = 2


def text(rows: int) -> dict[str, jax.Array]:
    """Each token says where it stands."""
    return {"tokens": jnp.arange(rows * COLUMNS).reshape(rows, COLUMNS)}


def plan_of(windows: Windows, rows: int, epoch: int = 0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Starts and drawn lengths."""
    # As `steps` does, so that the draws are compiled once.
    with jax.ensure_compile_time_eval():
        return jax.device_get(windows.plan(jax.random.key(seed), epoch, text(rows)))


def windows_of(windows: Windows, rows: int, epoch: int = 0) -> list[tuple[dict, float]]:
    """All windows of an epoch, filled up to one shape, and their factors of the rate."""
    data = text(rows)
    plan = jax.tree.map(jnp.asarray, plan_of(windows, rows, epoch))

    def fill(batch):
        missing = windows.LONGEST - len(batch["inputs"])
        filled = {name: jnp.pad(batch[name], ((0, missing), (0, 0))) for name in ("inputs", "targets")}
        return {**filled, "length": batch["length"]}

    one = jax.jit(lambda step: (windows.at(plan, step, data, fill), windows.rate_factor(plan, step)))
    return jax.device_get([one(jnp.int32(step)) for step in range(windows.steps(epoch, data))])


@pytest.mark.parametrize("windows", [Windows(4), Windows(20), Windows(70, random=True), Windows(35, random=True)])
@pytest.mark.parametrize("rows", [150, 151, 700])
def test_they_follow_one_another_to_the_end(windows, rows):
    """Every target once and in order, but for the last one if nothing else is left (the public code's `rows - 2`)."""
    position, tokens = 0, np.asarray(text(rows)["tokens"])
    for batch, _ in windows_of(windows, rows):
        length = int(batch["length"])
        np.testing.assert_array_equal(batch["inputs"][:length], tokens[position : position + length])
        np.testing.assert_array_equal(batch["targets"][:length], tokens[position + 1 : position + length + 1])
        position += length
    assert position in (rows - 1, rows - 2)


def test_fixed_windows_have_their_length_and_rate():
    for batch, rate in windows_of(Windows(4), 21):
        assert (batch["length"], rate) == (4, 1)
    assert Windows(4).buckets == (4,)


def test_drawn_lengths():
    """70 or, in one of twenty, 35; deviation 5, cut towards 0 as Python's int does; from 5 to 100."""
    lengths = np.concatenate([Windows(70, random=True).windows(epoch, 50_000)[1] for epoch in range(3)])
    assert len(lengths) == 30_000
    assert lengths.min() >= 5
    assert lengths.max() <= 100
    halved = lengths < 52
    assert halved.mean() == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 30_000) ** 0.5)
    for part, mean in ((lengths[~halved], 70), (lengths[halved], 35)):
        assert part.mean() == pytest.approx(mean - 0.5, abs=4 * 5 / len(part) ** 0.5)
        assert part.std() == pytest.approx(5, rel=0.06)


def test_lengths_are_kept_within_bounds():
    lengths = Windows(8, random=True).windows(0, 5_000)[1]
    assert lengths.min() == 5
    lengths = Windows(99, random=True).windows(0, 5_000)[1]
    assert lengths.max() == 100


def test_mean_steps():
    windows, rows = Windows(70, random=True), 46_479
    steps = [windows.steps(epoch, text(rows)) for epoch in range(20)]
    assert len(set(steps)) > 1
    # Cutting to whole steps shortens the mean by half a step.
    assert np.mean(steps) == pytest.approx(windows.mean_steps(rows) * 68.25 / 67.75, rel=0.005)


def test_epochs_differ_and_seeds_do_not():
    plans = [plan_of(Windows(70, random=True), 1_000, epoch, seed) for seed in (0, 1) for epoch in (0, 1)]
    assert (plans[0][1] != plans[1][1]).any()
    for one, other in ((plans[0], plans[2]), (plans[1], plans[3])):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_rate_is_that_of_the_drawn_length_even_where_the_text_ends():
    windows, rows = Windows(70, random=True), 1_000
    seen = windows_of(windows, rows)
    _, drawn = plan_of(windows, rows)
    for (batch, rate), length in zip(seen, drawn[: len(seen)], strict=True):
        assert rate == pytest.approx(length / 70)
        assert batch["length"] <= length
    assert seen[-1][0]["length"] < drawn[len(seen) - 1]


def test_buckets_hold_every_length_and_waste_little():
    for length in (20, 35, 70):
        windows = Windows(length, random=True)
        assert windows.buckets == tuple(sorted(set(windows.buckets)))
        assert windows.buckets[-1] == windows.LONGEST
    lengths = np.asarray(Windows(70, random=True).windows(0, 50_000)[1])
    buckets = np.asarray(Windows(70, random=True).buckets)
    assert buckets[np.searchsorted(buckets, lengths)].sum() < 1.1 * lengths.sum()


def test_nothing_compiles_anew():
    windows, data, traces = Windows(70, random=True), text(1_000), []

    @jax.jit
    def checksum(epoch, step):
        def consume(batch):
            traces.append(batch["inputs"].shape)
            return jnp.sum(jnp.where(jnp.arange(len(batch["inputs"]))[:, None] < batch["length"], batch["inputs"], 0))

        return windows.at(windows.plan(jax.random.key(0), epoch, data), step, data, consume)

    for epoch in range(3):
        total = sum(int(checksum(epoch, step)) for step in range(windows.steps(epoch, data)))
        assert total in (sum(range(2 * 999)), sum(range(2 * 998)))
    assert len(traces) == len(windows.buckets)


def test_examples_are_tokens():
    windows, data = Windows(4), text(21)
    steps = windows.steps(0, data)
    assert windows.examples(0, 0, 2, data) == 2 * 4 * COLUMNS
    assert windows.examples(0, 0, steps, data) == 20 * COLUMNS
