"""A sweep's table, its map of learning rate and p, and its curves over p, from the records of its trials."""

import dataclasses
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from padam_optax.records.record import Record, SharedProgram
from padam_optax.report.escaping import plain_label
from padam_optax.report.figures import Curve, draw_panel, new_figure, save, spread_colors
from padam_optax.report.grid import Cell, Grid, Line
from padam_optax.report.metrics import METRICS, diverged, last
from padam_optax.report.naming import data_title, p_text, picture_title


@dataclasses.dataclass(frozen=True)
class SweepPoint:
    """One choice of hyper-parameters in a sweep.

    Attributes:
      chosen: Its values of the hyper-parameters that the sweep varies.
      runs: Its runs, one a seed.
    """

    chosen: Mapping[str, float]
    runs: Sequence[Record]

    def final(self, metric: str) -> list[float]:
        """The metric at the end of the runs that reached it and did not diverge."""
        return [value for run in self.runs if run.whole and (value := last(run, metric)) is not None]

    def mean(self, metric: str) -> float:
        """The mean of the metric over the seeds; infinite if a run diverged, was given up or is unfinished."""
        values = self.final(metric)
        return statistics.fmean(values) if len(values) == len(self.runs) else math.inf


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The trials of one experiment, the best first.

    Attributes:
      name: The experiment's name.
      metric: The metric that compares the trials; lower is better.
      points: One for each choice of hyper-parameters.
    """

    name: str
    metric: str
    points: Sequence[SweepPoint]

    @classmethod
    def of(cls, records: Sequence[Record], metric: str) -> "Sweep":
        """Makes a sweep of one experiment's trials; trials of one name are the seeds of one point."""
        by_name: dict[str, list[Record]] = {}
        for record in records:
            by_name.setdefault(record.experiment.name, []).append(record)
        found = [SweepPoint(_chosen(runs[0]), runs) for runs in by_name.values()]
        first = records[0].experiment
        return cls(first.variant_of or first.name, metric, sorted(found, key=lambda each: each.mean(metric)))

    @property
    def title(self) -> str:
        """The experiment, its data and length, and the number of seeds."""
        return f"{self.name} on {data_title(self.points[0].runs[0].data.label)}{self._conditions}"

    @property
    def _heading(self) -> str:
        """The same in words, for a picture."""
        record = self.points[0].runs[0]
        return f"{picture_title(record.data.label, [record.experiment.model])}{self._conditions}"

    @property
    def _conditions(self) -> str:
        held = "" if self._held_out is None else f", {self._held_out:g} of its training set held out"
        seeds = max(len(each.runs) for each in self.points)
        return f"{held}, {self.points[0].runs[0].experiment.epochs} epochs, n = {seeds}"

    @property
    def _held_out(self) -> float | None:
        return getattr(self.points[0].runs[0].experiment.task, "held_out", None)

    @property
    def _label(self) -> str:
        """Name of the metric; on a part of the training set, "held-out" replaces "test"."""
        label = METRICS[self.metric].curve
        return label if self._held_out is None else label.replace("Test", "Held-out")

    def grid(self, most: int | None = None) -> Grid:
        """A table of the best `most` points, best first."""
        scale = _scale(self.metric)
        lines = []
        for place, each in enumerate(self.points[:most]):
            values = [scale * value for value in each.final(self.metric)]
            text = f"{statistics.fmean(values):.2f}" if values else "diverged" if any(map(diverged, each.runs)) else "-"
            text += f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            settings = ", ".join(setting_text(name, value) for name, value in each.chosen.items())
            lines.append(Line((settings,), (Cell((text,), place == 0 and bool(values)), Cell((_remark(each),)))))
        every = [run for each in self.points for run in each.runs]
        whole = sum(run.experiment.epochs for run in every)
        done = sum(run.epochs for run in every)
        seconds = sum(line.get("seconds", 0) for run in every for line in run.metrics)
        how = every[0].sweep or SharedProgram("one by one", 1)
        devices = ", ".join(sorted({run.device.kind for run in every}))
        notes = [
            f"{len(every)} runs, {done} of {whole} epochs trained in {seconds:.0f} s, compilation included;"
            f" {how.mode}, {how.batch_configs} at once; device {devices}."
        ]
        columns = (self._label, "Runs that ended early")
        return Grid(f"{self.title}, best first.", ("Settings",), columns, tuple(lines), tuple(notes))

    def heat_map(self, path: str | pathlib.Path) -> pathlib.Path | None:
        """Draws the metric over learning rate and p, at the best other settings; None unless both vary."""
        cells: dict[tuple[float, float], float] = {}
        for each in self.points:
            if {"learning_rate", "p"} <= each.chosen.keys():
                place = each.chosen["p"], each.chosen["learning_rate"]
                cells[place] = min(each.mean(self.metric), cells.get(place, math.inf))
        ps, rates = (sorted({place[axis] for place in cells}) for axis in (0, 1))
        if len(ps) < 2 or len(rates) < 2:
            return None
        scale = _scale(self.metric)
        values = np.array([[scale * cells.get((p, rate), math.inf) for rate in rates] for p in ps])
        figure = new_figure(1.6 + 0.9 * len(rates), 1.6 + 0.6 * len(ps))
        axes = figure.subplots()
        shown = np.ma.masked_invalid(values)
        image = axes.imshow(shown, aspect="auto", origin="lower", cmap="viridis_r")
        axes.set(xlabel="Learning rate", ylabel="p")
        axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        axes.set_yticks(range(len(ps)), [p_text(p).removeprefix("p = ") for p in ps])
        middle = float(shown.min() + shown.max()) / 2 if shown.count() else 0.0
        for (row, column), value in np.ndenumerate(values):
            known = (ps[row], rates[column]) in cells
            text = f"{value:.1f}" if math.isfinite(value) else ("diverged" if known else "")
            color = "white" if math.isfinite(value) and value > middle else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize="small", color=color)
        figure.colorbar(image, label=self._label)
        axes.set_title(plain_label(self._heading), fontsize="small", wrap=True)
        return save(figure, path)

    def curves(self, path: str | pathlib.Path) -> pathlib.Path | None:
        """Draws the metric against epochs, one line for each p at its best other settings; None unless p varies."""
        best: dict[float, SweepPoint] = {}
        for each in self.points:
            if "p" in each.chosen and each.final(self.metric):
                best.setdefault(each.chosen["p"], each)
        if len(best) < 2:
            return None
        figure = new_figure(6.4, 4.2)
        axes = figure.subplots()
        lines = [
            Curve(plain_label(_legend(p, best[p].chosen)), color, 1.6, [run for run in best[p].runs if run.whole])
            for p, color in zip(sorted(best), spread_colors(len(best)), strict=True)
        ]
        draw_panel(axes, self.metric, lines, log=True)
        axes.set_ylabel(self._label)
        axes.legend(frameon=False, fontsize="small")
        axes.set_title(plain_label(self._heading), fontsize="small", wrap=True)
        return save(figure, path)


