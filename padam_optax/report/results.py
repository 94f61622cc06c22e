"""Groups recorded runs, each counted once, beside the experiments and tables that they are compared with."""

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from padam_optax.experiments import EXPERIMENTS, figure
from padam_optax.experiments.paper import PAPER_METHODS, TABLES, PaperTable
from padam_optax.experiments.spec import Experiment, Role
from padam_optax.records.record import Record
from padam_optax.report.conditions import Conditions, conditions_of
from padam_optax.report.metrics import diverged


@dataclasses.dataclass(frozen=True)
class Paper:
    """The tables and experiments that records are compared with.

    Attributes:
      tables: The paper's tables by number.
      experiments: The known experiments by name: the tables' cells and further ones.
      sweep: The experiments of Figure 1: Padam with each p. Those that are a table's cell have the paper's p.
    """

    tables: Mapping[int, PaperTable]
    experiments: Mapping[str, Experiment]
    sweep: Sequence[Experiment] = ()

    @property
    def suites(self) -> list[str]:
        """The suites of the tables' rows, each once."""
        return list(dict.fromkeys(row.suite for table in self.tables.values() for row in table.rows))

    @property
    def sweeps(self) -> list[dict[float, Experiment]]:
        """The experiments of Figure 1 by p, in rising order; one dictionary a network and data set."""
        groups: dict[tuple[str, str], dict[float, Experiment]] = {}
        for spec in self.sweep:
            groups.setdefault((spec.dataset, spec.model), {})[spec.hyperparameters["p"]] = spec
        return [dict(sorted(group.items())) for group in groups.values()]


# The command compares with this; experiments that are registered later are included.
PAPER = Paper(TABLES, EXPERIMENTS, tuple(figure(1)))


@dataclasses.dataclass(frozen=True)
class RunGroup:
    """The runs of some experiments under one set of conditions.

    Attributes:
      conditions: The conditions that they share.
      finished: Finished runs, diverged ones included, by their experiment's name; each experiment has a list, which may
        be empty.
      unfinished: The other runs, in the same form.
    """

    conditions: Conditions
    finished: dict[str, list[Record]]
    unfinished: dict[str, list[Record]]

    def finished_of(self, experiment: str | None) -> list[Record]:
        """The finished runs of an experiment; empty if it is not one of the group's."""
        return [] if experiment is None else self.finished.get(experiment, [])

    def diverged(self, experiment: str | None) -> int:
        """How many finished runs of an experiment diverged, by `metrics.diverged`."""
        return sum(map(diverged, self.finished_of(experiment)))

    def has_run(self, experiment: str) -> bool:
        """Whether a run of an experiment was begun."""
        return bool(self.finished.get(experiment) or self.unfinished.get(experiment))

    @property
    def records(self) -> Iterator[Record]:
        """All runs, finished or not."""
        for runs in (self.finished, self.unfinished):
            yield from itertools.chain.from_iterable(runs.values())

    @property
    def length(self) -> str:
        """The length of the runs by their experiments, such as `40 epochs`, or `20 to 40 epochs` if they differ."""
        lengths = sorted({record.experiment.epochs for record in self.records})
        return f"{' to '.join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))} epochs"

    @property
    def devices(self) -> list[str]:
        """Kinds of device, sorted."""
        return sorted({record.device.kind for record in self.records})

    def remarks(self, titles: Mapping[str, str]) -> str:
        """The devices and the runs that no mean includes, for a caption or a note; `titles` names the experiments."""
        return f"device {', '.join(self.devices)}.{self.left_out(titles)}"

    def left_out(self, titles: Mapping[str, str]) -> str:
        """The runs that no mean includes, in sentences; empty if there are none."""
        text = ""
        for what, counts in (
            ("Diverged and in no mean", {name: self.diverged(name) for name in self.finished}),
            ("Not finished", {name: len(runs) for name, runs in self.unfinished.items()}),
        ):
            some = ", ".join(f"{titles[name]} {count}" for name, count in counts.items() if count)
            text += f" {what}: {some}." if some else ""
        return text


