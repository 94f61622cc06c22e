"""What the guide says of the recorded effective learning rates."""

import math
import pathlib

import pytest

from padam_optax.records.store import read_all
from padam_optax.runner.effective_rates import MINI_RATES

ROOT = pathlib.Path(__file__).parents[2]


def test_the_guide_quotes_the_record():
    text = " ".join((ROOT / "docs" / "choosing.md").read_text(encoding="utf-8").split())
    records = list(read_all(ROOT / "benchmarks" / "records" / "studies" / "effective-rates.jsonl"))
    values = [record.experiment.hyperparameters for record in records]
    assert {each["p"]: each["learning_rate"] for each in values} == MINI_RATES
    assert {record.data.label for record in records} == {"cifar10-png"}
    assert {record.experiment.bias_correction for record in records} == {None}
    spread, median = {}, {}
    for record in records:
        (line,) = (line["effective_rates"] for line in record.metrics if line["epoch"] == 20)
        assert line["share_below"] == 0
        quantiles, p = line["quantiles"], record.experiment.hyperparameters["p"]
        spread[p], median[p] = math.log10(quantiles["1"] / quantiles["0"]), quantiles["0.5"]
    assert spread[1 / 2] == pytest.approx(4, abs=0.1)
    shown = {p: f"{spread[p]:.1f}".lstrip("0") for p in (1 / 4, 1 / 8)}
    assert f"over four decades with p = 1/2, over {shown[1 / 4]} with 1/4 and over {shown[1 / 8]} with 1/8" in text
    half, eighth, zero = (f"{median[p]:.3f}".lstrip("0") for p in (1 / 2, 1 / 8, 0.0))
    assert f"higher with p = 1/2 ({half}) than with 1/8 ({eighth}) and 0 ({zero})" in text
