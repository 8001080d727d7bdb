"""(e) Does reliability tell which modality was corrupted, and whether one was? Areas under the ROC curve.

At the highest severity every method's area is compared with 0.5, what a guess gives. A method that gives no reliability
has no row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from concordant.statistics.bootstrap import Outcomes
from studies.paper.comparing import Asked, Row, compare_cell, corrected
from studies.paper.outcomes import CellOutcomes
from studies.paper.table import Table, score_row

GUESS = "a guess"
WHAT = ("which", "whether")


def detection(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of areas."""
    scores: list[Row] = []
    rows: list[Row] = []
    for cell in cells:
        asked = []
        for label in cell.labels:
            for what in WHAT:
                for kind in cell.any.kinds:
                    for severity in cell.severities:
                        name = f"{what}.{kind}.{severity}"
                        if cell.has(label, name):
                            scores.append(score_row(cell, name, label, cell.means(label, name)))
                    top = f"{what}.{kind}.{max(cell.severities)}"
                    if cell.has(label, top):
                        asked.append(_against_a_guess(cell, label, top))
        if asked:
            rows += compare_cell(cell, asked, resamples=resamples)
    return Table(
        "detection",
        "(e) Does reliability tell which modality was corrupted, and whether one was?",
        "Area under the ROC curve, 0.5 = a guess: which modality of an instance was hit, and whether one was; a number "
        "behind the kind is the severity, 1 to 5. Where a kind can hit one modality alone, which says little. "
        "Differences from 0.5 at the highest severity; Holm's correction is over each family.",
        scores,
        corrected(rows, by="family"),
        unit="",
        by="family",
    )


def _against_a_guess(cell: CellOutcomes, label: str, condition: str) -> Asked:
    found = cell.outcomes(label, condition)
    half = {seed: Outcomes(np.full(len(one.ids), 0.5), one.ids, one.groups) for seed, one in found.items()}
    return Asked(label, GUESS, condition, found, half)
