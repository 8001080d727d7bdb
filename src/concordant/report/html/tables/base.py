"""A table of the report as a plain record: a caption, a head, rows of cells that know how they sort.

What is computed is in the documents; here it is only set. A table that would have no row is None.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from concordant.report.html.numbers import mean, std

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A cell.

    Args:
        text: what is shown.
        value: what a numeric column is sorted by; None for text.
        strong: a cell to notice: the best of its column, a significant difference.
    """

    text: str
    value: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Args:
        id: unique on the page; it names the downloaded file.
        caption: what it shows.
        head: the columns.
        rows: of cells, as many as there are columns.
        note: how to read it, below the table.
    """

    id: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Say which columns hold numbers, or nothing at all: those are set to the right."""
        return tuple(
            place > 0 and all(row[place].value is not None or row[place].text == "-" for row in self.rows)
            for place in range(len(self.head))
        )


def number(value: float | None, digits: int = 1, *, scale: float = 100, sign: bool = False) -> Cell:
    """Return a cell of one number; a dash where there is none."""
    return Cell("-") if value is None else Cell(f"{scale * value:{'+' if sign else ''}.{digits}f}", scale * value)


def spread(values: Iterable[float | None], digits: int = 1, *, scale: float = 100) -> Cell:
    """Return a cell of mean ± standard deviation over seeds."""
    known = [value for value in values if value is not None]
    middle, around = mean(known), std(known)
    if middle is None:
        return Cell("-")
    text = f"{scale * middle:.{digits}f}"
    return Cell(text if around is None else f"{text} ± {scale * around:.{digits}f}", scale * middle)


def best(rows: Sequence[tuple[Cell, ...]], start: int) -> tuple[tuple[Cell, ...], ...]:
    """Return the rows with the highest number of every column marked, from a column on."""
    if len(rows) < 2:
        return tuple(rows)
    tops = [
        max((cell.value for cell in column if cell.value is not None), default=None)
        for column in zip(*rows, strict=True)
    ]
    return tuple(
        tuple(
            Cell(cell.text, cell.value, strong=cell.value is not None and cell.value == tops[place])
            if place >= start
            else cell
            for place, cell in enumerate(row)
        )
        for row in rows
    )


def given(value: Document, form: str, scale: float = 1) -> Cell:
    """Return a cell of a mean and a standard deviation that the document gives."""
    if value["mean"] is None:
        return Cell("-")
    text = form.format(scale * value["mean"])
    if value["std"] is not None:
        text += f" ± {form.format(scale * value['std'])}"
    return Cell(text, scale * value["mean"])


def table_or_none(
    identity: str, caption: str, head: tuple[str, ...], rows: Sequence[tuple[Cell, ...]], note: str = ""
) -> Table | None:
    """Return a table, or None where it would have no row."""
    return Table(identity, caption, head, tuple(rows), note) if rows else None
