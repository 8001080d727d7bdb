"""(g) What is each part of the calibrator worth? (h) Before fusion, after it, or attention in its place?

Ours, whole, minus the other: above 0 a part is worth having. Ablations have the recipe that was chosen for ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from studies.paper.comparing import Row, between, compare_cell, corrected
from studies.paper.conditions import CLEAN
from studies.paper.outcomes import MEAN, CellOutcomes
from studies.paper.questions.scores import WORST, asked_of
from studies.paper.table import OURS, Table, score_row

SWAP = "corruption.swap"
PLACES = ("after-fusion", "attention")


def ablation(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of the calibrator with parts switched off, of the first cell of every family."""
    scores: list[Row] = []
    rows: list[Row] = []
    conditions = (CLEAN, MEAN, SWAP)
    for cell in cells:
        if not cell.ablations:
            continue
        for condition in conditions:
            for label in (OURS, *cell.ablations):
                scores.append(score_row(cell, condition, label, cell.means(label, condition)))
        asked = [between(cell, OURS, label, condition) for condition in conditions for label in cell.ablations]
        rows += compare_cell(cell, asked, resamples=resamples)
    return Table(
        "ablation",
        "(g) What is each part worth?",
        "Accuracy of the calibrator with a part switched off, from the same initial weights; differences are the whole "
        "one's lead over it. Narrow and wide compare in 16 and 64 dimensions instead of 32.",
        scores,
        corrected(rows),
    )


def place(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of calibration before fusion, after it, and attention in its place."""
    scores: list[Row] = []
    rows: list[Row] = []
    conditions = (CLEAN, MEAN, WORST)
    for cell in cells:
        others = [label for label in PLACES if label in cell.labels]
        for condition in conditions if others else ():
            for label in (OURS, *others):
                known = cell.worst_removal(label) if condition == WORST else condition
                scores.append(score_row(cell, condition, label, cell.means(label, known)))
        asked = [asked_of(cell, label, condition) for condition in conditions for label in others]
        if asked:
            rows += compare_cell(cell, asked, resamples=resamples)
    return Table(
        "place",
        "(h) Before fusion, after it, or attention in its place?",
        "The same judgement of the modalities applied to the original features (context) or to what the head sees "
        "(after-fusion), and attention weights over modalities instead; perturbations and losses are the same. Fusions "
        "without a single head have no row for after-fusion.",
        scores,
        corrected(rows),
    )
