"""The paper's figures, and the curves of a suite, from recorded runs: mean and standard deviation over the seeds."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from padam_optax.experiments.spec import Experiment
from padam_optax.records.files import part_of
from padam_optax.records.record import Record
from padam_optax.report.escaping import plain_label
from padam_optax.report.metrics import METRICS, diverged, last
from padam_optax.report.naming import data_title, file_name, setting_title
from padam_optax.report.results import Results, RunGroup, merged
from padam_optax.report.series import Series, paper_series, sweep_series, titles
from padam_optax.report.tables import Suite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Widths of lines in points: True for Padam's, or the one with the tables' p; False for the others.
WIDTHS = {True: 2.2, False: 1.3}
_LOSS_AND_ERROR = ("train_loss", "test_error")


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
      label: Name in the legend, escaped for matplotlib.
      color: Colour of the line and the band.
      width: Width of the line, in points.
      runs: The runs whose mean and standard deviation are drawn.
      style: Style of the line, as matplotlib writes it.
    """

    label: str
    color: str
    width: float
    runs: Sequence[Record]
    style: str = "-"


def _curves(series: Sequence[Series], group: RunGroup | None) -> list[Curve]:
    return [
        Curve(
            plain_label(each.title),
            each.color,
            WIDTHS[each.main],
            [] if group is None else group.finished_of(each.experiment),
            each.style,
        )
        for each in series
    ]


def draw_panel(axes: "Axes", metric: str, curves: Sequence[Curve], title: str = "", *, log: bool) -> None:
    """Draws a metric against epochs, errors in percent; with `log`, the metric's axis is logarithmic.

    A value far above all first and last ones is outside of the picture, which says so.
    A curve is left out if none of its runs has the metric, or all diverged. A panel without curves says why.
    """
    percent = 100.0 if METRICS[metric].higher_is_better else 1.0
    for curve in curves:
        runs = [run for run in curve.runs if last(run, metric) is not None]
        if not runs:
            continue
        epochs = np.asarray([line["epoch"] for line in runs[0].metrics])
        values = percent * np.asarray([[line[metric] for line in run.metrics] for run in runs], float)
        # Values before a finite last value may be infinite.
        values[~np.isfinite(values)] = np.nan
        mean, deviation = values.mean(0), values.std(0, ddof=1 if len(runs) > 1 else 0)
        axes.plot(epochs, mean, label=curve.label, color=curve.color, linewidth=curve.width, linestyle=curve.style)
        # The band does not go below the lowest value: a logarithmic axis may not show it there.
        low = np.maximum(mean - deviation, values.min(0))
        axes.fill_between(epochs, low, mean + deviation, color=curve.color, alpha=0.15, linewidth=0)
    axes.set(xlabel="Epoch", ylabel=METRICS[metric].curve)
    whole_ticks(axes)
    axes.set_title(plain_label(title), fontsize="medium")
    # A logarithmic axis cannot show curves of zeros only, such as errors of 0.
    if log and any(np.nanmax(line.get_ydata()) > 0 for line in axes.lines):
        axes.set_yscale("log")
        _leave_out_spikes(axes)
        low, high = axes.get_ylim()
        if high < 150 * low:
            plain_ticks(axes)
    axes.grid(alpha=0.3)
    if not axes.lines:
        runs = [run for curve in curves for run in curve.runs]
        why = "all diverged" if any(map(diverged, runs)) else "not recorded" if runs else "not run"
        axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color="gray")
        axes.set(xticks=[], yticks=[])
        axes.minorticks_off()


def _leave_out_spikes(axes: "Axes") -> None:
    """Ends a panel at twice the highest of all first and last values, if a curve is far above them in between."""
    ends = [value for line in axes.lines for value in np.asarray(line.get_ydata())[[0, -1]] if np.isfinite(value)]
    high = 2 * max(ends, default=np.inf)
    if np.nanmax([np.nanmax(line.get_ydata()) for line in axes.lines]) > 5 * high:
        axes.set_ylim(top=high)
        axes.text(
            0.99,
            0.98,
            "a curve leaves the picture",
            transform=axes.transAxes,
            ha="right",
            va="top",
            color="gray",
            fontsize="small",
        )


def whole_ticks(axes: "Axes") -> None:
    """Labels the horizontal axis with whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def plain_ticks(axes: "Axes") -> None:
    """Labels a logarithmic axis with plain numbers instead of powers of ten, if it spans about one power."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    few = LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)) if high > 4 * low else MaxNLocator(6)
    axes.yaxis.set_major_locator(few)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))