class Results:
    """Recorded runs in groups, for the tables, figures, claims and the page.

    If only records know an experiment, its first record of the greatest length defines it.

    Attributes:
      paper: The tables and experiments that the records are compared with.
      records: The records, each run once.
      runs: The records that are not trials of a search: the results.
      experiments: All experiments by name; those that only the records know are last.

    Raises:
      ValueError: If a run was recorded twice with different results.
    """

    def __init__(self, paper: Paper, records: Iterable[Record] = ()):
        self.paper = paper
        self.records = distinct(records)
        self.runs = [record for record in self.records if not record.experiment.is_trial]
        known = {**paper.experiments}
        known |= {spec.name: spec for spec in paper.sweep if spec.name not in known}
        recorded = (record.experiment for record in self.runs)
        self.experiments = known | _longest(spec for spec in recorded if spec.name not in known)
        self._groups: dict[tuple[str, ...], list[RunGroup]] = {}

    @functools.cached_property
    def trials(self) -> Mapping[str, int]:
        """The number of trials from which each experiment's settings were chosen, by the experiment's name."""
        specs = (record.experiment for record in self.records)
        return Counter(spec.variant_of or spec.name for spec in specs if spec.trial)

    @functools.cached_property
    def suites(self) -> Mapping[str, list[Experiment]]:
        """The experiments that are not variants, by suite. A variant of an unknown experiment is a suite by itself."""
        found: dict[str, list[Experiment]] = {}
        for spec in self.experiments.values():
            if spec.variant_of is None:
                found.setdefault(spec.suite, []).append(spec)
            elif spec.variant_of not in self.experiments and not self._in_sweep(spec):
                found.setdefault(spec.name, []).append(spec)
        return found

    @property
    def own_suites(self) -> list[str]:
        """The suites that have no row in the paper's tables."""
        return [suite for suite in self.suites if suite not in self.paper.suites]

    @functools.cached_property
    def variants(self) -> Mapping[str, list[Experiment]]:
        """The variants of each experiment, by the experiment's name; without those of the paper's Figure 1."""
        found: dict[str, list[Experiment]] = {name: [] for name in self.experiments}
        for spec in self.experiments.values():
            if spec.variant_of is not None and spec.variant_of in found and not self._in_sweep(spec):
                found[spec.variant_of].append(spec)
        return {name: specs for name, specs in found.items() if specs}

    def cells(self, suite: str) -> dict[str, Experiment]:
        """A suite's experiments with the paper's seven methods, in its order; the first one if a method has several.

        The cells of the paper's tables are always known experiments, never ones that only records define.
        """
        theirs = suite in self.paper.suites
        found: dict[str, Experiment] = {}
        for spec in self.suites.get(suite, ()):
            if not theirs or spec.name in self.paper.experiments:
                found.setdefault(spec.optimizer, spec)
        return {method: found[method] for method in PAPER_METHODS if method in found}

    def groups(self, experiments: Iterable[str]) -> list[RunGroup]:
        """The runs of the named experiments, by conditions; the data set's own label and whole runs come first."""
        names = tuple(experiments)
        if names not in self._groups:
            found: dict[Conditions, RunGroup] = {}
            for name in names:
                for conditions, records in self._by_conditions.get(name, {}).items():
                    group = found.setdefault(conditions, _empty(conditions, names))
                    for record in records:
                        (group.finished if record.finished else group.unfinished)[name].append(record)
            self._groups[names] = sorted(found.values(), key=lambda group: group.conditions.key)
        return self._groups[names]

    @functools.cached_property
    def _by_conditions(self) -> dict[str, dict[Conditions, list[Record]]]:
        found: dict[str, dict[Conditions, list[Record]]] = {}
        for record in self.runs:
            name = record.experiment.name
            conditions = conditions_of(record, self.experiments[name])
            found.setdefault(name, {}).setdefault(conditions, []).append(record)
        return found

    def _in_sweep(self, spec: Experiment) -> bool:
        return any(spec.name == each.name for each in self.paper.sweep)


def _empty(conditions: Conditions, names: Iterable[str]) -> RunGroup:
    return RunGroup(conditions, {name: [] for name in names}, {name: [] for name in names})


def _longest(specs: Iterable[Experiment]) -> dict[str, Experiment]:
    """By name, the first experiment with the most epochs; a record's numbers of the paper are not trusted."""
    found: dict[str, Experiment] = {}
    for spec in specs:
        if spec.name not in found or spec.epochs > found[spec.name].epochs:
            found[spec.name] = dataclasses.replace(spec, paper=())
    return found


def distinct(records: Iterable[Record]) -> list[Record]:
    """Each run once, though several folders may hold it; if they hold two states of it, the later one.

    Raises:
      ValueError: If a run was recorded twice with different results.
    """
    found: list[Record] = []
    places: dict[tuple[str, str, int], list[int]] = {}
    for record in records:
        same_name = places.setdefault((record.experiment.name, record.data.label, record.seed), [])
        place = next((at for at in same_name if _settings(found[at]) == _settings(record)), None)
        if place is None:
            same_name.append(len(found))
            found.append(record)
            continue
        earlier, later = sorted((found[place], record), key=lambda each: len(each.metrics))
        found[place] = later
        if _outcome(earlier) != _outcome(later)[: len(earlier.metrics)]:
            raise ValueError(
                f"{record.experiment.name}, seed {record.seed}, on {record.data.label} was recorded twice with"
                " different results; give the folder of one."
            )
    return found


def _settings(record: Record) -> dict[str, Any]:
    return record.experiment.fields(Role.RESULT)


def _outcome(record: Record) -> list[dict[str, Any]]:
    """The metrics without times: an epoch trained again after a stop has another time but the same result."""
    times = ("seconds", "examples_per_second")
    return [{name: value for name, value in line.items() if name not in times} for line in record.metrics]


def merged(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Joins equal remarks: each stands once, after all its subjects, in the order of their first appearance."""
    subjects: dict[str, dict[str, None]] = {}
    for subject, remark in remarks:
        subjects.setdefault(remark, {})[subject] = None
    return [f"{', '.join(names)} {remark}" for remark, names in subjects.items()]
