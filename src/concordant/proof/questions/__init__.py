"""The questions of the proof, a file each; every one makes a table of the outcomes of all cells."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from concordant.proof.outcomes import CellOutcomes
from concordant.proof.questions.ablation import ablation, place
from concordant.proof.questions.cost import cost
from concordant.proof.questions.detection import detection
from concordant.proof.questions.oracle import oracle
from concordant.proof.questions.scores import clean, corruption, corruption_kinds, removal
from concordant.proof.questions.stability import stability
from concordant.proof.table import Table

QUESTIONS = (clean, corruption, corruption_kinds, removal, oracle, detection, stability, ablation, place)


def tables_of(cell: CellOutcomes, timing: Mapping[str, Any], *, resamples: int) -> dict[str, Table]:
    """Return the table of every question of one cell, by name, in the order of the questions.

    Args:
        cell: what its runs scored.
        timing: what `concordant.proof.timing.time_cell` found.
        resamples: of every bootstrap.
    """
    tables = [question([cell], resamples=resamples) for question in QUESTIONS]
    return {table.name: table for table in (*tables, cost([cell], {cell.cell.name: timing}))}


@cache
def blank_tables() -> dict[str, Table]:
    """Return the table of every question without a row: its title, note and unit."""
    tables = [question([], resamples=1) for question in QUESTIONS]
    return {table.name: table for table in (*tables, cost([], {}))}
