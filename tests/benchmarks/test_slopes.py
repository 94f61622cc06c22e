"""The slopes in T: the recorded measurements again, the bound above them, the fit on known slopes, the picture."""

import json
import pathlib

import matplotlib.image
import numpy as np
import pytest
import slopes

from padam_optax import theory

MEASUREMENTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "records" / "measurements"
RECORDED = json.loads((MEASUREMENTS / "theory.json").read_text())
STEPS = (64, 128, 256, 512)
each_objective = pytest.mark.parametrize("name", slopes.OBJECTIVES)


@each_objective
def test_recorded_measurements(name):
    """The smallest T's, with the settings recorded beside it."""
    settings = RECORDED["settings"]
    assert [settings[key] for key in ("p", "b1", "b2", "d")] == [slopes.P, slopes.B1, slopes.B2, slopes.D]
    objective, row = slopes.OBJECTIVES[name], RECORDED["problems"][name]["rows"][0]
    T, alpha = row["T"], row["alpha"]
    means, growth, nonzeros = slopes.measure(objective, T, settings["runs"], alpha)
    found = [float(values.mean()) for values in (means, growth, nonzeros)]
    assert found == pytest.approx([row["measured"], row["largest_growth"], row["nonzeros"]], rel=1e-3)
    assert slopes.bound(objective, T, alpha) == pytest.approx(row["bound_printed"])
    assert slopes.bound(objective, T, alpha, corrected=True) == pytest.approx(row["bound_corrected"])


def test_fitted_slope_of_a_power(monkeypatch):
    """Measurements that fall as T^-3/4 with no noise: that slope, and an interval of no width."""

    def measured(objective, T, runs, alpha):
        return np.full(runs, 5 * T**-0.75), np.full(runs, T**0.25), np.full(runs, T**0.5)

    monkeypatch.setattr(slopes, "measure", measured)
    result = slopes.measure_slopes(slopes.OBJECTIVES["masked"], runs=4, steps=STEPS)
    for part in ("measured", "measured_late"):
        assert [result[part]["slope"], *result[part]["interval"]] == pytest.approx([-0.75] * 3)
    assert (result["measured_s"], result["nonzeros_slope"]) == pytest.approx((0.25, 0.5))
    assert result["predicted_slope"] == -0.625
    for row in result["rows"]:
        assert row["bound_over_measured"] == pytest.approx(row["bound_printed"] / row["measured"])


def test_picture(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(slopes, "save", lambda figure, path: drawn.append(figure) or path)
    slopes.slope_figure(RECORDED["problems"], tmp_path / "x.png")
    (figure,) = drawn
    assert [axes.get_title() for axes in figure.axes] == ["dense, s = 0.5", "dead zone, s = 0.167", "masked, s = 0.25"]
    for axes, result in zip(figure.axes, RECORDED["problems"].values(), strict=True):
        measured, predicted, sharper, bound, growth, trivial = axes.lines
        assert list(measured.get_ydata()) == [row["measured"] for row in result["rows"]]
        assert list(bound.get_ydata()) == [row["bound_printed"] for row in result["rows"]]
        for line, slope in ((predicted, -0.75 + result["s"] / 2), (sharper, -0.5 - 0.75 * (0.5 - result["s"]))):
            x, y = np.log(line.get_xdata()), np.log(line.get_ydata())
            np.testing.assert_allclose(np.diff(y) / np.diff(x), slope)
        T = measured.get_xdata()
        np.testing.assert_allclose(growth.get_ydata(), 22.5 * T ** (2 * result["s"]) / (T - 1))
        np.testing.assert_allclose(trivial.get_ydata(), 22.5)
    monkeypatch.undo()
    path = slopes.slope_figure(RECORDED["problems"], tmp_path / "slopes.png")
    assert matplotlib.image.imread(path).shape[0] > 100


def test_what_the_bounds_are_worth():
    """(4.2) is above d G_inf^2 at every T but in the masked problem, and above the growth bound everywhere."""
    for name, result in RECORDED["problems"].items():
        G_inf = slopes.OBJECTIVES[name].G_inf
        steps, bounds = (np.array([row[key] for row in result["rows"]]) for key in ("T", "bound_printed"))
        assert np.all(bounds > 22.5) == (name != "masked")
        growth = theory.growth_bound(T=steps, d=slopes.D, G_inf=G_inf, s=result["s"])
        assert np.all(growth < bounds)
        # The sharper bound is above it too.
        sharper = [slopes.sharper_bound(slopes.OBJECTIVES[name], row["T"], row["alpha"]) for row in result["rows"]]
        assert np.all(growth < sharper)
        assert np.all(sharper < bounds)


def test_recorded_sharper_slopes():
    """At the step size of the sharper rate: the settings beside it, the smallest T's step size, and its slope."""
    recorded = json.loads((MEASUREMENTS / "theory-sharper.json").read_text())
    assert recorded["settings"] == RECORDED["settings"] | {"step_size": "sharper"}
    for name, result in recorded["problems"].items():
        row, s = result["rows"][0], slopes.OBJECTIVES[name].s
        expected = theory.sharper_step_size(row["T"], slopes.D, s, p=slopes.P, constant=3.0)
        assert row["alpha"] == pytest.approx(expected)
        assert result["predicted_slope"] == pytest.approx(-0.5 - 0.75 * (0.5 - s))
        assert all(row["measured"] < row["bound_sharper"] for row in result["rows"])


def test_slope_in_words():
    assert slopes.slope_text({"slope": -0.5584, "interval": [-0.56, -0.557]}) == "-0.558 [-0.560, -0.557]"
