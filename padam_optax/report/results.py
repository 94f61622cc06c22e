"""Which recorded runs belong together: the same experiment, on the same data, at the same length and settings."""

import dataclasses
import fractions
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from padam_optax.experiments.spec import OPTIMIZERS, Experiment, LanguageModel, PaperTable
from padam_optax.records.store import Record

# What an experiment says beside what is trained.
_BESIDE = ("name", "seeds", "assumed", "paper")
# A setting that is not recorded was at its default.
_DEFAULTS = {
    field.name: list(field.default) if isinstance(field.default, tuple) else field.default
    for field in dataclasses.fields(Experiment)
    if field.default is not dataclasses.MISSING
}


@dataclasses.dataclass(frozen=True)
class Paper:
    """What records are compared with.

    Attributes:
      tables: The paper's tables by number.
      experiments: Experiments by name: the tables' cells and our own.
      sweep: The experiments of Figure 1: Padam with each p. Those of a table have the paper's p.
    """

    tables: Mapping[int, PaperTable]
    experiments: Mapping[str, Experiment]
    sweep: Sequence[Experiment] = ()

    def cells(self, suite: str) -> dict[str, Experiment]:
        """The experiments of a suite by optimizer, in the paper's order; empty if there are none."""
        found = {spec.optimizer: spec for spec in self.experiments.values() if spec.suite == suite}
        return {optimizer: found[optimizer] for optimizer in OPTIMIZERS if optimizer in found}

    @property
    def suites(self) -> list[str]:
        """The suites of the tables' rows, each once."""
        return list(dict.fromkeys(row.suite for table in self.tables.values() for row in table.rows))

    @property
    def own_suites(self) -> list[str]:
        """The suites of the other experiments, each once."""
        theirs = {*self.suites, *(spec.suite for spec in (*self.sweep, *itertools.chain(*self.variants.values())))}
        return list(dict.fromkeys(spec.suite for spec in self.experiments.values() if spec.suite not in theirs))

    @property
    def variants(self) -> dict[str, list[Experiment]]:
        """Experiments that are called `<suite>-<optimizer>-<what>`, by the name of the one without `-<what>`."""
        sweep = {spec.name for spec in self.sweep}
        found: dict[str, list[Experiment]] = {}
        for name, base in self.experiments.items():
            for spec in self.experiments.values():
                changed = spec.name.startswith(f"{base.suite}-{base.optimizer}-") and spec.name not in sweep
                if changed and spec.optimizer == base.optimizer:
                    found.setdefault(name, []).append(spec)
        return found

    def with_recorded(self, records: Iterable[Record]) -> "Paper":
        """With the experiments that only the records know, as first recorded at their greatest length.

        Those that have the name of one of the paper's suites are left out: what the paper did is not theirs to say.
        """
        found: dict[str, Experiment] = {}
        for record in records:
            name = record.config["experiment"]["name"]
            if name in self.experiments or is_trial(record):
                continue
            spec = _as_recorded(record)
            if spec.suite not in self.suites and (name not in found or spec.epochs > found[name].epochs):
                found[name] = spec
        return dataclasses.replace(self, experiments={**self.experiments, **found})

    @property
    def sweeps(self) -> list[dict[float, Experiment]]:
        """The experiments of Figure 1 by p, in rising order; one dictionary a network and data set."""
        groups: dict[tuple[str, str], dict[float, Experiment]] = {}
        for spec in self.sweep:
            groups.setdefault((spec.dataset, spec.model), {})[spec.hyperparameters["p"]] = spec
        return [dict(sorted(group.items())) for group in groups.values()]


@dataclasses.dataclass(frozen=True)
class Variant:
    """What tells some runs of an experiment from its other runs.

    Attributes:
      label: Name of the data.
      own: Whether that is the data set's own name: whether the data are what the experiment says.
      full: Whether the runs are as long as the experiment says.
      departures: Settings that are not the experiment's, in words, the length among them.
    """

    label: str
    own: bool
    full: bool
    departures: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Such as `cifar10-jpeg, 15 of 200 epochs`."""
        return ", ".join((self.label, *self.departures))

    @property
    def faithful(self) -> bool:
        """Whether data, length and settings are the experiment's."""
        return self.own and not self.departures

    @property
    def key(self) -> tuple[bool, str, bool, tuple[str, ...]]:
        """What to sort by, the data set's own label first, then whole runs first."""
        return not self.own, self.label, not self.full, self.departures


