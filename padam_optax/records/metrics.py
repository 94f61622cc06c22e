"""Checks the lines of a run's metrics: one an epoch, none missing or doubled, each field of its type."""

from collections.abc import Callable
from typing import Any

from padam_optax.records.checks import RecordError, anything, check_nesting, integer, number, shown, text

# Fields of a line that ends a run early.
END = {"diverged_step", "given_up"}
# Beginnings of the names of metrics.
_MEASURED = ("train_", "valid_", "test_")
# The same for metrics of the end of a run only.
_AT_END = ("final_",)
_ANEW = "Put back what is missing, or start anew with --no-resume (resume=False)."


def check_metrics(lines: list[Any], epochs: int, file: str, place: Callable[[int], str]) -> list[dict[str, Any]]:
    """Returns the checked lines of a run; texts that stand for infinity or NaN become numbers.

    Args:
      lines: The lines as JSON has them.
      epochs: Number of epochs of the run.
      file: The file of the lines, for messages.
      place: Maps the number of a line, from 1, to its place, for messages.

    Raises:
      RecordError: If a line is not one of metrics, an epoch is missing or doubled, or a field is not of its type; the
        message names the line and the field.
    """
    found = [_line(line, place(at)) for at, line in enumerate(lines, 1)]
    for at, line in enumerate(found, 1):
        if END & line.keys() and at < len(found):
            raise RecordError(f"{place(at)} ends the run, but lines follow it.")
        before = found[at - 2]["epoch"] if at > 1 else 0
        # A run that a sweep gives up has the metrics of its last epoch on a line of their own.
        if line["epoch"] != before + 1 and not (END & line.keys() and line["epoch"] == before):
            _refuse_order(line["epoch"], before, at, file)
        if line["epoch"] > epochs:
            raise RecordError(f"{place(at)}: epoch must be at most {epochs}, the run's last; got {line['epoch']}.")
    measured = [{name for name in line if name.startswith(_MEASURED)} for line in found if not END & line.keys()]
    for at, names in enumerate(measured, 1):
        if names != measured[0]:
            name = sorted(names ^ measured[0])[0]
            has, lacks = (1, at) if name in measured[0] else (at, 1)
            raise RecordError(f"{place(lacks)} has no {name}, which line {has} has.")
    return found


def _refuse_order(epoch: int, before: int, at: int, file: str) -> None:
    if epoch <= before:
        raise RecordError(f"{file} holds epoch {epoch} twice, the second time on line {at}. {_ANEW}")
    missing = str(before + 1) if epoch == before + 2 else f"{before + 1} to {epoch - 1}"
    raise RecordError(f"{file} lacks epoch {missing}, before line {at}. {_ANEW}")


def _line(line: Any, where: str) -> dict[str, Any]:
    if not isinstance(line, dict):
        raise RecordError(f"{where} must be a JSON object, got {shown(line)}.")
    if "epoch" not in line:
        raise RecordError(f"{where} has no epoch.")
    check_nesting(line, where)
    return {text(name, "a name", where): _value(name, value, where) for name, value in line.items()}


def _value(name: str, value: Any, where: str) -> Any:
    if name == "epoch":
        return integer(value, name, where, least=1)
    if name == "diverged_step":
        return integer(value, name, where, least=0)
    if name == "given_up":
        return text(value, name, where)
    if name.startswith(_MEASURED + _AT_END):
        return number(value, name, where, finite=False)
    if name in ("learning_rate", "seconds"):
        return number(value, name, where)
    if name == "examples_per_second":
        return None if value is None else number(value, name, where)
    return _effective_rates(value, name, where) if name == "effective_rates" else anything(value, name, where)


def _effective_rates(value: Any, field: str, where: str) -> dict[str, Any]:
    """The effective rates that `runner.effective_rates.observer` records."""
    if not isinstance(value, dict) or not isinstance(value.get("quantiles"), dict):
        raise RecordError(f"{where}: {field} must have quantiles, got {shown(value)}.")
    for name in ("threshold", "share_below"):
        if name not in value:
            raise RecordError(f"{where} has no {field}.{name}.")
    quantiles = {
        text(name, f"{field}.quantiles' name", where): number(each, f"{field}.quantiles.{name}", where, finite=False)
        for name, each in value["quantiles"].items()
    }
    others = {name: each for name, each in value.items() if name != "quantiles"}
    return {
        "quantiles": quantiles,
        **{name: number(each, f"{field}.{name}", where, finite=False) for name, each in others.items()},
    }
