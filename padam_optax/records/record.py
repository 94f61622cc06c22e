"""A typed record of one run; `from_json` reads and validates it, `Record.config` writes it."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from padam_optax.experiments.spec import Experiment, ImageClassification, LanguageModelling
from padam_optax.records.checks import RecordError, anything, check_nesting, integer, number, shown, text
from padam_optax.records.metrics import END, check_metrics
from padam_optax.records.upgrade import upgrade

# The format that `Record.config` writes. Earlier versions wrote records without a format.
FORMAT = 2
_TASKS = {"image_classification": ImageClassification, "language_modelling": LanguageModelling}


@dataclasses.dataclass(frozen=True)
class DataSource:
    """The data of a run.

    Attributes:
      label: Name under which results on them are reported.
      train_examples: Images or tokens to train on.
      test_examples: Images or tokens to test on.
      sha256: Checksum of the files.
    """

    label: str
    train_examples: int | None = None
    test_examples: int | None = None
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Device:
    """The device of a run.

    Attributes:
      kind: JAX's name of the device, such as `NVIDIA H200`.
      platform: `cpu`, `gpu` or `tpu`.
      cpu_count: CPU cores of the host.
      count: Devices that trained together.
      processes: Processes that trained together.
      jobs: Runs that shared the device, each in a process of its own; with more than 1, times cannot be compared.
    """

    kind: str
    platform: str | None = None
    cpu_count: int | None = None
    count: int = 1
    processes: int = 1
    jobs: int = 1


@dataclasses.dataclass(frozen=True)
class SharedProgram:
    """How the runs of a sweep shared a compiled program.

    Attributes:
      mode: See `training.lanes.Lanes`.
      batch_configs: Number of runs that trained at once.
    """

    mode: str
    batch_configs: int


@dataclasses.dataclass(frozen=True)
class Record:
    """One run as recorded.

    Attributes:
      experiment: What was run.
      seed: The run's seed.
      data: The run's data.
      device: The run's device.
      versions: Version of Python and of each package, by name.
      sweep: How the run shared a program with others; None for a run of its own.
      metrics: One dictionary an epoch: `epoch` (from 1), `train_loss`, `train_error`, `test_loss`, `test_error` (errors
        are shares of 1; text has `train_objective`, `valid_perplexity`, `test_perplexity` and others instead, see
        `training.tasks`), `learning_rate`, `seconds`, `examples_per_second` (text: tokens). If the two `eval_columns`
        of a run of its own differ, the test metrics (`test_perplexity` and others) are measured in the validation
        text's number of columns. Its last line then adds `final_test_perplexity` and others, measured in the test
        text's own number, as `test_perplexity` is in sweeps and earlier versions. A NaN or an infinity in the loss or
        the gradients ends a run with the line `{"epoch", "diverged_step"}` (steps counted from 0 over the whole run);
        a sweep that gives a run up ends it with `{"epoch", "given_up"}`. On disk the lines are strict JSON, in which
        the text "Infinity" stands for an infinite perplexity.
    """

    experiment: Experiment
    seed: int
    data: DataSource
    device: Device
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sweep: SharedProgram | None = None
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs completed."""
        return max((line["epoch"] for line in self.metrics if not END & line.keys()), default=0)

    @property
    def diverged(self) -> bool:
        """Whether the run stopped at a loss or a gradient that was not finite."""
        return bool(self.metrics) and "diverged_step" in self.metrics[-1]

    @property
    def given_up(self) -> bool:
        """Whether a sweep or a search gave the run up because others did better."""
        return bool(self.metrics) and "given_up" in self.metrics[-1]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.diverged or self.given_up or self.epochs >= self.experiment.epochs

    @property
    def whole(self) -> bool:
        """Whether the run reached its last epoch with a finite loss."""
        return self.finished and not self.diverged and not self.given_up

    def config(self) -> dict[str, Any]:
        """All but the metrics, as a JSON object."""
        kind = next(name for name, task in _TASKS.items() if type(self.experiment.task) is task)
        # `asdict` copies deeply, which read-only mappings do not allow.
        plain = dataclasses.replace(
            self.experiment,
            hyperparameters=dict(self.experiment.hyperparameters),
            model_options=dict(self.experiment.model_options),
        )
        experiment = dataclasses.asdict(plain)
        config: dict[str, Any] = {
            "format": FORMAT,
            "experiment": {**experiment, "task": {"kind": kind, **experiment["task"]}},
            "seed": self.seed,
            "data": dataclasses.asdict(self.data),
            "versions": dict(self.versions),
            "device": dataclasses.asdict(self.device),
        }
        return config if self.sweep is None else config | {"sweep": dataclasses.asdict(self.sweep)}


