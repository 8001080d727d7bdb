"""(f) Is training steady, from step to step and from seed to seed? The first cell of every family.

Instances have no part in this: there is one number a seed, and the statistics are those of so few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studies.paper.comparing import Row, compare_seeds, corrected, mean_and_deviation, place_of
from studies.paper.conditions import CLEAN
from studies.paper.outcomes import MEAN, CellOutcomes
from studies.paper.table import OURS, Table, score_row

LOSS, SHARP = "loss_variance", "sharpness"
SPREADS = {"spread of the clean score": CLEAN, "spread of the mean over corruptions": MEAN}


def stability(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of loss variance, sharpness and spread over seeds; nothing is resampled."""
    scores: list[Row] = []
    rows: list[Row] = []
    for cell in cells:
        if not cell.stability:
            continue
        for measure in (LOSS, SHARP):
            known = {label: _values(cell, label, measure) for label in cell.labels}
            for label, values in known.items():
                if values is not None:
                    scores.append(score_row(cell, measure, label, values))
            ours = known[OURS]
            for label, values in known.items():
                if label != OURS and ours is not None and values is not None:
                    rows.append(compare_seeds(cell, measure, OURS, label, ours, values))
        for name, condition in SPREADS.items():
            for label in cell.labels:
                spread = mean_and_deviation(cell.means(label, condition))[1]  # None with a single seed
                scores.append({**place_of(cell), "condition": name, "label": label, "mean": spread, "std": None})
    return Table(
        "stability",
        "(f) Is training steady?",
        "Variance of the loss of single steps around its trend in the last half of training (the loss that a method "
        "minimises: that of calibrators has a part that twins lack), sharpness (rise of the validation loss when "
        "weights move by 2 % at random), and the standard deviation over seeds of the final scores. Less is better; "
        "p-values are those of exact sign flips of the seeds' differences, intervals Student's.",
        scores,
        corrected(rows),
        unit="",
        less=True,
    )


def _values(cell: CellOutcomes, label: str, measure: str) -> np.ndarray[tuple[int], np.dtype[np.float64]] | None:
    """Return the measure of every seed, or None where one of them has none."""
    values = [one[measure] for one in cell.stability[label]]
    return None if any(value is None for value in values) else np.array(values, dtype=np.float64)
