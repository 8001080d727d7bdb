"""A table as files: all numbers as CSV, and Markdown that people read.

Markdown shows scores with one row a cell and condition and one column a method, marked where ours differs
significantly, and the comparisons below.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concordant.files import write_text
from concordant.report.table import p_text, shown
from studies.paper.comparing import Row
from studies.paper.table import OURS, Table

SIGNIFICANT = 0.05
MARKS = (
    f"+ {OURS} is significantly ahead of this one, - significantly behind (p < {SIGNIFICANT}, corrected); unmarked: "
    "neither."
)
_PLACE = ("family", "fusion", "condition")


def write_table_files(table: Table, folder: Path, *, head: str = "") -> None:
    """Write <name>.csv (comparisons), <name>-scores.csv and <name>.md.

    Args:
        table: of a question.
        folder: where to.
        head: a paragraph that goes below the title.
    """
    write_text(folder / f"{table.name}-scores.csv", as_csv(table.scores))
    if table.compares:
        write_text(folder / f"{table.name}.csv", as_csv(table.rows))
    write_text(folder / f"{table.name}.md", as_page(table, head=head))


def as_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV; what is not known is empty."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_page(table: Table, *, head: str = "") -> str:
    """Return a table as a page of Markdown."""
    parts = [f"# {table.title}\n", f"{table.note}\n", f"{head}\n" if head else "", score_lines(table)]
    if table.rows:
        parts.append(f"## Differences\n\n{comparison_lines(table)}")
    return "\n".join(part for part in parts if part)


def score_lines(table: Table, rows: Sequence[Row] | None = None) -> str:
    """Return scores as Markdown, with a row a cell and condition and a column a method.

    Args:
        table: of a question.
        rows: some of its scores; None = all.
    """
    known = list(table.scores if rows is None else rows)
    labels = list(dict.fromkeys(row["label"] for row in known))
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in known:
        found.setdefault(tuple(row[key] for key in _PLACE), {})[row["label"]] = row
    marks = {
        (*(row[key] for key in _PLACE), row["to"]): mark(row, less=table.less)
        for row in table.rows
        if row["of"] == OURS
    }
    lines = []
    for place, by_label in found.items():
        cells = [
            f"{value_text(by_label[label], table.unit)}{marks.get((*place, label), '')}" if label in by_label else "-"
            for label in labels
        ]
        any_row = next(iter(by_label.values()))
        lines.append([place[0], place[1], str(any_row["modalities"]), str(any_row["seeds"]), place[2], *cells])
    text = lines_of(["family", "fusion", "modalities", "seeds", "", *map(shown, labels)], lines, left=5)
    compared = any((*place, label) in marks for place, by_label in found.items() for label in by_label)
    return f"{text}\n{MARKS}\n" if compared else text


def comparison_lines(table: Table) -> str:
    """Return comparisons as Markdown."""
    lines = [
        [
            *(str(row[key]) for key in _PLACE),
            f"{row['of']} - {shown(row['to'])}",
            value_text({"mean": row["mean_of"], "std": row["std_of"]}, table.unit),
            value_text({"mean": row["mean_to"], "std": row["std_to"]}, table.unit),
            difference_text(row["difference"], table.unit),
            f"{difference_text(row['low'], table.unit)} to {difference_text(row['high'], table.unit)}",
            p_text(row["p"]),
            p_text(row["p_holm"]),
            p_text(row["p_wilcoxon"]),
        ]
        for row in table.rows
    ]
    head = ["family", "fusion", "", "difference", "of", "to", "points" if table.unit else "difference"]
    return lines_of([*head, "95 % interval", "p", "p (Holm)", "p (Wilcoxon)"], lines, left=4)


def mark(row: Row, *, less: bool = False) -> str:
    """Return "+" or "-" where ours is significantly ahead or behind, else nothing.

    >>> mark({"p_holm": 0.01, "difference": 0.2}), mark({"p_holm": 0.01, "difference": 0.2}, less=True)
    (' +', ' -')
    """
    if row["p_holm"] is None or row["p_holm"] >= SIGNIFICANT or row["difference"] == 0:
        return ""
    return " +" if (row["difference"] > 0) != less else " -"


def value_text(row: Row, unit: str) -> str:
    """Return "mean ± std".

    >>> value_text({"mean": 0.5, "std": 0.0123}, "%"), value_text({"mean": 1234, "std": None}, "")
    ('50.0 ± 1.2', '1,234')
    """
    mean, std = row["mean"], row["std"]
    if mean is None:
        return "-"
    if unit == "%":
        return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"
    return _number(mean) if std is None else f"{_number(mean)} ± {_number(std)}"


def difference_text(value: float | None, unit: str) -> str:
    """Return a difference with its sign; a dash where there is none.

    >>> difference_text(-0.0123, "%"), difference_text(0.25, "")
    ('-1.2', '+0.25')
    """
    if value is None:
        return "-"
    return f"{100 * value:+.1f}" if unit == "%" else f"{'+' if value >= 0 else '-'}{_number(abs(value))}"


def lines_of(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return a Markdown table, its first columns aligned to the left."""
    rule = ["---" if place < left else "---:" for place in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows)) + "\n"


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 999.5:  # three digits would round it to 1e+03
        return f"{round(value):,}"
    return f"{value:.3g}"
