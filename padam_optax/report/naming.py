"""What methods, values of p, data, settings and files are called."""

import fractions
import hashlib
import re
from collections.abc import Sequence

from padam_optax.experiments.methods import METHODS

# For the curves of a method that is not registered: as dark as no registered colour is.
UNKNOWN_COLOR = "#4D4D4D"


def method_title(name: str) -> str:
    """A method as tables and pictures call it; one that is not registered goes by its name."""
    return METHODS[name].title if name in METHODS else name


def method_color(name: str) -> str:
    """A method's color; a grey if it is not registered."""
    return METHODS[name].color if name in METHODS else UNKNOWN_COLOR


def p_text(p: float) -> str:
    """Such as `p = 1/8`."""
    return f"p = {fractions.Fraction(p).limit_denominator(100)}"


# How curves that coincide are told apart; others are drawn through.
_DASHED = {"adam": "--", "amsgrad": "-.", "yogi": ":", "adabound": "--", "padam-reference": "--"}
# Networks and data as the titles of pictures call them; others go by their names.
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
# Labels of data that are the paper's in another file, and what to call them.
COPIES = {"cifar10-png": "CIFAR-10 (lossless copy)", "cifar100-png": "CIFAR-100 (lossless copy)"}
# A setting of a run that has another result than the experiment's but the same meaning.
BFLOAT16 = "compute_dtype=bfloat16"


def data_title(label: str) -> str:
    """The data of a label as reports call them: most go by their label."""
    return COPIES.get(label, label)


def method_style(name: str) -> str:
    """The line of a method's curves, as matplotlib writes it."""
    return _DASHED.get(name, "-")


def picture_title(label: str, models: Sequence[str]) -> str:
    """Data and networks in words, such as `CIFAR-10 (lossless copy), ResNet-18`."""
    return ", ".join((_DATA.get(label, data_title(label)), *(_MODELS.get(model, model) for model in models)))


def setting_title(setting: str) -> str:
    """A setting such as `batch_size=64` as reports call it: most go by their name and value."""
    return "activations in bfloat16" if setting == BFLOAT16 else setting


# What a report writes itself, and names that Windows keeps for devices.
_RESERVED = re.compile(
    r"((table|figure)-.*|results|variants|time-to-target|index|readme|con|prn|aux|nul|(com|lpt)\d)(\..*)?",
    re.IGNORECASE,
)
# In bytes: file systems take 255, of which endings need some.
_LONGEST_NAME = 150


def file_name(*parts: str) -> str:
    """The parts, joined, as the name of one file: every file of a report and a sweep gets its name here.

    It has characters that any file system takes, and neither leads to another folder nor hides. One that is too long is
    cut, and told from others by a checksum.

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
    """A name for each of several files of a folder: a `file_name`, none of the report's own, and none given twice.

    Args:
      wanted: What they should be called.
      besides: Endings of other files that each of them has beside it.
    """
    taken: set[str] = set()
    found: list[str] = []
    for each in wanted:
        first = file_name(each)
        first = f"suite-{first}" if _RESERVED.fullmatch(first) else first
        name, number = first, 1
        # Upper and lower case are one to some file systems.
        while not taken.isdisjoint(all_of := {f"{name}{ending}".casefold() for ending in ("", *besides)}):
            number += 1
            name = f"{first}-{number}"
        taken |= all_of
        found.append(name)
    return found