def file_name(*parts: str) -> str:
    """The parts, joined, of characters that any file system takes."""
    return re.sub(r"[^\w.=+-]+", "-", "-".join(parts))


@dataclasses.dataclass(frozen=True)
class Runs:
    """The runs of some experiments in one variant.

    Attributes:
      variant: What they share.
      epochs: Of every run.
      finished: Runs that have come to their end, diverged ones among them, by the experiments' keys; a list, perhaps
        empty, for each.
      unfinished: The other runs, likewise.
    """

    variant: Variant
    epochs: int
    finished: dict[Any, list[Record]]
    unfinished: dict[Any, list[Record]]

    def diverged(self, key: Any) -> int:
        """Runs that stopped at a loss that was not finite."""
        return sum(record.diverged for record in self.finished.get(key, ()))

    @property
    def devices(self) -> list[str]:
        """Kinds of device, sorted."""
        records = [record for runs in (self.finished, self.unfinished) for group in runs.values() for record in group]
        return sorted({record.config["device"]["kind"] for record in records})

    def remarks(self, names: Mapping[Any, str]) -> str:
        """The devices, and what is in no mean: sentences for a caption or a note; `names` names the experiments."""
        return f"device {', '.join(self.devices)}.{self.left_out(names)}"

    def left_out(self, names: Mapping[Any, str]) -> str:
        """What is in no mean, in sentences; empty if nothing is left out."""
        text = ""
        for what, counts in (
            ("Diverged and in no mean", {key: self.diverged(key) for key in self.finished}),
            ("Not finished", {key: len(runs) for key, runs in self.unfinished.items()}),
        ):
            some = ", ".join(f"{names[key]} {count}" for key, count in counts.items() if count)
            text += f" {what}: {some}." if some else ""
        return text


def chosen_p(sweep: Mapping[float, Experiment]) -> float:
    """The p of the tables' cell among the experiments of a sweep.

    Raises:
      ValueError: If none of them is a cell of a table, or several are.
    """
    cells = [p for p, spec in sweep.items() if spec.paper]
    if len(cells) != 1:
        raise ValueError(f"A sweep over p must have one cell of a table; {', '.join(map(p_text, cells)) or 'none'} is.")
    return cells[0]


def p_text(p: float) -> str:
    """Such as `p = 1/8`."""
    return f"p = {fractions.Fraction(p).limit_denominator(100)}"


def collect(experiments: Mapping[Any, Experiment], records: Iterable[Record]) -> list[Runs]:
    """The records of these experiments (the values), by variant: the data set's own label and whole runs first.

    Each run counts once (`distinct`); trials of a search for settings are no results.
    """
    by_name = {spec.name: (key, spec) for key, spec in experiments.items()}
    groups: dict[Variant, Runs] = {}
    of_these = (record for record in records if record.config["experiment"]["name"] in by_name)
    for record in distinct(record for record in of_these if not is_trial(record)):
        recorded = record.config["experiment"]
        key, spec = by_name[recorded["name"]]
        label = record.config["data"]["label"]
        variant = Variant(label, label == spec.dataset, recorded["epochs"] == spec.epochs, _departures(recorded, spec))
        if variant not in groups:
            groups[variant] = Runs(
                variant, recorded["epochs"], {key: [] for key in experiments}, {key: [] for key in experiments}
            )
        runs = groups[variant]
        (runs.finished if record.finished else runs.unfinished)[key].append(record)
    return [groups[variant] for variant in sorted(groups, key=lambda variant: variant.key)]


