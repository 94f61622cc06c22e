"""What methods, values of p and files are called."""

import fractions
import re

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


def file_name(*parts: str) -> str:
    """The parts, joined, of characters that any file system takes: every file of a report gets its name here."""
    return re.sub(r"[^\w.=+-]+", "-", "-".join(parts))
