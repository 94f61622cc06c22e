"""The paper's figures from recorded runs: metrics against epochs, one curve a method or a p."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padam_optax.experiments.records import Record
from padam_optax.experiments.spec import OPTIMIZERS
from padam_optax.report.tables import Suite

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLORS = {
    OPTIMIZERS[method]: color
    for method, color in {
        "sgdm": "#0072B2",
        "adam": "#E69F00",
        "amsgrad": "#56B4E9",
        "adamw": "#009E73",
        "yogi": "#CC79A7",
        "adabound": "#8C8C8C",
        "padam": "#D55E00",
    }.items()
}
_OTHERS = ("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7", "#8C8C8C")


Curves = Mapping[str, Sequence[Record]]


def training_curves(suite: Suite, path: str | pathlib.Path) -> pathlib.Path:
    """Draws train loss and test error of each method of a suite, as the paper's Figure 2; writes a PNG to `path`.

    Mean (line) and standard deviation (band) over the seeds. Runs that diverged are left out; the title names the data
    and n.
    """
    curves = {OPTIMIZERS[method]: records for method, records in suite.records.items()}
    panels = [Panel("", "train_loss", curves), Panel("", "test_error", curves)]
    title = f"{suite.name} on {suite.label} (n = {_counts(panels)}, mean and standard deviation)"
    return draw([panels], title, path)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot: a metric against epochs.

    Attributes:
      title: Above it.
      metric: Name of a metric of the records.
      curves: Runs by the curve's name.
    """

    title: str
    metric: str
    curves: Curves


def draw(rows: Sequence[Sequence[Panel]], title: str, path: str | pathlib.Path) -> pathlib.Path:
    """Draws panels in rows and writes a PNG to `path`; a panel without runs says so."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * max(map(len, rows)), 0.4 + 3.6 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
    for axes_row, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_row, panels, strict=True):
            _fill(axes, panel)
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            handles.values(), handles, loc="outside lower center", ncols=min(7, len(handles)), fontsize="small"
        )
    figure.suptitle(title)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, dpi=120, format="png")
    part.replace(path)
    return path


_LABELS = {
    "train_loss": ("Train loss", 1.0),
    "test_error": ("Test error (%)", 100.0),
    "test_error_top5": ("Test error, top-5 (%)", 100.0),
    "test_perplexity": ("Test perplexity", 1.0),
}


def _fill(axes: Any, panel: Panel) -> None:
    label, scale = _LABELS[panel.metric]
    for index, (name, records) in enumerate(panel.curves.items()):
        runs = [record for record in records if not record.diverged]
        if not runs:
            continue
        epochs, values = _curve(runs, panel.metric)
        mean, deviation = scale * values.mean(0), scale * values.std(0, ddof=1 if len(runs) > 1 else 0)
        color = _COLORS.get(name, _OTHERS[index % len(_OTHERS)])
        axes.plot(epochs, mean, label=name, color=color, linewidth=2.2 if name == "Padam" else 1.3)
        axes.fill_between(epochs, mean - deviation, mean + deviation, color=color, alpha=0.15, linewidth=0)
    axes.set(xlabel="Epoch", ylabel=label, title=panel.title)
    axes.grid(alpha=0.3)
    if not axes.lines:
        axes.text(0.5, 0.5, "not run", ha="center", va="center", transform=axes.transAxes)
    elif panel.metric == "train_loss":
        axes.set_yscale("log")


def _counts(panels: Sequence[Panel]) -> str:
    counts = {
        sum(not record.diverged for record in records) for panel in panels for records in panel.curves.values()
    } - {0}
    return "-".join(map(str, sorted({min(counts), max(counts)}))) if counts else "0"


def paper_figure(number: int, records: Sequence[Record], path: str | pathlib.Path) -> pathlib.Path | None:
    """Draws one of the paper's figures from what was recorded; writes a PNG to `path`.

    1: test error for each p, ResNet on CIFAR-10 and CIFAR-100. 2 and 4: train loss and test error of the three networks
    on CIFAR-10 and CIFAR-100. 3: top-1 and top-5 test error on ImageNet and test perplexity on Penn Treebank. Only runs
    that came to their end, all of one length; the title names the data and n, a panel without runs says so.

    Returns:
      The path, or None if no run belongs to the figure; nothing is written then.

    Raises:
      ValueError: If there is no such figure.
    """
    rows = _paper_panels(number, _longest([record for record in records if record.finished]))
    panels = [panel for row in rows for panel in row]
    drawn = [record for panel in panels for runs in panel.curves.values() for record in runs]
    if not drawn:
        return None
    labels = ", ".join(sorted({record.config["data"]["label"] for record in drawn}))
    return draw(rows, f"Figure {number} on {labels} (n = {_counts(panels)}, mean and standard deviation)", path)


def _paper_panels(number: int, records: Sequence[Record]) -> list[list[Panel]]:
    match number:
        case 1:
            titles = {"cifar10": "ResNet, CIFAR-10", "cifar100": "ResNet, CIFAR-100"}
            return [
                [Panel(title, "test_error", _over_p(records, f"{data}-resnet18")) for data, title in titles.items()]
            ]
        case 2 | 4:
            data = {2: "cifar10", 4: "cifar100"}[number]
            networks = {"vgg16": "VGGNet", "resnet18": "ResNet", "wrn16-4": "WideResNet"}
            return [
                [Panel(title, metric, _over_methods(records, f"{data}-{model}")) for model, title in networks.items()]
                for metric in ("train_loss", "test_error")
            ]
        case 3:
            return [
                [
                    Panel(image_title, "test_error", _over_methods(records, images)),
                    Panel(image_title, "test_error_top5", _over_methods(records, images)),
                    Panel(text_title, "test_perplexity", _over_methods(records, text)),
                ]
                for images, image_title, text, text_title in (
                    ("imagenet-vgg16", "VGGNet, ImageNet", "ptb-lstm2", "2-layer LSTM"),
                    ("imagenet-resnet18", "ResNet, ImageNet", "ptb-lstm3", "3-layer LSTM"),
                )
            ]
        case _:
            raise ValueError(f"The paper has figures 1 to 4, got {number}.")


def _longest(records: Sequence[Record]) -> list[Record]:
    """Of each experiment the longest runs, on the label that has most of them."""
    groups: dict[str, dict[tuple[int, str], list[Record]]] = {}
    for record in records:
        spec = record.config["experiment"]
        key = (spec["epochs"], record.config["data"]["label"])
        groups.setdefault(spec["name"], {}).setdefault(key, []).append(record)
    return [
        record
        for found in groups.values()
        for record in max(found.items(), key=lambda item: (item[0][0], len(item[1]), item[0][1]))[1]
    ]


def _over_methods(records: Sequence[Record], suite: str) -> Curves:
    curves = {
        title: [record for record in records if record.config["experiment"]["name"] == f"{suite}-{method}"]
        for method, title in OPTIMIZERS.items()
    }
    return {title: runs for title, runs in curves.items() if runs}


def _over_p(records: Sequence[Record], suite: str) -> Curves:
    curves: dict[float, list[Record]] = {}
    for record in records:
        spec = record.config["experiment"]
        if spec["name"].startswith(f"{suite}-padam"):
            curves.setdefault(spec["hyperparameters"]["p"], []).append(record)
    return {f"p = {p:g}": curves[p] for p in sorted(curves)}


def _curve(runs: Sequence[Record], metric: str) -> tuple[np.ndarray, np.ndarray]:
    epochs = np.asarray([line["epoch"] for line in runs[0].metrics])
    return epochs, np.asarray([[line[metric] for line in run.metrics] for run in runs])
