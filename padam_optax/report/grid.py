"""A table as data, and its forms in Markdown and in a terminal."""

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from padam_optax.report.escaping import inline, paragraph

# Width of a column's heading in a terminal, in characters, if its words allow.
_HEADING = 9


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table: its parts are side by side in Markdown, one below the other in a terminal."""

    parts: tuple[str, ...]
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table: one name for each of the grid's `heads`, and its cells."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
      caption: What it was made from.
      heads: Names of the columns that name the lines.
      columns: Names of the other columns.
      lines: The lines, each with one name a head and one cell a column.
      notes: Remarks on parts of the table.
    """

    caption: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The caption, the table, and the notes as a list; ends with a line break. The best cells are bold.

        Markdown and HTML in the texts are escaped here.
        """
        rows = [_row(map(inline, (*self.heads, *self.columns))), f"|{'---|' * (len(self.heads) + len(self.columns))}"]
        rows += [_row((*map(inline, line.heads), *map(_markdown_cell, line.cells))) for line in self.lines]
        notes = ["", *(f"- {paragraph(note)}" for note in self.notes)] if self.notes else []
        caption = [paragraph(self.caption), ""] if self.caption else []
        return "\n".join((*caption, *rows, *notes)) + "\n"

    def rich_table(self) -> Table:
        """The table for a terminal of 80 columns or more. The best cells are bold; repeated heads are left out."""
        caption = "\n".join((self.caption, *(f"- {note}" for note in self.notes)))
        table = Table(caption=escape(caption.strip()) or None, padding=(0, 0), collapse_padding=True)
        # Names are folded: cut short, they would look alike.
        table.add_column(escape("\n".join(filter(None, self.heads))), overflow="fold")
        for name in self.columns:
            heading = "\n".join(textwrap.wrap(name, _HEADING, break_long_words=False))
            table.add_column(escape(heading), justify="right", no_wrap=True)
        before: tuple[str, ...] = ()
        for line in self.lines:
            new = itertools.dropwhile(lambda pair: pair[0] == pair[1], itertools.zip_longest(line.heads, before))
            heads = "\n".join(head for head, _ in new if head)
            table.add_row(escape(heads), *map(_rich_cell, line.cells))
            before = line.heads
        return table


def _row(texts: Iterable[str]) -> str:
    return f"|{'|'.join(f' {text} ' if text else ' ' for text in texts)}|"


def _markdown_cell(cell: Cell) -> str:
    text = inline(" ".join(cell.parts))
    return f"**{text}**" if cell.best else text


def _rich_cell(cell: Cell) -> str:
    text = escape("\n".join(part.replace("± ", "±") for part in cell.parts))
    return f"[bold]{text}[/bold]" if cell.best else text
