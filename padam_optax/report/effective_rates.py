"""Draws the small learning rate dilemma (section 3), from runs whose records have effective learning rates."""

import pathlib
from collections.abc import Sequence

import numpy as np

from padam_optax.records.record import Record
from padam_optax.report.escaping import plain_label
from padam_optax.report.figures import new_figure, save
from padam_optax.report.naming import method_color, p_text, picture_title
from padam_optax.report.series import PADAM

# Bands from the widest to the narrowest: lower and upper quantile, share of the coordinates, opacity.
_BANDS = (("0", "1", "all", 0.12), ("0.05", "0.95", "90%", 0.3), ("0.25", "0.75", "50%", 0.5))


def effective_rate_curves(records: Sequence[Record], path: str | pathlib.Path) -> pathlib.Path:
    r"""Draws how the rates :math:`\alpha_t / \hat{v}_t^p` of all coordinates fall; writes a PNG to `path`.

    Each run has a panel, from the largest p to the smallest: the median, bands with half, nine tenths and all of the
    coordinates, the learning rate itself, and a line after each epoch at whose end the rate is divided. The title gives
    the share of the rates that are below the recorded threshold at the end.

    Args:
      records: Runs of one recipe whose lines have the entries of `runner.effective_rates.observer`.
      path: The file to write.

    Returns:
      `path`.

    Raises:
      ValueError: If there is no record, or a record has no epoch with effective rates.
    """
    if not records:
        raise ValueError("records must hold one run or more, got none.")
    runs = sorted(records, key=_p, reverse=True)
    color = method_color(PADAM)
    figure = new_figure(2.9 * len(runs) + 0.6, 4)
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, run in zip(panels, runs, strict=True):
        lines = [line for line in run.metrics if "effective_rates" in line]
        if not lines:
            raise ValueError(f"{run.experiment.name} has no effective rates in its record.")
        epochs = [line["epoch"] for line in lines]
        rates = [line["effective_rates"] for line in lines]

        def quantile(name: str, rates: Sequence[dict[str, dict[str, float]]] = rates) -> np.ndarray:
            return np.asarray([each["quantiles"][name] for each in rates])

        for low, high, share, alpha in _BANDS:
            axes.fill_between(
                epochs,
                quantile(low),
                quantile(high),
                color=color,
                alpha=alpha,
                linewidth=0,
                label=f"{share} of them",
            )
        axes.plot(epochs, quantile("0.5"), color=color, label="median of the coordinates")
        learning_rates = [line["learning_rate"] for line in lines]
        axes.plot(epochs, learning_rates, color="black", linestyle="--", label="learning rate")
        for milestone in run.experiment.milestones:
            axes.axvline(milestone + 0.5, color="gray", linewidth=0.8)
        last = rates[-1]
        below = f"{100 * last['share_below']:.1f}% below {last['threshold']:g} at the end"
        axes.set_title(f"{p_text(_p(run))}, {below}", fontsize="small")
        axes.set(xlabel="Epoch", yscale="log")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("Effective learning rate")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    first = runs[0]
    seeds = ", ".join(sorted({str(run.seed) for run in runs}))
    what = picture_title(first.data.label, [first.experiment.model])
    title = f"{what}, {first.experiment.epochs} epochs, seed {seeds}"
    figure.suptitle(plain_label(title), fontsize="medium")
    return save(figure, path)


def _p(run: Record) -> float:
    """The run's p; 1/2 for AMSGrad, which has no such setting."""
    return run.experiment.hyperparameters.get("p", 0.5)
