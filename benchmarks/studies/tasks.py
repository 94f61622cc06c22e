"""One table over tasks: each p at one common learning rate and at its own best, from what is recorded.

    python benchmarks/studies/tasks.py [--out FILE]

A line a task and kind of rate. All p have `reference_p=1/2` and the same rates to choose from, and Adam has them too:

- digits, CIFAR-10, LSTM, transformer: the maps of `reference_p.py`, held-out scores, one seed;
- graph networks, GAN, fine-tuning: `gcn.py`, `gan.py` and `fine_tuning.py`, means of five seeds that had no part in the
  choice.

The common rate (and b1, where it is tried) is the one whose worst score over p is the best; on maps, relative to the
best of each p. A test holds `benchmarks/reports/p-over-tasks.md` to the records.
"""

import argparse
import json
import math
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import comparing
import fine_tuning
import reference_p

from padam_optax.records.store import read_all
from padam_optax.report.naming import p_text

RECORDS = pathlib.Path(__file__).parents[1] / "records"
MAPS = {
    "digits": "CNN, digits, error (%)",
    "cifar10": "ResNet-10, CIFAR-10, error (%)",
    "lstm": "LSTM, Penn Treebank, perplexity",
    "transformer": "transformer, Penn Treebank, perplexity",
}
GRAPHS = {
    "karate-club": "graph network, karate club, accuracy (%)",
    "karate-communities": "graph network, karate communities, accuracy (%)",
    "les-miserables-communities": "graph network, Les Miserables, accuracy (%)",
}


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      task: What is learnt, and what the numbers are.
      rate: Which learning rates.
      n: Seeds.
      adam: Adam at its own best rate; None on the line of a common rate.
      scores: By p; infinite where a run diverged.
      higher: Whether a higher score is better.
    """

    task: str
    rate: str
    n: int
    adam: float | None
    scores: Mapping[float, float]
    higher: bool


def rows() -> Iterator[Row]:
    """All lines."""
    found = reference_p.scores(list(read_all(RECORDS / "studies" / "reference-p.jsonl")))
    for task, title in MAPS.items():
        score = found[task]["leaf"] | found[task]["zero"]
        adam = min(found[task]["adam"].values())
        best = {p: min(value for (other, _), value in score.items() if other == p) for p, _ in score}
        yield Row(title, "own", 1, adam, best, higher=False)
        rate, _ = reference_p.common_rate(score)
        common = {p: value for (p, other), value in score.items() if other == rate}
        yield Row(title, f"{rate:g}", 1, None, common, higher=False)
    graphs = measured("gcn")["tasks"]
    for task, title in GRAPHS.items():
        yield from _compared(title, graphs[task], "accuracy", 100)
    yield from _compared("GAN, digits, Frechet distance", measured("gan"), "frechet_distance", 1)
    tuned = measured("fine_tuning")
    for score, title in (
        ("new", "fine-tuning, new classes, accuracy (%)"),
        ("kept", "fine-tuning, kept, accuracy (%)"),
    ):
        scores = {
            which: {
                name: statistics.fmean(run[score] for run in runs[which])
                for name, runs in tuned["scores"].items()
                if which in runs
            }
            for which in ("own", "common")
        }
        for which, text in (("own", "own"), ("common", tuned["common"])):
            by_p = {p: scores[which][name] for name, p in fine_tuning.P.items()}
            yield Row(title, text, 5, scores["own"]["Adam"] if which == "own" else None, by_p, higher=True)


def measured(name: str) -> dict[str, Any]:
    """A recorded measurement."""
    return json.loads((RECORDS / "measurements" / f"{name}.json").read_text())


def _compared(title: str, result: Mapping[str, Any], score: str, scale: float) -> Iterator[Row]:
    own = {name: _scaled(row["mean"], scale) for name, row in result[score].items()}
    higher = score == "accuracy"
    yield Row(title, "own", 5, own["adam"], {p: own[name] for name, p in comparing.P.items()}, higher)
    setting = result["common"]["setting"]
    common = {
        p: _scaled(
            statistics.fmean(math.nan if each is None else each for each in result["common"]["scores"][name]), scale
        )
        for name, p in comparing.P.items()
    }
    yield Row(title, f"{setting['learning_rate']:g}, b1 = {setting['b1']:g}", 5, None, common, higher)


def _scaled(value: float | None, scale: float) -> float:
    return math.inf if value is None or math.isnan(value) else scale * value


def table(lines: list[Row]) -> str:
    """The table in Markdown; the best p of a line is bold."""
    names = [p_text(p) for p in comparing.PS]
    text = [f"| | rate | n | {' | '.join(names)} | Adam, own rate |", "|---" * (4 + len(comparing.PS)) + "|"]
    for row in lines:
        best = (max if row.higher else min)(value for value in row.scores.values() if math.isfinite(value))
        cells = [_cell(row.scores.get(p), best) for p in comparing.PS]
        adam = "" if row.adam is None else f"{row.adam:.1f}"
        text.append(f"| {row.task} | {row.rate} | {row.n} | {' | '.join(cells)} | {adam} |")
    return "\n".join(text) + "\n"


def _cell(value: float | None, best: float) -> str:
    if value is None:
        return ""
    text = f"{value:.1f}" if math.isfinite(value) else "diverged"
    return f"**{text}**" if text == f"{best:.1f}" else text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="write the table as Markdown")
    arguments = parser.parse_args()
    text = table(list(rows()))
    print(text, end="")
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
