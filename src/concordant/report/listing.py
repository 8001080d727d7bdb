"""The list of what can be run, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from concordant.report.record import Cell, Table

Entry = Mapping[str, Any]


def entry_table(found: Sequence[Entry], *, whole: bool = False) -> Table:
    """Return what can be run, a row per entry of `concordant.study.catalogue`.

    With `whole`, all columns of a single kind; otherwise kind, name, setting and summary.
    """
    if not whole or not found or found[0]["kind"] == "benchmark":
        rows = [[one["kind"], one["name"], one["setting"] or "", one["summary"]] for one in found]
        return Table("entries", "", ["kind", "name", "setting", "summary"], rows)
    if found[0]["kind"] == "corruption":
        head = ["name", "of", "severities", "unit", "in training", "summary"]
        return Table("entries", "", head, [_corruption(one) for one in found])
    counted = "parameters" in found[0]
    head = ["name", "setting", *(("modalities", "parameters", "small preset") if counted else ()), "paper", "summary"]
    return Table("entries", "", head, [_entry(one, counted=counted) for one in found])


def modalities_text(entry: Entry) -> str:
    """Return how many modalities an entry takes.

    >>> modalities_text({"least_modalities": 1, "most_modalities": None})
    '1 or more'
    """
    least, most = entry["least_modalities"], entry["most_modalities"]
    return f"{least} or more" if most is None else f"{least} to {most}"


def _corruption(one: Entry) -> list[Cell | str]:
    severities = " ".join(f"{value:g}" for value in one["severities"])
    seen = "yes, other strengths" if one["seen"] else "no"
    return [one["name"], one["setting"], severities, one["unit"], seen, one["summary"]]


def _entry(one: Entry, *, counted: bool) -> list[Cell | str]:
    counts: list[Cell | str] = []
    if counted:
        sizes = [one["parameters"][size] for size in ("default", "small")]
        counts = [modalities_text(one), *(Cell(f"{size:,}", size) for size in sizes)]
    return [one["name"], one["setting"], *counts, one["paper"] or "-", one["summary"]]