def training_curves(suite: Suite, path: str | pathlib.Path) -> pathlib.Path:
    """Draws train loss and test metric of a suite's methods; writes a PNG to `path`.

    Diverged runs are left out. The title gives the data, departures from the experiments, and n.
    """
    return save(_two_panels(suite), path)


def network_picture(suite: Suite, name: str) -> "Picture":
    """Draws train loss and test metric of one of the paper's networks, like one of its figures."""
    title = f"{suite.heading}: train loss and {METRICS[suite.quality].curve.lower()}"
    return Picture(name, title, suite.group.remarks(titles(suite.series)), _two_panels(suite))


def _two_panels(suite: Suite) -> "Figure":
    figure = new_figure(10, 4)
    curves = _curves(suite.series, suite.group)
    for axes, metric in zip(figure.subplots(1, 2), ("train_loss", suite.quality), strict=True):
        # The last epochs, where the methods differ by little, can be read on a logarithmic axis only.
        draw_panel(axes, metric, curves, log=True)
    _legend(figure, [curve.label for curve in curves])
    title = plain_label(suite.heading)
    n = _n(curves, suite.quality)
    spread = "" if n in ("0", "1") else ", mean and standard deviation"
    figure.suptitle(f"{title}\n(n = {n}{spread})", fontsize="medium")
    return figure


@dataclasses.dataclass(frozen=True)
class _Panel:
    """A panel: its curves, and their data sets in the paper."""

    title: str
    metric: str
    series: tuple[Series, ...]
    datasets: tuple[str, ...]


# Figures 2 to 4: title, and for each panel its title, suite and metric, row by row. The paper's text does not say which
# network is above the other in Figure 3; this order is assumed.
_NETWORKS = {"vgg16": "VGGNet", "resnet18": "ResNet", "wrn16-4": "WideResNet"}
_FIGURES = {
    2: (
        "train loss and test error",
        [[(title, f"cifar10-{name}", metric) for name, title in _NETWORKS.items()] for metric in _LOSS_AND_ERROR],
    ),
    3: (
        "test error and test perplexity",
        [
            [
                ("(a) VGGNet", "imagenet-vgg16", "test_error"),
                ("(b) VGGNet", "imagenet-vgg16", "test_error_top5"),
                ("(c) 2-layer LSTM", "ptb-lstm2", "test_perplexity"),
            ],
            [
                ("(d) ResNet", "imagenet-resnet18", "test_error"),
                ("(e) ResNet", "imagenet-resnet18", "test_error_top5"),
                ("(f) 3-layer LSTM", "ptb-lstm3", "test_perplexity"),
            ],
        ],
    ),
    4: (
        "train loss and test error",
        [[(title, f"cifar100-{name}", metric) for name, title in _NETWORKS.items()] for metric in _LOSS_AND_ERROR],
    ),
}
# Figure 1 shows the sweep over p.
NUMBERS = (1, *_FIGURES)


def _layout(number: int, results: Results) -> tuple[str, list[list[_Panel]]]:
    if number == 1:
        panels = [
            _Panel("ResNet", "test_error", sweep_series(sweep), _datasets(sweep.values()))
            for sweep in results.paper.sweeps
        ]
        return "test error with each p", [panels]

    def panel(name: str, suite: str, metric: str) -> _Panel:
        cells = results.cells(suite)
        return _Panel(name, metric, paper_series(cells), _datasets(cells.values()))

    title, rows = _FIGURES[number]
    return title, [[panel(*each) for each in row] for row in rows]


def _datasets(experiments: Iterable[Experiment]) -> tuple[str, ...]:
    return tuple(sorted({spec.dataset for spec in experiments}))


@dataclasses.dataclass(frozen=True)
class Picture:
    """One of the paper's figures, drawn from the runs on one kind of data.

    Attributes:
      name: Name of its file, without the ending.
      title: What it shows.
      caption: Data, devices, and what was left out.
      figure: The figure of matplotlib.
    """

    name: str
    title: str
    caption: str
    figure: "Figure"


