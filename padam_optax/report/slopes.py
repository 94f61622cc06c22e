"""The measured slopes in T beside the predicted ones, from what `experiments.slopes` measured."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from padam_optax.report.figures import new_figure, save


def slope_text(measured: Mapping[str, Any]) -> str:
    """A slope with its interval, such as `-0.558 [-0.560, -0.557]`."""
    low, high = measured["interval"]
    return f"{measured['slope']:.3f} [{low:.3f}, {high:.3f}]"


def slope_figure(results: Mapping[str, Mapping[str, Any]], path: str | pathlib.Path) -> pathlib.Path:
    """Draws the measured gradients, the line of (4.3) and the bound (4.2) against T, a panel a problem; writes a PNG.

    Args:
      results: By the problem's name, as `experiments.slopes.measure_slopes` returns them.
      path: Of the picture.

    Returns:
      `path`.
    """
    figure = new_figure(4 * len(results), 3.6)
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (name, result) in zip(panels, results.items(), strict=True):
        steps = np.array([row["T"] for row in result["rows"]])
        measured = np.array([row["measured"] for row in result["rows"]])
        label = f"measured: {slope_text(result['measured'])}\nthe right half: {slope_text(result['measured_late'])}"
        axes.loglog(steps, measured, "o-", label=label)
        predicted = measured[-1] * (steps / steps[-1]) ** result["predicted_slope"]
        axes.loglog(steps, predicted, "--", label=f"(4.3): {result['predicted_slope']:.2f}")
        bounds = [row["bound_printed"] for row in result["rows"]]
        axes.loglog(steps, bounds, ":", label=f"(4.2) with its constants: {result['bound_slope']:.2f}")
        axes.set(title=f"{name}, s = {result['s']:.3g}", xlabel="T")
        axes.legend(fontsize=7, title="slope", title_fontsize=7)
    panels[0].set_ylabel(r"$E\|\nabla f(x_{out})\|^2$")
    return save(figure, path)
