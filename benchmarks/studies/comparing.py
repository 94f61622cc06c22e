"""How `gcn.py` and `gan.py` compare methods: equal grids, choices on other runs, differences paired by seed."""

import dataclasses
import fractions
import importlib.metadata
import itertools
import math
import pathlib
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optax

import padam_optax
from padam_optax.experiments.methods import METHODS
from padam_optax.report.claims import paired_interval

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

PS = (0.0, 1 / 16, 1 / 8, 1 / 4, 2 / 5, 1 / 2)
# Padam at each p with `reference_p=1/2`, so that all share Adam's learning rates; p = 1/2 is AMSGrad.
P = {f"p={fractions.Fraction(p).limit_denominator(16)}": p for p in PS}
OTHERS = ("adam", "adamw", "sgdm")
TITLES = {
    **{name: METHODS[name].title for name in OTHERS},
    **{name: f"Padam, {name.replace('=', ' = ')}" for name in P},
}
_COLORS = ("#E69F00", "#F0E442", "#8C8C8C", "#0072B2", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#000000")
COLORS = dict(zip(TITLES, _COLORS, strict=True))
SEEDS = (0, 1, 2, 3, 4)

Setting = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Grids:
    """The settings that are tried, as many for each method: a learning rate times a b1.

    Attributes:
      rates: Learning rates of Adam, AdamW and Padam, in Adam's units.
      sgd_rates: Those of SGD with momentum.
      b1: Of the momentum.
    """

    rates: Sequence[float]
    sgd_rates: Sequence[float]
    b1: Sequence[float]

    def settings(self, method: str) -> list[Setting]:
        """Those of a key of `TITLES`."""
        if method == "sgdm":
            pairs = itertools.product(self.b1, self.sgd_rates)
            return [{"learning_rate": rate, "momentum": momentum} for momentum, rate in pairs]
        rest: Setting = {"p": P[method]} if method in P else {"weight_decay": 0.01} if method == "adamw" else {}
        return [{"learning_rate": rate, "b1": b1, **rest} for b1, rate in itertools.product(self.b1, self.rates)]


def optimizer(setting: Mapping[str, Any]) -> optax.GradientTransformation:
    """SGD if the setting has a momentum, AdamW if a decay, Padam with `reference_p=1/2` if a p, else Adam.

    Values may be traced.
    """
    if "momentum" in setting:
        return optax.sgd(**setting)
    if "weight_decay" in setting:
        return optax.adamw(**setting)
    if "p" in setting:
        return padam_optax.padam(**setting, reference_p=0.5)
    return optax.adam(**setting)


def choose(scores: np.ndarray, *, lowest: bool) -> int:
    """The place of the setting with the best mean score.

    Args:
      scores: (settings, tuning runs); not a number where a run diverged, which excludes its setting.
      lowest: Whether the lowest is the best.

    Raises:
      ValueError: If a run of every setting diverged.
    """
    means = scores.mean(axis=1)
    if not np.isfinite(means).any():
        raise ValueError("a run of every setting diverged.")
    return int(np.nanargmin(means) if lowest else np.nanargmax(means))


def finite(values: np.ndarray) -> Any:
    """Nested lists for JSON: None for what is not finite."""
    if values.ndim:
        return [finite(value) for value in values]
    return float(values) if np.isfinite(values) else None


def tuning_record(settings: Sequence[Setting], scores: np.ndarray, chosen: int) -> dict[str, Any]:
    """What was tried, each score, and which settings had a run that diverged."""
    diverged = ~np.isfinite(scores)
    return {
        "settings": [
            {**setting, "scores": finite(row)} for setting, row in zip(settings, np.asarray(scores), strict=True)
        ],
        "diverged_runs": int(diverged.sum()),
        "diverged_settings": int(diverged.any(axis=1).sum()),
        "chosen": settings[chosen],
        "at_edge_of_rates": at_edge(settings, chosen),
    }


def at_edge(settings: Sequence[Setting], chosen: int) -> bool:
    """Whether the chosen rate is the least or the greatest of those tried with the same other numbers."""

    def others(setting: Setting) -> Setting:
        return {name: value for name, value in setting.items() if name != "learning_rate"}

    rates = [setting["learning_rate"] for setting in settings if others(setting) == others(settings[chosen])]
    return settings[chosen]["learning_rate"] in (min(rates), max(rates))


def comparison(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Mean and standard deviation of each method, and its differences from Adam, paired by seed.

    A pair with a run that diverged has no difference; it is counted.
    """
    found: dict[str, Any] = {}
    for method, runs in values.items():
        kept = [value for value in runs if math.isfinite(value)]
        found[method] = {
            "n": len(kept),
            "diverged": len(runs) - len(kept),
            "mean": statistics.mean(kept) if kept else None,
            "standard_deviation": statistics.stdev(kept) if len(kept) > 1 else None,
        }
        if method != "adam":
            pairs = zip(runs, values["adam"], strict=True)
            differences = [one - other for one, other in pairs if math.isfinite(one - other)]
            found[method]["minus_adam"] = {
                "n": len(differences),
                "differences": differences,
                "mean": statistics.mean(differences) if differences else None,
                "interval": paired_interval(differences),
            }
    return found


def write_comparison(path: pathlib.Path, libraries: Sequence[str], settings: Mapping[str, Any], **result: Any) -> None:
    """Writes a result as JSON, with the versions, the device, and what was set, also for all comparisons alike."""
    versions = {name: importlib.metadata.version(name) for name in ("flax", "optax", *libraries)}
    write(path, libraries=versions, settings={**settings, "seeds": SEEDS, "reference_p": 0.5}, **result)


def setting_text(setting: Setting) -> str:
    """Such as `rate 0.1, b1 0.9`; the name of the method says p, and SGD's momentum is its b1."""
    return f"rate {setting['learning_rate']:g}, b1 {setting.get('b1', setting.get('momentum')):g}"


def table_head(metric: str) -> str:
    """Two lines of Markdown, for `table_line`."""
    columns = ("", "method", "setting", metric, "n", "minus Adam's", "at the common setting", "diverged settings")
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def common_setting(tuning: Mapping[str, Mapping[str, Any]], *, lowest: bool) -> Setting:
    """The learning rate and b1 that suit all of Padam's p together, by the mean scores of the tuning.

    It is the setting whose worst score over p is the best; one with a run that diverged is out.
    """
    worst = max if lowest else min
    by_setting: dict[tuple[float, float], list[float]] = {}
    for name in P:
        for each in tuning[name]["settings"]:
            score = statistics.mean(math.nan if value is None else value for value in each["scores"])
            by_setting.setdefault((each["learning_rate"], each["b1"]), []).append(score)
    able = {setting: worst(scores) for setting, scores in by_setting.items() if all(map(math.isfinite, scores))}
    rate, b1 = (min if lowest else max)(able, key=able.__getitem__)
    return {"learning_rate": rate, "b1": b1}


def at_common(result: Mapping[str, Any], method: str) -> str:
    """Mean ± standard deviation of a p's scores with the common setting; other methods have none."""
    if method not in P:
        return "-"
    scores = [value for value in result["common"]["scores"][method] if math.isfinite(value)]
    return f"{statistics.mean(scores):.4g} ± {statistics.stdev(scores):.2g}" if len(scores) > 1 else "diverged"


def table_line(title: str, result: Mapping[str, Any], metric: str, method: str) -> str:
    """A method of a result's comparison as a line of Markdown: mean ± standard deviation; difference and 95% interval.

    Args:
      title: Of the line.
      result: What was recorded, with a `comparison` under `metric`.
      metric: "accuracy" or "frechet_distance".
      method: A key of `TITLES`.
    """
    row, tuning = result[metric][method], result["tuning"][method]
    edge = " (edge of its rates)" if tuning["at_edge_of_rates"] else ""
    value = "-" if row["standard_deviation"] is None else f"{row['mean']:.4g} ± {row['standard_deviation']:.2g}"
    difference = row.get("minus_adam", {"interval": None})
    text = "-"
    if difference["interval"] is not None:
        low, high = difference["interval"]
        text = f"{difference['mean']:+.3g} [{low:+.3g}, {high:+.3g}]"
    setting = setting_text(tuning["chosen"]) + edge
    cells = (title, TITLES[method], setting, value, row["n"], text, at_common(result, method))
    return f"| {' | '.join(map(str, cells))} | {tuning['diverged_settings']} of {len(tuning['settings'])} |"
