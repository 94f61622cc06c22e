"""Effective learning rates in records, and the picture of them."""

import dataclasses

import matplotlib.image
import numpy as np
import pytest
from fake_records import small, trial, write

from padam_optax.experiments import find
from padam_optax.records.store import read_all
from padam_optax.report import effective_rates as report
from padam_optax.runner.datasets import load_data
from padam_optax.runner.effective_rates import observer
from padam_optax.runner.run import run

SPEC = find("digits-padam").with_epochs(3)  # the rate is divided after epochs 2 and (as 3 * 30 / 40 is 2.25) 2


def with_settings(**settings):
    return dataclasses.replace(SPEC, hyperparameters={**SPEC.hyperparameters, **settings})


@pytest.fixture(scope="module")
def data():
    return load_data(SPEC, None, "")


def trained(spec, data, out):
    return run(spec, 0, data, out, checkpoint_every=0, observe=observer(spec, threshold=0.05)).metrics


def test_without_adaptivity_every_rate_is_the_learning_rate(data, tmp_path):
    spec = with_settings(p=0.0, learning_rate=1.0)
    lines = trained(spec, data, tmp_path)
    assert [line["learning_rate"] for line in lines] == pytest.approx([1, 1, 0.01])
    for line in lines:
        found = line["effective_rates"]
        assert list(found["quantiles"].values()) == pytest.approx([line["learning_rate"]] * 7, rel=1e-5)
        assert found["share_below"] == (line["learning_rate"] < 0.05)
        assert found["threshold"] == 0.05


def test_observing_changes_nothing_else(data, tmp_path):
    spec = with_settings(p=0.25)
    observed = trained(spec, data, tmp_path / "observed")
    plain = run(spec, 0, data, tmp_path / "plain", checkpoint_every=0).metrics
    for line, other in zip(observed, plain, strict=True):
        quantiles = list(line.pop("effective_rates")["quantiles"].values())
        # v-hat only grows, and it stays below 1 here: no rate is below the learning rate.
        assert quantiles == sorted(quantiles)
        assert quantiles[0] > line["learning_rate"]
        times = ("seconds", "examples_per_second")
        assert {name: line[name] for name in line if name not in times} == {
            name: other[name] for name in other if name not in times
        }


def test_amsgrad_has_p_one_half(data, tmp_path):
    """Its rates are those of Padam at p = 1/2 with the same settings."""
    amsgrad = find("digits-amsgrad").with_epochs(1)
    padam = dataclasses.replace(SPEC, hyperparameters={**amsgrad.hyperparameters, "p": 0.5}).with_epochs(1)
    found, expected = (trained(spec, data, tmp_path / spec.name)[0]["effective_rates"] for spec in (amsgrad, padam))
    np.testing.assert_allclose(list(found["quantiles"].values()), list(expected["quantiles"].values()), rtol=1e-4)


def test_other_optimizers_have_none():
    with pytest.raises(ValueError, match="padam or amsgrad"):
        observer(find("digits-sgdm"))


def with_rates(epoch):
    quantiles = {name: 10.0**-epoch * (1 + float(name)) for name in ("0", "0.05", "0.25", "0.5", "0.75", "0.95", "1")}
    rates = {"quantiles": quantiles, "threshold": 1e-4, "share_below": 0.125}
    return {"train_loss": 1.0, "learning_rate": 0.1, "effective_rates": rates}


def test_picture(tmp_path, monkeypatch):
    for p in (0.0, 0.5):
        write(tmp_path, trial(small("padam"), p=p), 0, with_rates)
    drawn = []
    monkeypatch.setattr(report, "save", lambda figure, path: drawn.append(figure) or path)
    assert report.effective_rate_curves(read_all(tmp_path), "x.png") == "x.png"
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == [
        "p = 1/2, 12.5% below 0.0001 at the end",
        "p = 0, 12.5% below 0.0001 at the end",
    ]
    assert figure.get_suptitle() == "CIFAR-10, small CNN, 3 epochs, seed 0"
    for axes in figure.axes:
        median, learning_rate, milestone = axes.lines
        np.testing.assert_allclose(median.get_ydata(), [0.15, 0.015, 0.0015])
        np.testing.assert_allclose(learning_rate.get_ydata(), 0.1)
        assert list(milestone.get_xdata()) == [2.5, 2.5]
        assert len(axes.collections) == 3
    monkeypatch.undo()
    path = report.effective_rate_curves(read_all(tmp_path), tmp_path / "rates.png")
    assert matplotlib.image.imread(path).shape[0] > 100


def test_picture_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="got none"):
        report.effective_rate_curves([], tmp_path / "x.png")
    write(tmp_path, small("padam"), 0, lambda epoch: {"train_loss": 1.0})
    with pytest.raises(ValueError, match="small-padam has no effective rates"):
        report.effective_rate_curves(read_all(tmp_path), tmp_path / "x.png")
