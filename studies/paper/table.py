"""A question's table: the scores of every method in every cell, and how they compare, as rows of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from studies.paper.comparing import Row, corrected, mean_and_deviation, place_of
from studies.paper.outcomes import CellOutcomes, Values

OURS = "context"


@dataclass(frozen=True)
class Table:
    """What was found of a question.

    Args:
        name: of its files.
        title: the question.
        note: how to read it, a sentence or two.
        scores: one row a cell, condition and method: "label", "mean", "std", in the table's unit.
        rows: the comparisons.
        unit: "%" where values are shares that people read in percent, "" where they are numbers.
        by: Holm's correction is over the rows that agree in this; None = over all.
        less: less is better.
        compares: methods are compared; where not there are no rows, and no file of them.
    """

    name: str
    title: str
    note: str
    scores: Sequence[Row]
    rows: Sequence[Row] = ()
    unit: str = "%"
    by: str | None = None
    less: bool = False
    compares: bool = True


def score_row(cell: CellOutcomes, condition: str, label: str, values: Values) -> Row:
    """Return one entry of a table's scores."""
    mean, std = mean_and_deviation(values)
    return {**place_of(cell), "condition": condition, "label": label, "mean": mean, "std": std}


def joined(tables: Sequence[Table]) -> Table:
    """Return the tables of one question, of a cell each, as one, corrected as a whole."""
    scores = [row for table in tables for row in table.scores]
    rows = [row for table in tables for row in table.rows]
    return replace(tables[0], scores=scores, rows=corrected(rows, by=tables[0].by))