def paper_figure(number: int, results: Results) -> list[Picture]:
    """Draws one of the paper's figures, once for each kind of data, length and settings of its experiments' runs.

    Args:
      number: Number of the figure.
      results: Any results; runs of other experiments are left out.

    Returns:
      A picture for each kind of data, length and settings with a finished run for some panel; panels without a run say
      so.

    Raises:
      KeyError: If the paper has no such figure.
    """
    if number not in NUMBERS:
        raise KeyError(f"The paper has no figure {number}; it has {', '.join(map(str, NUMBERS))}.")
    title, rows = _layout(number, results)
    # A figure's panels may have several data sets; under their own labels, all are the paper's data and one kind.
    kinds: dict[tuple[str, ...], dict[tuple[int, int], RunGroup]] = {}
    for row, column in ((row, column) for row, panels in enumerate(rows) for column in range(len(panels))):
        for group in results.groups(titles(rows[row][column].series)):
            if any(group.finished.values()):
                conditions = group.conditions
                kind = (*(() if conditions.own else (conditions.label,)), *conditions.departures)
                kinds.setdefault(kind, {})[row, column] = group
    found: dict[str, Picture] = {}
    for kind in sorted(kinds):
        name = file_name(f"figure-{number}", *kind)
        # Two kinds can differ only in characters that a file's name cannot hold.
        while name.casefold() in found:
            name += "-again"
        found[name.casefold()] = _picture(number, name, title, rows, kinds[kind])
    return list(found.values())


def _picture(
    number: int, name: str, title: str, rows: list[list[_Panel]], found: Mapping[tuple[int, int], RunGroup]
) -> Picture:
    figure = new_figure(3.4 * len(rows[0]) if len(rows) > 1 else 10, 3 * len(rows) + 1.1)
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    remarks: list[tuple[str, str]] = []
    for (row, column), axes in np.ndenumerate(grid):
        panel, group = rows[row][column], found.get((row, column))
        curves = _curves(panel.series, group)
        draw_panel(axes, panel.metric, curves, " ".join((panel.title, _where(panel, group, curves))), log=True)
        if group is not None:
            remarks.append((panel.title, f"on {group.conditions.text}: {group.remarks(titles(panel.series))}"))
    _legend(figure, [plain_label(each.title) for each in rows[0][0].series])
    # The labels of the data that are drawn, which may not be the paper's data sets.
    labels = dict.fromkeys(data_title(group.conditions.label) for _, group in sorted(found.items()))
    departures = map(setting_title, next(iter(found.values())).conditions.departures)
    heading = f"Figure {number}: {', '.join((title, *labels, *departures))}"
    devices = sorted({device for group in found.values() for device in group.devices})
    title = plain_label(f"{heading}\n(mean and standard deviation; {', '.join(devices)})")
    figure.suptitle(title, fontsize="medium")
    return Picture(name, heading, " ".join(merged(remarks)), figure)


def _where(panel: _Panel, group: RunGroup | None, curves: Sequence[Curve]) -> str:
    """The data, and the number of runs."""
    if group is None:
        return " ".join(f"on {dataset}" for dataset in panel.datasets)
    return f"on {data_title(group.conditions.label)}, n = {_n(curves, panel.metric)}"


def _n(curves: Sequence[Curve], metric: str) -> str:
    """The number of runs that the curves average, such as `3` or `1-3`."""
    counts = sorted({n for curve in curves if (n := sum(last(run, metric) is not None for run in curve.runs))})
    return "-".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def _legend(figure: "Figure", names: Sequence[str]) -> None:
    """Adds a legend below all panels: those of `names` whose curves are drawn in any panel, in this order."""
    handles = {
        label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    order = [name for name in names if name in handles]
    if order:
        figure.legend(
            [handles[name] for name in order],
            order,
            loc="outside lower center",
            ncols=7 if len(order) < 8 else 4,
            frameon=False,
        )


def save(figure: "Figure", path: str | pathlib.Path) -> pathlib.Path:
    """Writes a PNG to `path`, whole or not at all, and makes its folder."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with part_of(path) as part, part.open("xb") as file:
        figure.savefig(file, dpi=120, format="png")
    return path


def new_figure(width: float, height: float) -> "Figure":
    """A figure, sizes in inches; made without pyplot, which would keep it in memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    FigureCanvasAgg(figure)
    return figure


def spread_colors(count: int) -> list[str]:
    """`count` colours along one scale, for values that have an order."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    scale = colormaps["viridis"]
    return [to_hex(scale(place)) for place in np.linspace(0, 0.92, count)]
