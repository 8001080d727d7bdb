"""The questions of the proof, a file each; every one makes a table of the outcomes of all cells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from studies.paper.outcomes import CellOutcomes
from studies.paper.questions.ablation import ablation, place
from studies.paper.questions.cost import cost
from studies.paper.questions.detection import detection
from studies.paper.questions.oracle import oracle
from studies.paper.questions.scores import clean, corruption, corruption_kinds, removal
from studies.paper.questions.stability import stability
from studies.paper.table import Table

QUESTIONS = (clean, corruption, corruption_kinds, removal, oracle, detection, stability, ablation, place)


def tables_of(cell: CellOutcomes, timing: Mapping[str, Any], *, resamples: int) -> dict[str, Table]:
    """Return the table of every question of one cell, by name, in the order of the questions.

    Args:
        cell: what its runs scored.
        timing: what `studies.paper.timing.time_cell` found.
        resamples: of every bootstrap.
    """
    tables = [question([cell], resamples=resamples) for question in QUESTIONS]
    return {table.name: table for table in (*tables, cost([cell], {cell.cell.name: timing}))}


@cache
def blank_tables() -> dict[str, Table]:
    """Return the table of every question without a row: its title, note and unit."""
    tables = [question([], resamples=1) for question in QUESTIONS]
    return {table.name: table for table in (*tables, cost([], {}))}
