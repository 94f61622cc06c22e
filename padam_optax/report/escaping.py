"""Text from records as Markdown and as matplotlib take it: nothing in a name is markup, whoever gave it.

Control characters are gone already: `records.checks.printable` replaces them when a record is read.
"""

import re

_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"^(\s*)([#>+-]|\d+[.)](?=\s|$))")


def inline(text: str) -> str:
    r"""Text within a line of Markdown.

    Examples:
      >>> print(inline("<b>a|b</b> $x$ compute_dtype"))
      &lt;b>a\|b&lt;/b> \$x\$ compute_dtype
    """
    return _INLINE.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))


def paragraph(text: str) -> str:
    r"""Text that stands at the beginning of a line of Markdown: no heading, list or quotation either.

    Examples:
      >>> print(paragraph("# a"))
      \# a
    """
    return _AT_START.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", inline(text))


def plain_label(text: str) -> str:
    """A title or a label as matplotlib draws it: without mathematics, which it finds between dollar signs."""
    return text.replace("$", r"\$")
