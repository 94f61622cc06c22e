"""The study of fine-tuning, and the table of p over tasks: their parts, and what is committed."""

import json
import pathlib
import statistics

import fine_tuning
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tasks

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"
RECORDED = json.loads((BENCHMARKS / "records" / "measurements" / "fine_tuning.json").read_text())
PAGE = (BENCHMARKS.parent / "docs" / "where_p_matters.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", ["train", "tuning", "test"])
def test_halves_have_no_class_in_common(part):
    old, new = (set(np.asarray(labels).tolist()) for _, labels in fine_tuning.halves(3, part))
    assert old == set(fine_tuning.old_classes(3).tolist())
    assert old | new == set(range(10))
    assert not old & new


def test_scores_by_hand():
    """A network whose output is its bias names one old class for all images, and is right on those of this class."""
    params = fine_tuning.init(jax.random.key(0), (64, 4, 10))
    kept_class = int(fine_tuning.old_classes(0)[0])
    bias = jnp.zeros(10).at[kept_class].set(1.0)
    params[-1] = {"kernel": jnp.zeros((4, 10)), "bias": bias}
    found = fine_tuning.scores(params, 0, "test")
    labels = np.asarray(fine_tuning.halves(0, "test")[0][1])
    assert found["new"] == 0
    assert found["kept"] == pytest.approx(100 * np.mean(labels == kept_class))
    assert found["loss"] == pytest.approx(np.log(9 + np.e))


def test_training_learns_the_new_classes():
    old, new = fine_tuning.halves(0, "train")
    start = fine_tuning.pretrain(jnp.int32(0), old, 60)
    before = fine_tuning.scores(start, 0, "test")
    tuned = fine_tuning.fine_tune(start, jnp.float32(1 / 8), jnp.float32(3e-3), jnp.int32(0), new, 60)
    after = fine_tuning.scores(tuned, 0, "test")
    assert before["kept"] > 90
    assert before["new"] == 0
    assert after["new"] > 80


def test_recorded_choices():
    for name, trials in RECORDED["tuning"].items():
        assert RECORDED["chosen"][name] == fine_tuning.choose(trials)
        assert {len(runs) for runs in trials.values()} == {len(fine_tuning.TUNING_SEEDS)}
    assert RECORDED["common"] == fine_tuning.common_rate(RECORDED["tuning"])
    assert {len(runs) for by_rate in RECORDED["scores"].values() for runs in by_rate.values()} == {5}


def test_the_page_has_the_table_of_fine_tuning():
    for line in fine_tuning.lines(RECORDED):
        assert line in PAGE
    assert f"{statistics.fmean(RECORDED['kept_before']):.1f}" in PAGE


def test_the_table_over_tasks_is_that_of_the_records():
    text = tasks.table(list(tasks.rows()))
    assert (BENCHMARKS / "reports" / "p-over-tasks.md").read_text(encoding="utf-8") == text
    assert "../benchmarks/reports/p-over-tasks.md" in PAGE


def test_a_line_of_the_table():
    row = tasks.Row("a task", "0.01", 1, 3.14, {0.0: 5.0, 1 / 8: 2.04, 1 / 2: float("inf")}, higher=False)
    assert tasks.table([row]).splitlines()[-1] == "| a task | 0.01 | 1 | 5.0 |  | **2.0** |  |  | diverged | 3.1 |"