def _chosen(record: Record) -> dict[str, float]:
    return {name: record.experiment.hyperparameters[name] for name in record.experiment.trial}


def _remark(each: SweepPoint) -> str:
    """How the runs that did not reach the end ended, in words."""
    parts = []
    if steps := [run.metrics[-1]["diverged_step"] for run in each.runs if run.diverged]:
        parts.append(f"diverged at step {', '.join(map(str, steps))}")
    if worse := sum(diverged(run) and not run.diverged for run in each.runs):
        parts.append(f"{worse} ended worse than a guess")
    if given_up := [run.epochs for run in each.runs if run.given_up]:
        parts.append(f"given up after {max(given_up)} epochs")
    if unfinished := sum(not run.finished for run in each.runs):
        parts.append(f"{unfinished} not finished")
    return "; ".join(parts)


def setting_text(name: str, value: float) -> str:
    """A hyper-parameter as tables show it, such as `p = 1/8`."""
    return p_text(value) if name == "p" else f"{name} = {value:g}"


def _legend(p: float, chosen: Mapping[str, float]) -> str:
    others = ", ".join(setting_text(name, value) for name, value in chosen.items() if name != "p")
    return p_text(p) + (f" ({others})" if others else "")


def _scale(metric: str) -> float:
    return 100.0 if METRICS[metric].higher_is_better else 1.0
