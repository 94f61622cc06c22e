"""What tells some runs of an experiment from its other runs: data, length and settings."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from padam_optax.experiments.spec import Experiment, Role
from padam_optax.records.record import Record
from padam_optax.report.naming import BFLOAT16, data_title, setting_title


@dataclasses.dataclass(frozen=True)
class Conditions:
    """What runs of an experiment were made on and how, beside what the experiment says.

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
        return ", ".join((data_title(self.label), *map(setting_title, self.departures)))

    @property
    def bfloat16(self) -> bool:
        """Whether it is said that activations were in bfloat16, which the experiment does not say."""
        return BFLOAT16 in self.departures

    @property
    def faithful(self) -> bool:
        """Whether data, length and settings are the experiment's."""
        return self.own and not self.departures

    @property
    def key(self) -> tuple[bool, str, bool, tuple[str, ...]]:
        """What to sort by, the data set's own label first, then whole runs first."""
        return not self.own, self.label, not self.full, self.departures


def line_names(found: Iterable[Conditions]) -> dict[Conditions, str]:
    """What lines of a table call the conditions of theirs: their text, but for bfloat16, which its caption says.

    Where another one differs in that alone, both have their whole text.
    """
    whole = {each: each.text for each in found}
    short = {
        each: dataclasses.replace(each, departures=tuple(name for name in each.departures if name != BFLOAT16)).text
        for each in whole
    }
    texts = list(short.values())
    return {each: short[each] if texts.count(short[each]) == 1 else text for each, text in whole.items()}


def in_bfloat16(names: Iterable[str]) -> str:
    """A sentence for a caption, which names the runs whose activations were in bfloat16; empty without any."""
    some = ", ".join(dict.fromkeys(names))
    return f"Activations in bfloat16: {some}." if some else ""


def conditions_of(record: Record, spec: Experiment) -> Conditions:
    """The conditions of a run, measured by what its experiment says."""
    recorded, label = record.experiment, record.data.label
    full = recorded.epochs == spec.epochs
    length = () if full else (f"{recorded.epochs} of {spec.epochs} epochs",)
    departures = (*length, *differences(recorded, spec.with_epochs(recorded.epochs)))
    return Conditions(label, label == spec.dataset, full, departures)


def differences(spec: Experiment, base: Experiment, besides: Collection[str] = ()) -> Iterator[str]:
    """What is trained in `spec` other than in `base`, a setting each, such as `batch_size=64`, `p=0.25` or `no p`.

    Args:
      spec: The one whose values are said.
      base: The one that it is compared with.
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
    """Where the type is not known, as among the model's options, a tuple comes back from a record as a list."""
    if isinstance(value, Mapping):
        return {name: _as_read(entry) for name, entry in value.items()}
    return [_as_read(entry) for entry in value] if isinstance(value, tuple | list) else value


def _in_words(value: Any) -> str:
    """Numbers to their last digit: what differs must not read the same."""
    if isinstance(value, tuple | list):
        return "+".join(map(_in_words, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)
