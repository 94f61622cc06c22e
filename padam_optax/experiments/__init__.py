"""The paper's experiments and our smaller ones, by name, table and figure."""

import difflib

from padam_optax.experiments import beyond, cifar, digits, imagenet, ptb
from padam_optax.experiments.spec import Experiment

__all__ = ["EXPERIMENTS", "Experiment", "figure", "find", "table"]

EXPERIMENTS: dict[str, Experiment] = {
    spec.name: spec for module in (cifar, imagenet, ptb, digits, beyond) for spec in module.EXPERIMENTS
}


def find(name: str) -> Experiment:
    """Returns the experiment called `name`.

    Raises:
      KeyError: If there is none; the message suggests the nearest names.
    """
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    near = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise KeyError(f"There is no experiment called {name!r}.{hint} `padam list` shows all.")


def table(number: int) -> list[Experiment]:
    """The cells of one of the paper's tables.

    Raises:
      KeyError: If no experiment belongs to it; the message names those that have some.
    """
    return _numbered("table", number, _TABLES)


def figure(number: int) -> list[Experiment]:
    """The curves of one of the paper's figures.

    Raises:
      KeyError: If no experiment belongs to it; the message names those that have some.
    """
    return _numbered("figure", number, _FIGURES)


def _numbered(kind: str, number: int, groups: dict[int, list[Experiment]]) -> list[Experiment]:
    if number not in groups:
        raise KeyError(f"There are no experiments for {kind} {number}; there are for {', '.join(map(str, groups))}.")
    return groups[number]


def _by_table() -> dict[int, list[Experiment]]:
    groups: dict[int, list[Experiment]] = {}
    for spec in EXPERIMENTS.values():
        for number in sorted({int(result.source.removeprefix("Table ")) for result in spec.paper}):
            groups.setdefault(number, []).append(spec)
    return dict(sorted(groups.items()))


_TABLES = _by_table()

_FIGURES = {
    1: [*cifar.FIGURE_1, *(spec for spec in cifar.TABLES if (spec.model, spec.optimizer) == ("resnet18", "padam"))],
    2: _TABLES[1],
    3: [*_TABLES[2], *_TABLES[3]],
    4: _TABLES[4],
}
