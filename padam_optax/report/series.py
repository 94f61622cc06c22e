"""The columns of tables and the curves of figures: experiments with their titles and colors."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from padam_optax.experiments.methods import METHODS
from padam_optax.experiments.paper import PAPER_METHODS
from padam_optax.experiments.spec import Experiment
from padam_optax.report.naming import method_color, method_style, method_title, p_text

PADAM = "padam"
# The forms of Padam in suites: with the learning rate in its own units, and in Adam's.
PADAMS = (PADAM, "padam-reference")
# These tell curves of one color in one panel apart.
_STYLES = ("-", "--", ":", "-.")


@dataclasses.dataclass(frozen=True)
class Series:
    """A column of a table, or a curve in each panel of a figure.

    Attributes:
      title: Its heading, or its name in the legend.
      method: A key of `METHODS`, or the name of a method that is not registered.
      experiment: Name of the experiment whose runs it shows; None if there is none.
      color: The curve's color.
      style: The curve's line, as matplotlib writes it.
      main: Whether the curve is drawn thicker than the others.
    """

    title: str
    method: str
    experiment: str | None
    color: str
    style: str = "-"
    main: bool = False


def paper_series(cells: Mapping[str, Experiment]) -> tuple[Series, ...]:
    """A series for each of the paper's seven methods in its order, with or without an experiment.

    Args:
      cells: The experiments by method.
    """
    return tuple(
        Series(
            method_title(method),
            method,
            cells[method].name if method in cells else None,
            method_color(method),
            method_style(method),
            main=method == PADAM,
        )
        for method in PAPER_METHODS
    )


def suite_series(members: Sequence[Experiment]) -> tuple[Series, ...]:
    """A suite's experiments in the order of `METHODS`; if one of the paper's methods is among them, all seven are.

    The title is the method's, or the experiment's own name if several in the suite have the method.
    """
    methods = [spec.optimizer for spec in members]
    seven = PAPER_METHODS if not set(methods).isdisjoint(PAPER_METHODS) else ()
    found: list[Series] = []
    for method in dict.fromkeys((*seven, *METHODS, *methods)):
        of_method = [spec for spec in members if spec.optimizer == method]
        color, title = method_color(method), method_title(method)
        for spec in of_method:
            style = method_style(method)
            while (color, style) in {(series.color, series.style) for series in found if series.experiment}:
                style = _STYLES[(_STYLES.index(style) + 1) % len(_STYLES)]
            called = title if len(of_method) == 1 else spec.name
            found.append(Series(called, method, spec.name, color, style, main=method in PADAMS))
        if not of_method and method in seven:
            found.append(Series(title, method, None, color))
    return tuple(found)


def sweep_series(sweep: Mapping[float, Experiment]) -> tuple[Series, ...]:
    """The experiments of a sweep over p; the one with the tables' p has Padam's color."""
    ours = chosen_p(sweep)
    others = iter(method_color(method) for method in PAPER_METHODS if method != PADAM)
    return tuple(
        Series(
            p_text(p),
            spec.optimizer,
            spec.name,
            method_color(PADAM) if p == ours else next(others),
            main=p == ours,
        )
        for p, spec in sweep.items()
    )


def titles(series: Iterable[Series]) -> dict[str, str]:
    """The titles by experiment."""
    return {each.experiment: each.title for each in series if each.experiment is not None}


def chosen_p(sweep: Mapping[float, Experiment]) -> float:
    """The p of the experiment in a sweep that is a cell of the paper's tables.

    Raises:
      ValueError: If no experiment is a cell of a table, or several are.
    """
    cells = [p for p, spec in sweep.items() if spec.paper]
    if len(cells) != 1:
        raise ValueError(f"A sweep over p must have one cell of a table; {', '.join(map(p_text, cells)) or 'none'} is.")
    return cells[0]
