"""Names of methods, values of p, data, settings and files in reports."""

import fractions
import hashlib
import re
from collections.abc import Sequence

from padam_optax.experiments.methods import METHODS

# The colour of a method that is not registered: darker than every registered colour.
UNKNOWN_COLOR = "#4D4D4D"


def method_title(name: str) -> str:
    """A method's name in tables and pictures; a method that is not registered keeps its own name."""
    return METHODS[name].title if name in METHODS else name


def method_color(name: str) -> str:
    """A method's color; grey if it is not registered."""
    return METHODS[name].color if name in METHODS else UNKNOWN_COLOR


def p_text(p: float) -> str:
    """A value of p as a fraction, such as `p = 1/8`."""
    return f"p = {fractions.Fraction(p).limit_denominator(100)}"


# Dashes tell curves that coincide apart; other curves are solid.
_DASHED = {"adam": "--", "amsgrad": "-.", "yogi": ":", "adabound": "--", "padam-reference": "--"}
# Names of networks and data in the titles of pictures; others keep their own names.
_MODELS = {
    "small-cnn": "small CNN",
    "resnet10-mini": "ResNet-10",
    "resnet18": "ResNet-18",
    "vgg16": "VGG-16",
    "wrn16-4": "WideResNet-16-4",
    "awd-lstm": "LSTM",
    "transformer": "transformer",
}
_DATA = {
    "digits": "Digits",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "ptb": "Penn Treebank",
    "pydoc": "Python's help texts",
}
# Labels of other files with the paper's data, and their names.
COPIES = {"cifar10-png": "CIFAR-10 (lossless copy)", "cifar100-png": "CIFAR-100 (lossless copy)"}
# A setting that changes a run's result, but not what it stands for.
BFLOAT16 = "compute_dtype=bfloat16"


def data_title(label: str) -> str:
    """The name of a label's data in reports: mostly the label itself."""
    return COPIES.get(label, label)


def method_style(name: str) -> str:
    """The line style of a method's curves, as matplotlib writes it."""
    return _DASHED.get(name, "-")


def picture_title(label: str, models: Sequence[str]) -> str:
    """Data and networks in words, such as `CIFAR-10 (lossless copy), ResNet-18`."""
    return ", ".join((_DATA.get(label, data_title(label)), *(_MODELS.get(model, model) for model in models)))


def setting_title(setting: str) -> str:
    """A setting's name in reports: mostly the setting itself, such as `batch_size=64`."""
    return "activations in bfloat16" if setting == BFLOAT16 else setting


# Files that a report writes itself, and names that Windows keeps for devices.
_RESERVED = re.compile(
    r"((table|figure)-.*|results|variants|time-to-target|index|readme|con|prn|aux|nul|(com|lpt)\d)(\..*)?",
    re.IGNORECASE,
)
# In bytes. File systems take 255, and endings need some of these.
_LONGEST_NAME = 150


def file_name(*parts: str) -> str:
    """Joins the parts into the name of one file. Every file of a report and a sweep gets its name here.

    The name has only characters that all file systems take; it leads to no other folder and is not hidden. If it is too
    long, it is cut, and a checksum tells it from others.

    Examples:
      >>> file_name("../../README", "padam")
      'README-padam'
    """
    whole = "-".join(parts)
    name = re.sub(r"[^\w.=+-]+", "-", whole).lstrip(".-") or "unnamed"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    cut = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def file_names(wanted: Sequence[str], besides: Sequence[str] = ()) -> list[str]:
    """Names the files of a folder: each is a `file_name`, differs from the others and from the report's own files.

    Args:
      wanted: The wanted names.
      besides: Endings of further files that go with each.
    """
    taken: set[str] = set()
    found: list[str] = []
    for each in wanted:
        first = file_name(each)
        first = f"suite-{first}" if _RESERVED.fullmatch(first) else first
        name, number = first, 1
        # Some file systems do not tell upper from lower case.
        while not taken.isdisjoint(all_of := {f"{name}{ending}".casefold() for ending in ("", *besides)}):
            number += 1
            name = f"{first}-{number}"
        taken |= all_of
        found.append(name)
    return found
