"""Checks the texts and numbers of a record field by field when it is read, whoever wrote it."""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

# More than any record needs, and less than what breaks Python, NumPy or a figure's title.
_DEEPEST = 32
_LONGEST = 1000
_INTEGERS = range(-(2**63), 2**63)
# Runs compute in float32, which ends at 3.4e38. Reports add up squares, which must be finite too.
_LARGEST = 1e100
# Strict JSON has no such numbers: these texts stand for them.
_NOT_FINITE = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}
# Unicode's categories of terminal controls, of marks that hide or turn text, of line breaks, and of half characters.
_OBEYED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class RecordError(ValueError):
    """A file is damaged or is not a record; the message names the file and what is wrong in it."""


class RecordWarning(UserWarning):
    """Something that is not a record was skipped; the message names it."""


def printable(text: str, keep: str = "") -> str:
    """Replaces each control character, such as a line break or one that a terminal would obey, by U+FFFD.

    Args:
      text: A text from a record, a server or a file's name.
      keep: Control characters to leave in.

    Examples:
      >>> print(printable("a" + chr(27) + "[2J" + chr(10) + "# b"))
      a�[2J�# b
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(each) in _OBEYED and each not in keep else each for each in text)


def shown(value: Any) -> str:
    """A value for a message, cut short."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_nesting(value: Any, where: str) -> None:
    """Refuses a value that is nested deeper than any record.

    Raises:
      RecordError: If it is too deep; the message names `where` the value is.
    """
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise RecordError(f"{where} is not a record: it is nested more than {_DEEPEST} deep.")
        level = [entry for each in level for entry in _entries(each)]
        depth += 1


def _entries(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def text(value: Any, field: str, where: str) -> str:
    """A text of a record, made `printable`.

    Raises:
      RecordError: If the value is not a text, is too long, or has half of a surrogate pair, which no file can hold.
    """
    if not isinstance(value, str):
        raise RecordError(f"{where}: {field} must be str, got {shown(value)}.")
    if len(value) > _LONGEST:
        raise RecordError(f"{where}: {field} must have at most {_LONGEST} characters, got {len(value)}.")
    if any("\ud800" <= each <= "\udfff" for each in value):
        raise RecordError(f"{where}: {field} has half of a surrogate pair, which is not a character: {shown(value)}.")
    return printable(value)


def integer(value: Any, field: str, where: str, least: int = _INTEGERS[0]) -> int:
    """A whole number of a record, of 64 bits.

    Raises:
      RecordError: If the value is not one, or is below `least`.
    """
    if type(value) is not int:
        raise RecordError(f"{where}: {field} must be int, got {shown(value)}.")
    if value not in _INTEGERS or value < least:
        bounds = f"at least {least}" if value < least and least > _INTEGERS[0] else "an integer of 64 bits"
        raise RecordError(f"{where}: {field} must be {bounds}, got {shown(value)}.")
    return value


def number(value: Any, field: str, where: str, *, finite: bool = True) -> float:
    """A number of a record; infinity and NaN may have JavaScript's names, such as "Infinity".

    Raises:
      RecordError: If the value is not a number, or is not finite but must be.
    """
    if not finite and isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if type(value) is int:
        return integer(value, field, where)
    if type(value) is not float:
        raise RecordError(f"{where}: {field} must be float, got {shown(value)}.")
    if finite and not math.isfinite(value):
        raise RecordError(f"{where}: {field} must be finite, got {value}.")
    if math.isfinite(value) and abs(value) > _LARGEST:
        raise RecordError(f"{where}: {field} must be a number of a size that a run can have, got {value}.")
    return value


def anything(value: Any, field: str, where: str) -> Any:
    """Any JSON value, with its texts and numbers checked.

    Raises:
      RecordError: If a text or number is not one that a record can have.
    """
    if isinstance(value, str):
        return text(value, field, where)
    if type(value) is int:
        return integer(value, field, where)
    if isinstance(value, dict):
        return {
            text(name, f"{field}'s name", where): anything(entry, f"{field}.{name}", where)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [anything(entry, f"{field}[{place}]", where) for place, entry in enumerate(value)]
    return value


def strict(value: Any) -> Any:
    """The value for strict JSON: numbers that are not finite become texts, which `number` reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {name: strict(entry) for name, entry in value.items()}
    return [strict(entry) for entry in value] if isinstance(value, list | tuple) else value
