"""How `gcn.py` and `gan.py` compare optimizers: equal grids, choices on other runs, differences paired by seed."""

import dataclasses
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

from padam_optax.experiments.methods import METHODS, MethodContext, make_optimizer
from padam_optax.report.claims import paired_interval

# measuring.py is in the folder of the speed benchmarks.
sys.path.append(str(pathlib.Path(__file__).parents[1] / "speed"))
from measuring import write

TITLES = {name: METHODS[name].title for name in ("padam", "adam", "amsgrad")}
COLORS = {name: METHODS[name].color for name in TITLES}
SEEDS = (0, 1, 2, 3, 4)

Setting = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Grids:
    """The settings that are tried: as many for each method, a rate times one other number.

    Attributes:
      rates: Learning rates of Adam and AMSGrad.
      b1: Their b1.
      padam: Padam's learning rates by p, for the larger p is, the smaller is its rate.
      padam_b1: Padam's b1, which is not tuned.
    """

    rates: Sequence[float]
    b1: Sequence[float]
    padam: Mapping[float, Sequence[float]]
    padam_b1: float

    def settings(self, method: str) -> list[Setting]:
        """Those of "padam", "adam" or "amsgrad", which is Padam with p = 1/2."""
        if method == "padam":
            return [
                {"learning_rate": rate, "b1": self.padam_b1, "p": p}
                for p, rates in self.padam.items()
                for rate in rates
            ]
        rest: Setting = {"p": 0.5} if method == "amsgrad" else {}
        return [{"learning_rate": rate, "b1": b1, **rest} for b1, rate in itertools.product(self.b1, self.rates)]


def optimizer(setting: Mapping[str, Any]) -> optax.GradientTransformation:
    """Padam, or Adam if the setting has no p, as the package's experiments use them but without decay.

    Padam's bias correction is the "official" one. Values may be traced.
    """
    name = "padam" if "p" in setting else "adam"
    context = MethodContext(bias_correction="official")
    return make_optimizer(name, {"b2": 0.999, "eps": 1e-8, "weight_decay": 0.0, **setting}, context)


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


def comparison(values: Mapping[str, Sequence[float]], lead: str = "padam") -> dict[str, Any]:
    """Mean and standard deviation of each method, and the differences of `lead` from the others, paired by seed.

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
        if method != lead:
            pairs = zip(values[lead], runs, strict=True)
            differences = [one - other for one, other in pairs if math.isfinite(one - other)]
            found[method][f"{lead}_minus"] = {
                "n": len(differences),
                "differences": differences,
                "mean": statistics.mean(differences) if differences else None,
                "interval": paired_interval(differences),
            }
    return found


def write_comparison(path: pathlib.Path, libraries: Sequence[str], settings: Mapping[str, Any], **result: Any) -> None:
    """Writes a result as JSON, with the versions, the device, and what was set, also for all comparisons alike."""
    versions = {name: importlib.metadata.version(name) for name in ("flax", "optax", *libraries)}
    write(path, libraries=versions, settings={**settings, "seeds": SEEDS, "bias_correction": "official"}, **result)


def setting_text(setting: Setting) -> str:
    """Such as `learning_rate 0.1, b1 0.9, p 0.125`."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


def table_head(metric: str) -> str:
    """Two lines of Markdown, for `table_line`."""
    columns = ("", "method", "setting", metric, "n", "Padam's minus this", "diverged settings")
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def table_line(title: str, method: str, row: Mapping[str, Any], tuning: Mapping[str, Any]) -> str:
    """A method of a `comparison` as a line of Markdown: mean ± standard deviation; difference and 95% interval."""
    edge = " (edge of its rates)" if tuning["at_edge_of_rates"] else ""
    value = "-" if row["standard_deviation"] is None else f"{row['mean']:.4g} ± {row['standard_deviation']:.2g}"
    difference = row.get("padam_minus", {"interval": None})
    text = "-"
    if difference["interval"] is not None:
        low, high = difference["interval"]
        text = f"{difference['mean']:+.3g} [{low:+.3g}, {high:+.3g}]"
    cells = (title, TITLES[method], setting_text(tuning["chosen"]) + edge, value, row["n"], text)
    return f"| {' | '.join(map(str, cells))} | {tuning['diverged_settings']} of {len(tuning['settings'])} |"
