"""Escapes text from records for Markdown and for matplotlib, so that no name acts as markup.

`records.checks.printable` has replaced control characters when the record was read.
"""

import re

_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_AT_START = re.compile(r"^(\s*)([#>+-]|\d+[.)](?=\s|$))")


def inline(text: str) -> str:
    r"""Escapes text within a line of Markdown.

    Examples:
      >>> print(inline("<b>a|b</b> $x$ compute_dtype"))
      &lt;b>a\|b&lt;/b> \$x\$ compute_dtype
    """
    return _INLINE.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))


def paragraph(text: str) -> str:
    r"""Escapes text at the beginning of a line of Markdown, so that it makes no heading, list or quotation either.

    Examples:
      >>> print(paragraph("# a"))
      \# a
    """
    return _AT_START.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", inline(text))


def plain_label(text: str) -> str:
    """Escapes a title or label for matplotlib, which takes text between dollar signs for mathematics."""
    return text.replace("$", r"\$")
