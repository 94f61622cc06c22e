"""The paper's Figure 2 from recorded runs: train loss and test error against epochs, one curve a method."""

import pathlib

import numpy as np

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS
from padam_optax.report.tables import Suite

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLORS = {
    "sgdm": "#0072B2",
    "adam": "#E69F00",
    "amsgrad": "#56B4E9",
    "adamw": "#009E73",
    "yogi": "#CC79A7",
    "adabound": "#8C8C8C",
    "padam": "#D55E00",
}


def training_curves(suite: Suite, path: str | pathlib.Path) -> pathlib.Path:
    """Draws mean (line) and standard deviation (band) over the seeds of each method; writes a PNG to `path`.

    Runs that diverged are left out; the title names the data and n.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss_axes, error_axes = figure.subplots(1, 2)
    for method in suite.records:
        runs = [record for record in suite.records[method] if not record.diverged]
        if not runs:
            continue
        style = {"color": _COLORS[method], "linewidth": 2.2 if method == "padam" else 1.3}
        for axes, metric, scale in ((loss_axes, "train_loss", 1.0), (error_axes, "test_error", 100.0)):
            epochs, values = _curve(runs, metric)
            mean, deviation = scale * values.mean(0), scale * values.std(0, ddof=1 if len(runs) > 1 else 0)
            axes.plot(epochs, mean, label=OPTIMIZERS[method], **style)
            axes.fill_between(epochs, mean - deviation, mean + deviation, color=style["color"], alpha=0.15, linewidth=0)
    loss_axes.set(xlabel="Epoch", ylabel="Train loss", yscale="log")
    error_axes.set(xlabel="Epoch", ylabel="Test error (%)")
    for axes in (loss_axes, error_axes):
        axes.grid(alpha=0.3)
    if error_axes.lines:
        error_axes.legend(fontsize="small")
    counts = sorted({len(records) for records in suite.records.values()})
    n = "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"
    figure.suptitle(f"{suite.name} on {suite.label} (n = {n}, mean and standard deviation)")
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
    return path


def _curve(runs: list[Record], metric: str) -> tuple[np.ndarray, np.ndarray]:
    epochs = np.asarray([line["epoch"] for line in runs[0].metrics])
    return epochs, np.asarray([[line[metric] for line in run.metrics] for run in runs])
