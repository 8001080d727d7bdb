"""Tables of results: one record, four renderers, and a function per question asked of the documents."""

from concordant.report.tables.record import (
    Cell,
    Table,
    best_of_columns,
    csv_text,
    html,
    markdown,
    marked,
    number,
    spread,
    terminal,
)

__all__ = [
    "Cell",
    "Table",
    "best_of_columns",
    "csv_text",
    "html",
    "markdown",
    "marked",
    "number",
    "spread",
    "terminal",
]
