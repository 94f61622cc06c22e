"""The conditions that tell runs of one experiment apart: data, length and settings."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from padam_optax.experiments.spec import Experiment, Role
from padam_optax.records.record import Record
from padam_optax.report.naming import BFLOAT16, data_title, setting_title


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The data of some runs of an experiment, and how the runs depart from the experiment.

    Attributes:
      label: Name of the data.
      own: Whether this is the data set's own name, that is, the data are the experiment's.
      full: Whether the runs are as long as the experiment.
      departures: Settings that differ from the experiment's, in words, the length among them.
    """

    label: str
    own: bool
    full: bool
    departures: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The conditions in words, such as `cifar10-jpeg, 15 of 200 epochs`."""
        return ", ".join((data_title(self.label), *map(setting_title, self.departures)))

    @property
    def bfloat16(self) -> bool:
        """Whether activations were in bfloat16 though the experiment has another dtype."""
        return BFLOAT16 in self.departures

    @property
    def faithful(self) -> bool:
        """Whether data, length and settings are the experiment's."""
        return self.own and not self.departures

    @property
    def key(self) -> tuple[bool, str, bool, tuple[str, ...]]:
        """A key to sort by; the data set's own label first, then whole runs first."""
        return not self.own, self.label, not self.full, self.departures


def line_names(found: Iterable[Conditions]) -> dict[Conditions, str]:
    """Names of conditions for the lines of a table: their text without bfloat16, which the caption mentions.

    If two conditions differ in that alone, both keep their whole text.
    """
    whole = {each: each.text for each in found}
    short = {
        each: dataclasses.replace(each, departures=tuple(name for name in each.departures if name != BFLOAT16)).text
        for each in whole
    }
    texts = list(short.values())
    return {each: short[each] if texts.count(short[each]) == 1 else text for each, text in whole.items()}


def in_bfloat16(names: Iterable[str]) -> str:
    """A sentence for a caption that names the runs with activations in bfloat16; empty without any."""
    some = ", ".join(dict.fromkeys(names))
    return f"Activations in bfloat16: {some}." if some else ""


def conditions_of(record: Record, spec: Experiment) -> Conditions:
    """The conditions of a run, relative to its experiment."""
    recorded, label = record.experiment, record.data.label
    full = recorded.epochs == spec.epochs
    length = () if full else (f"{recorded.epochs} of {spec.epochs} epochs",)
    departures = (*length, *differences(recorded, spec.with_epochs(recorded.epochs)))
    return Conditions(label, label == spec.dataset, full, departures)


def differences(spec: Experiment, base: Experiment, besides: Collection[str] = ()) -> Iterator[str]:
    """The settings of training that differ between two experiments, such as `batch_size=64`, `p=0.25` or `no p`.

    Args:
      spec: The experiment whose values are given.
      base: The experiment to compare it with.
      besides: Names of fields to leave out.
    """
    now, was = spec.fields(Role.RESULT), base.fields(Role.RESULT)
    for name in (name for name in {**was, **now} if name not in besides and _differ(name, now, was)):
        value, wanted = now.get(name), was.get(name)
        if isinstance(value, Mapping) and isinstance(wanted, Mapping):
            yield from (f"{entry}={_in_words(value[entry])}" for entry in value if _differ(entry, value, wanted))
            yield from (f"no {entry}" for entry in wanted if entry not in value)
        else:
            yield f"{name}={_in_words(value)}" if name in now else f"no {name}"


def _differ(name: str, now: Mapping[str, Any], was: Mapping[str, Any]) -> bool:
    return name not in now or name not in was or _as_read(now[name]) != _as_read(was[name])


def _as_read(value: Any) -> Any:
    """The value as a record returns it: without a declared type, as among model options, tuples become lists."""
    if isinstance(value, Mapping):
        return {name: _as_read(entry) for name, entry in value.items()}
    return [_as_read(entry) for entry in value] if isinstance(value, tuple | list) else value


def _in_words(value: Any) -> str:
    """The value in words; numbers have all digits, so that different values read differently."""
    if isinstance(value, tuple | list):
        return "+".join(map(_in_words, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