def from_json(config: Any, metrics: list[Any], where: str = "a record", lines: str = "") -> Record:
    """Reads a record from JSON of this or an earlier version. Records are checked here and nowhere else.

    Control characters in texts become U+FFFD.

    Args:
      config: What `Record.config` wrote, in this or an earlier version.
      metrics: The lines of the metrics.
      where: The file, for messages.
      lines: The file of the lines, if they have one of their own.

    Raises:
      RecordError: If a field is missing, unknown, or not of its type, or an epoch is missing or doubled; the message
        names the field, and the line of the metrics.
    """
    if not isinstance(config, dict):
        raise RecordError(f"{where} is damaged: expected a JSON object, got {shown(config)}.")
    check_nesting(config, where)
    if "format" not in config:
        try:
            config = upgrade(config)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise RecordError(f"{where} is not a whole record: {_reason(error)}.") from error
    elif config["format"] != FORMAT:
        raise RecordError(f"{where} has the format {shown(config['format'])}; this version reads {FORMAT}.")
    fields = {name: value for name, value in config.items() if name != "format"}
    record: Record = _convert(fields, Record, "", where)
    spec = record.experiment
    for name, value, least in (
        ("seed", record.seed, 0),
        ("experiment.epochs", spec.epochs, 1),
        ("experiment.batch_size", spec.batch_size, 1),
    ):
        integer(value, name, where, least)
    for name in spec.trial:
        if name not in spec.hyperparameters:
            raise RecordError(f"{where}: experiment.trial names {name!r}, which experiment.hyperparameters lacks.")

    def place(number: int) -> str:
        return f"{lines}, line {number}" if lines else f"{where}: line {number} of the metrics"

    return dataclasses.replace(record, metrics=check_metrics(metrics, spec.epochs, lines or where, place))


def _reason(error: Exception) -> str:
    return f"it has no {shown(error.args[0])}" if isinstance(error, KeyError) else str(error)[:200]


def _convert(value: Any, kind: Any, field: str, where: str) -> Any:
    """Converts a value of JSON to `kind`, the type of a field of the dataclasses above."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return anything(value, field, where)
    if kind is str:
        return text(value, field, where)
    if kind is int:
        return integer(value, field, where)
    if kind is float:
        return number(value, field, where)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        options = [each for each in arguments if each is not type(None)]
        return _convert(value, options[0], field, where) if len(options) == 1 else _task(value, field, where)
    if dataclasses.is_dataclass(kind):
        return _object(value, kind, field, where)
    if origin is tuple and isinstance(value, list | tuple):
        each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(each) == len(value):
            return tuple(_convert(entry, each[i], f"{field}[{i}]", where) for i, entry in enumerate(value))
    if origin is not None and _is_mapping(origin) and isinstance(value, dict):
        return {
            text(name, f"{field}'s name", where): _convert(entry, arguments[1], f"{field}.{name}", where)
            for name, entry in value.items()
        }
    # Other versions may know further values. A record with one can be read; training with it refuses it.
    if origin is typing.Literal and isinstance(value, str):
        return text(value, field, where)
    if kind is bool and type(value) is bool:
        return value
    expected = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    raise RecordError(f"{where}: {field} must be {expected}, got {shown(value)}.")


def _is_mapping(origin: Any) -> bool:
    """Whether a generic type is a mapping."""
    return isinstance(origin, type) and issubclass(origin, Mapping)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _object(value: Any, kind: Any, field: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise RecordError(f"{where}: {field or 'the record'} must be a JSON object, got {shown(value)}.")
    hints = _hints(kind)
    known = {each.name: each for each in dataclasses.fields(kind) if not (kind is Record and each.name == "metrics")}
    inside = f"{field}." if field else ""
    for name in value:
        if name not in known:
            raise RecordError(
                f"{where}: {inside}{shown(name)} is unknown; {field or 'a record'} has {', '.join(known)}."
            )
    for name, each in known.items():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise RecordError(f"{where} has no {inside}{name}.")
    try:
        return kind(**{name: _convert(entry, hints[name], f"{inside}{name}", where) for name, entry in value.items()})
    except RecordError:
        raise
    except ValueError as error:
        raise RecordError(f"{where}: {error}") from error


def _task(value: Any, field: str, where: str) -> Any:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in _TASKS:
        raise RecordError(f"{where}: {field}.kind must be one of {', '.join(_TASKS)}; got {shown(kind)}.")
    return _object({name: entry for name, entry in value.items() if name != "kind"}, _TASKS[kind], field, where)
