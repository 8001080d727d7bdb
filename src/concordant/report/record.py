"""One record of a table, and its renderers: terminal, Markdown and HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

SHORT = 24  # characters of a cell that need not be wrapped


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: what is shown.
        value: the number by which a column is sorted; None for text.
        spread: the standard deviation, shown behind "±"; empty without one.
        strong: True for the best value of a row or column, or a significant difference.
    """

    text: str
    value: float | None = None
    spread: str = ""
    strong: bool = False

    def __str__(self) -> str:
        return f"{self.text} ± {self.spread}" if self.spread else self.text


@dataclass(frozen=True)
class Table:
    """A table, independent of where it is shown.

    Args:
        name: of its file and of its place on a page.
        caption: what it shows.
        columns: headings.
        rows: as many cells as columns; a plain text is a cell without a number.
        note: how to read it.
        left: leading columns that Markdown aligns to the left.
    """

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""
    left: int = 1

    @property
    def cells(self) -> list[list[Cell]]:
        """Rows of cells."""
        return [[cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """True for each column of numbers; the first column names the rows."""
        columns = zip(*self.cells, strict=True) if self.rows else ((),) * len(self.columns)
        return [
            place > 0 and all(cell.value is not None or cell.text == "-" for cell in column)
            for place, column in enumerate(columns)
        ]

    def pick(self, wanted: Callable[[str], bool] | Iterable[str]) -> Table:
        """Return the table with some of its columns.

        Args:
            wanted: the columns in their new order, or a predicate of the heading.
        """
        if callable(wanted):
            places = [place for place, name in enumerate(self.columns) if wanted(name)]
        else:
            places = [list(self.columns).index(name) for name in wanted]
        rows = [[row[place] for place in places] for row in self.rows]
        return replace(self, columns=[self.columns[place] for place in places], rows=rows)

    def without_spread(self, *columns: str) -> Table:
        """Return the table with means alone, in the named columns or in all."""
        plain = [not columns or name in columns for name in self.columns]
        rows = [
            [replace(cell, spread="") if drop else cell for cell, drop in zip(row, plain, strict=True)]
            for row in self.cells
        ]
        return replace(self, rows=rows)


def number(value: float | None, digits: int = 1, *, scale: float = 100, sign: bool = False) -> Cell:
    """Return a cell of one number, in percent unless scaled otherwise; a dash for None."""
    return Cell("-") if value is None else Cell(f"{scale * value:{'+' if sign else ''}.{digits}f}", scale * value)


def spread(values: Iterable[float | None], digits: int = 1, *, scale: float = 100) -> Cell:
    """Return a cell of mean and sample standard deviation, in percent unless scaled otherwise.

    >>> str(spread([0.5, 0.75])), str(spread([0.5])), str(spread([]))
    ('62.5 ± 17.7', '50.0', '-')
    """
    known = [value for value in values if value is not None]
    if not known:
        return Cell("-")
    import numpy as np  # here, since lists of names are printed without it

    middle = scale * float(np.mean(known))
    around = f"{scale * float(np.std(known, ddof=1)):.{digits}f}" if len(known) > 1 else ""
    return Cell(f"{middle:.{digits}f}", middle, around)


def marked(cells: Sequence[Cell]) -> list[Cell]:
    """Return cells with the first of the highest numbers strong."""
    known = [cell.value for cell in cells if cell.value is not None]
    if not known:
        return list(cells)
    top = [cell.value for cell in cells].index(max(known))
    return [replace(cell, strong=place == top) for place, cell in enumerate(cells)]


def best_of_columns(rows: Sequence[Sequence[Cell]], start: int) -> list[list[Cell]]:
    """Return rows with the highest number of each column strong, from column `start` on."""
    columns = [
        list(column) if place < start else marked(column) for place, column in enumerate(zip(*rows, strict=True))
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def terminal(table: Table) -> RichTable:
    """Return the table for a terminal; without a caption it is a plain list of columns."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    if table.caption:
        # Without rules between columns most tables fit a terminal of 80 columns.
        found = RichTable(title=Text(table.caption), title_justify="left", box=SIMPLE_HEAD, padding=0)
        found.title_style = "bold"
    else:
        found = RichTable(box=None, pad_edge=False)
    rows = [[(str(cell).replace(" ± ", "±"), cell.strong) for cell in row] for row in table.cells]
    for place, (heading, right) in enumerate(zip(table.columns, table.numeric, strict=True)):
        # Headings are wrapped to the width of their cells.
        lines = [line for row in rows for line in row[place][0].split("\n")]
        width = max([0 if right else SHORT, *map(len, lines), *map(len, heading.split())])
        text = textwrap.fill(heading, width, break_on_hyphens=False) if table.caption else heading
        found.add_column(Text(text), justify="right" if right else "left")
    for row in rows:
        found.add_row(*(Text(text, style="bold" if strong else "") for text, strong in row))
    return found


def blocks(table: Table) -> Text:
    """Return the rows of a table one below the other, a line per column, for a terminal that is too narrow for it."""
    from rich.text import Text

    width = max(map(len, table.columns)) + 2
    found = Text()
    for name, *cells in table.cells:
        found.append(f"{name}\n", style="bold")
        for heading, cell in zip(table.columns[1:], cells, strict=True):
            found.append(f"  {heading:{width}}{cell}\n")
    return found


def markdown(table: Table, *, strong: bool = True) -> str:
    r"""Return the table in Markdown, strong cells in bold if `strong`; nothing for a table without rows.

    >>> print(markdown(Table("t", "", ["kind", "clean"], [["a*", Cell("1.0", 1.0, strong=True)]])), end="")
    | kind | clean |
    | --- | ---: |
    | a\* | **1.0** |
    """
    if not table.rows:
        return ""
    rule = ["---" if place < table.left else "---:" for place in range(len(table.columns))]
    rows = [
        [f"**{_plain(str(cell))}**" if strong and cell.strong else _plain(str(cell)) for cell in row]
        for row in table.cells
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in ([*map(_plain, table.columns)], rule, *rows))


def html(table: Table, identity: str, *, folded: bool = True) -> str:
    """Return the table as an HTML element that can be folded, with sortable columns and a button for its CSV.

    All texts are escaped. The identity is the element's id, unique on the page; `folded`, the caption alone is shown at
    first.
    """
    key, caption = escape(identity), escape(table.caption)
    heads = "".join(
        f'<th scope="col" aria-sort="none"{_class("number" if right else "")}><button type="button">'
        f"{escape(heading)}</button></th>"
        for heading, right in zip(table.columns, table.numeric, strict=True)
    )
    body = "\n".join(
        f"<tr>{''.join(_html_cell(cell, right) for cell, right in zip(row, table.numeric, strict=True))}</tr>"
        for row in table.cells
    )
    note = f'<p class="note">{escape(table.note)}</p>\n' if table.note else ""
    button = f'<button type="button" class="tool" data-csv="{key}" aria-label="Download {caption} as CSV">CSV</button>'
    return (
        f'<details class="table" id="{key}"{"" if folded else " open"}>\n'
        f'<summary><h4 id="{key}-caption">{caption}</h4></summary>\n{button}\n'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{key}-caption">\n'
        f'<table aria-labelledby="{key}-caption">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n'
        f"</table>\n</div>\n{note}</details>"
    )


def _plain(text: str) -> str:
    """Return a text without a meaning in Markdown's tables."""
    return text.replace("|", "\\|").replace("*", "\\*")


def _html_cell(cell: Cell, right: bool) -> str:
    text = escape(str(cell))
    name = "number" if right else "short" if len(str(cell)) <= SHORT else ""
    value = "" if cell.value is None else f' data-value="{cell.value:.7g}"'
    return f"<td{_class(name)}{value}>{f'<strong>{text}</strong>' if cell.strong else text}</td>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
