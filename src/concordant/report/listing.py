"""What can be run, as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Entry = Mapping[str, Any]


def short_list(entries: Sequence[Entry]) -> Table:
    """Return kind, name, setting and summary of entries of any kind."""
    table = _table("kind", "name", "setting", "summary")
    for entry in entries:
        table.add_row(entry["kind"], entry["name"], entry["setting"] or "", entry["summary"])
    return table


def full_list(entries: Sequence[Entry]) -> Table:
    """Return all there is to say of entries of one kind."""
    if not entries or entries[0]["kind"] == "benchmark":
        return short_list(entries)
    if entries[0]["kind"] == "corruption":
        return _corruptions(entries)
    counted = "parameters" in entries[0]
    numbers = ("modalities", "parameters", "small preset") if counted else ()
    table = _table("name", "setting", *numbers, "paper", "summary")
    for column in table.columns:
        if column.header in ("parameters", "small preset"):
            column.justify = "right"
    for entry in entries:
        cells = []
        if counted:
            cells = [modalities_text(entry), *(f"{entry['parameters'][size]:,}" for size in ("default", "small"))]
        table.add_row(entry["name"], entry["setting"], *cells, entry["paper"] or "-", entry["summary"])
    return table


def _corruptions(entries: Sequence[Entry]) -> Table:
    table = _table("name", "of", "severities", "unit", "in training", "summary")
    for entry in entries:
        severities = " ".join(f"{value:g}" for value in entry["severities"])
        seen = "yes, other strengths" if entry["seen"] else "no"
        table.add_row(entry["name"], entry["setting"], severities, entry["unit"], seen, entry["summary"])
    return table


def modalities_text(entry: Entry) -> str:
    """Return how many modalities an entry takes.

    >>> modalities_text({"least_modalities": 1, "most_modalities": None})
    '1 or more'
    """
    least, most = entry["least_modalities"], entry["most_modalities"]
    return f"{least} or more" if most is None else f"{least} to {most}"


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table
