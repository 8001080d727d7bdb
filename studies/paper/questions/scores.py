"""(a) the clean score, (b) the score under corruption, (c) the score without a modality.

Ours is compared with every other method of its cell. Of removals the table has each modality, and the worst: for every
method the modality that it misses most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studies.paper.comparing import Asked, between, compare_cell, corrected
from studies.paper.conditions import CLEAN
from studies.paper.outcomes import MEAN, SEEN, UNSEEN, CellOutcomes
from studies.paper.table import OURS, Table, score_row

WORST = "removal.worst"
Conditions = Callable[[CellOutcomes], list[str]]


def clean(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of clean scores."""
    return _table(
        "clean",
        "(a) What does calibration cost, or give, where nothing is wrong?",
        "Accuracy on untouched test instances.",
        cells,
        lambda _: [CLEAN],
        resamples,
    )


def corruption(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of means over corruptions: of all kinds, of those that training never saw, of the others."""
    return _table(
        "corruption",
        "(b) What is left when one modality of every instance is corrupted?",
        "Accuracy, the mean over kinds of corruption and severities: of all kinds, of those that training never saw "
        "(unseen), and of those that it saw (seen), at other severities but for the whole swap. The control, a swap "
        "within the class, is left out.",
        cells,
        lambda cell: [one for one in (MEAN, UNSEEN, SEEN) if one in cell.any.values],
        resamples,
    )


def corruption_kinds(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of every kind of corruption, the mean over its severities."""
    return _table(
        "corruption-kinds",
        "(b) And under each kind?",
        "Accuracy, the mean over the severities of each kind. Holm's correction is over each family.",
        cells,
        lambda cell: [f"corruption.{kind}" for kind in cell.any.kinds],
        resamples,
        by="family",
    )


def removal(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of removals."""
    return _table(
        "removal",
        "(c) What is left when a modality is gone?",
        "Accuracy with one modality removed from every instance; the worst is the modality that a method misses most.",
        cells,
        lambda cell: [*(f"removal.{name}" for name in cell.modalities), WORST],
        resamples,
    )


def asked_of(cell: CellOutcomes, to: str, condition: str, *, of: str = OURS) -> Asked:
    """Return a comparison, of the worst removal each method's own."""
    if condition == WORST:
        mine, its = cell.worst_removal(of), cell.worst_removal(to)
        return Asked(of, to, WORST, cell.outcomes(of, mine), cell.outcomes(to, its))
    return between(cell, of, to, condition)


def _table(
    name: str,
    title: str,
    note: str,
    cells: Sequence[CellOutcomes],
    conditions: Conditions,
    resamples: int,
    *,
    by: str | None = None,
) -> Table:
    scores, rows = [], []
    for cell in cells:
        for condition in conditions(cell):
            for label in cell.labels:
                known = cell.worst_removal(label) if condition == WORST else condition
                scores.append(score_row(cell, condition, label, cell.means(label, known)))
        asked = [
            asked_of(cell, label, condition) for condition in conditions(cell) for label in cell.labels if label != OURS
        ]
        rows += compare_cell(cell, asked, resamples=resamples)
    return Table(name, title, note, scores, corrected(rows, by=by), by=by)