def merged(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Remarks, each after all the subjects that it is made of, in the order in which they come first."""
    subjects: dict[str, dict[str, None]] = {}
    for subject, remark in remarks:
        subjects.setdefault(remark, {})[subject] = None
    return [f"{', '.join(names)} {remark}" for remark, names in subjects.items()]


def _departures(recorded: Mapping[str, Any], spec: Experiment) -> tuple[str, ...]:
    """In what a recorded experiment is not `spec`; a setting that is not recorded was at its default."""
    found: list[str] = []
    epochs = recorded["epochs"]
    if epochs != spec.epochs:
        found.append(f"{epochs} of {spec.epochs} epochs")
    wanted_spec = spec.with_epochs(epochs)
    for field in dataclasses.fields(Experiment):
        wanted = _as_json(getattr(wanted_spec, field.name))
        value = recorded.get(field.name, _DEFAULTS.get(field.name, wanted))
        if field.name in _BESIDE or value == wanted:
            continue
        if isinstance(wanted, dict) and isinstance(value, dict):
            names = [name for name in {**wanted, **value} if value.get(name) != wanted.get(name)]
            found += [f"{name}={_in_words(value[name])}" if name in value else f"no {name}" for name in names]
        else:
            found.append(f"{field.name}={_in_words(value)}")
    return tuple(found)


def _as_json(value: Any) -> Any:
    """As a record has it: tuples are lists there, and what a language model is, is a dictionary."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: _as_json(entry) for name, entry in dataclasses.asdict(value).items()}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _in_words(value: Any) -> str:
    """Numbers to their last digit: what differs must not read the same."""
    if isinstance(value, list):
        return "+".join(map(_in_words, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _as_recorded(record: Record) -> Experiment:
    recorded = record.config["experiment"]
    values: dict[str, Any] = {
        field.name: _as_tuple(recorded[field.name])
        for field in dataclasses.fields(Experiment)
        if field.name in recorded and field.name != "paper"
    }
    try:
        if values.get("language") is not None:
            language = {name: _as_tuple(value) for name, value in values["language"].items()}
            values["language"] = LanguageModel(**language)
        return Experiment(**values)
    except TypeError as error:
        raise ValueError(f"A record has no whole experiment: {error}: {json.dumps(recorded)[:200]}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def is_trial(record: Record) -> bool:
    """Whether a run was one of a search for settings: by its name, or because it was scored on held-out examples."""
    experiment = record.config["experiment"]
    return "@" in experiment["name"] or experiment.get("held_out") is not None


def distinct(records: Iterable[Record]) -> list[Record]:
    """Each run once, though it may lie in several folders; of two states of it, the later.

    Raises:
      ValueError: If a run was recorded twice with different results, so that neither is the one to report, or if a
        record lacks what every report needs.
    """
    found: dict[str, Record] = {}
    for record in records:
        key = _identity(record)
        other = found.setdefault(key, record)
        earlier, later = sorted((other, record), key=lambda each: len(each.metrics))
        found[key] = later
        if _results(earlier) != _results(later)[: len(earlier.metrics)]:
            raise ValueError(
                f"{record.config['experiment']['name']}, seed {record.config['seed']}, on"
                f" {record.config['data']['label']} was recorded twice with different results; give the folder of one."
            )
    return list(found.values())


def _results(record: Record) -> list[dict[str, Any]]:
    """The metrics without times: an epoch that was trained again after a stop took another time to the same result."""
    times = ("seconds", "examples_per_second")
    return [{name: value for name, value in line.items() if name not in times} for line in record.metrics]


def _identity(record: Record) -> str:
    try:
        experiment, data, device = (record.config[part] for part in ("experiment", "data", "device"))
        for part, name in ((experiment, "optimizer"), (experiment, "epochs"), (device, "kind")):
            part[name]
        trained = {name: value for name, value in (_DEFAULTS | experiment).items() if name not in _BESIDE}
        return json.dumps([experiment["name"], trained, data["label"], record.config["seed"]], sort_keys=True)
    except KeyError as error:
        raise ValueError(f"A record has no {error}: {json.dumps(record.config)[:200]}") from error


def tuning_trials(records: Iterable[Record]) -> dict[str, int]:
    """How many trials each experiment's settings were chosen from, by the experiment's name.

    A trial is a record whose experiment is called `<experiment>@<settings>`, as the searches in
    benchmarks/reproduction call theirs; the same in two folders counts once.
    """
    counts: dict[str, int] = {}
    for record in distinct(records):
        name, at, _ = record.config["experiment"]["name"].partition("@")
        if at:
            counts[name] = counts.get(name, 0) + 1
    return counts
