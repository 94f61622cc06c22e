"""A table as data, and its two forms: Markdown and the terminal's."""

import dataclasses
import itertools
import textwrap
from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from padam_optax.report.escaping import inline, paragraph

# Characters of a column's heading in a terminal, if its words allow.
_HEADING = 9


@dataclasses.dataclass(frozen=True)
class Cell:
    """What stands in one place: parts side by side in Markdown, one below the other in a terminal."""

    parts: tuple[str, ...]
    best: bool = False


@dataclasses.dataclass(frozen=True)
class Line:
    """What a line is called, one name a heading of the grid, and its cells."""

    heads: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
      caption: What it was made from.
      heads: Names of the columns that name the lines.
      columns: Names of the other columns.
      lines: As many `heads` and cells each as there are columns.
      notes: What does not hold for all of it.
    """

    caption: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The caption, the table and the notes as a list; ends with a line break. The best cells are bold.

        All texts are plain: what would be Markdown or HTML in them is escaped here.
        """
        rows = [_row(map(inline, (*self.heads, *self.columns))), f"|{'---|' * (len(self.heads) + len(self.columns))}"]
        rows += [_row((*map(inline, line.heads), *map(_markdown_cell, line.cells))) for line in self.lines]
        notes = ["", *(f"- {paragraph(note)}" for note in self.notes)] if self.notes else []
        caption = [paragraph(self.caption), ""] if self.caption else []
        return "\n".join((*caption, *rows, *notes)) + "\n"

    def rich_table(self) -> Table:
        """For a terminal of 80 columns or more. The best cells are bold; heads that repeat are left out."""
        caption = "\n".join((self.caption, *(f"- {note}" for note in self.notes)))
        table = Table(caption=escape(caption.strip()) or None, padding=(0, 0), collapse_padding=True)
        # Folded: names that are cut short look alike.
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
