"""The paper's experiments and this package's smaller ones, by name, table and figure. Nothing here trains."""

import difflib

# Importing `padam_forms` registers the forms of Padam that `beyond` names.
from padam_optax.experiments import beyond, cifar, digits, imagenet, padam_forms, ptb, pydoc
from padam_optax.experiments.spec import Experiment

__all__ = ["EXPERIMENTS", "Experiment", "figure", "find", "padam_forms", "register", "table"]

EXPERIMENTS: dict[str, Experiment] = {}


def register(experiment: Experiment) -> Experiment:
    """Adds an experiment: from now on the command `padam` lists, runs, sweeps and reports it.

    Raises:
      ValueError: If an experiment of that name exists already.
    """
    if experiment.name in EXPERIMENTS:
        raise ValueError(f"There is an experiment called {experiment.name!r} already; give it another name.")
    EXPERIMENTS[experiment.name] = experiment
    return experiment


for _module in (cifar, imagenet, ptb, digits, pydoc, beyond):
    for _experiment in _module.EXPERIMENTS:
        register(_experiment)


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
      KeyError: If the table has no experiments; the message names the tables that have some.
    """
    groups: dict[int, list[Experiment]] = {}
    for spec in EXPERIMENTS.values():
        for each in sorted({result.table for result in spec.paper}):
            groups.setdefault(each, []).append(spec)
    return _numbered("table", number, groups)


def figure(number: int) -> list[Experiment]:
    """The curves of one of the paper's figures.

    Raises:
      KeyError: If the figure has no experiments; the message names the figures that have some.
    """
    cells = {
        1: [*cifar.FIGURE_1, *(spec for spec in cifar.TABLES if (spec.model, spec.optimizer) == ("resnet18", "padam"))],
        2: table(1),
        3: [*table(2), *table(3)],
        4: table(4),
    }
    return _numbered("figure", number, cells)


def _numbered(kind: str, number: int, groups: dict[int, list[Experiment]]) -> list[Experiment]:
    if number not in groups:
        known = ", ".join(map(str, sorted(groups)))
        raise KeyError(f"There are no experiments for {kind} {number}; there are for {known}.")
    return groups[number]
