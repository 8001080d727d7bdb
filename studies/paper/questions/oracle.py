"""(d) Which share of the way from the uncalibrated twin to an oracle is covered?

The oracle is the same twin, told which modality is corrupted, and given it as absent: what knowing better could have
saved. The twin is the one that was trained with perturbations. Conditions count, kind by kind and severity by severity,
where the oracle is more than a point ahead of the twin; elsewhere there is no way to cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from concordant.statistics.bootstrap import Outcomes
from concordant.study.stress import covering
from studies.paper.comparing import Asked, Row, compare_cell, corrected, mean_and_deviation, place_of
from studies.paper.conditions import CONTROL
from studies.paper.outcomes import CellOutcomes, RunOutcomes
from studies.paper.table import OURS, Table

TWIN = "none+perturbed"
SHARE = "share of the way"


def oracle(cells: Sequence[CellOutcomes], *, resamples: int) -> Table:
    """Return the table of shares."""
    scores: list[Row] = []
    rows: list[Row] = []
    for cell in cells:
        if TWIN not in cell.labels:
            continue
        counted = counted_conditions(cell)
        for label in cell.labels:
            shares = shares_of(cell, label, counted)
            if shares is not None:
                mean, std = mean_and_deviation(shares)
                whole = share_of(cell, label)
                row = {**place_of(cell), "condition": SHARE, "label": label, "mean": whole, "std": std}
                scores.append({**row, "mean_of_seeds": mean, "conditions": len(counted)})
        if counted:
            rows += _compared(cell, counted, resamples)
    return Table(
        "oracle",
        "(d) Which share of the way to an oracle is covered?",
        "0 = as good as the uncalibrated twin that was trained with perturbations, 1 = as good as the same twin told "
        "which modality to leave out; of accuracies that are means over seeds, kinds and severities at which the "
        "oracle is more than a point ahead. The deviation is that of the single seeds. A difference is one of shares.",
        scores,
        corrected(rows),
    )


def share_of(cell: CellOutcomes, label: str) -> float | None:
    """Return the share that a method covers over all seeds; None where there is no way to cover."""
    share = covering(documents(cell, [label, TWIN]), label, TWIN)["share"]
    return None if share is None else float(share)


def documents(cell: CellOutcomes, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the runs of some methods as `concordant.study.stress.covering` reads them."""
    kinds = [kind for kind in cell.any.kinds if kind != CONTROL]
    return [
        {
            "label": label,
            "seed": seed,
            "kinds": {
                kind: {"scores": [_score(run, f"corruption.{kind}.{s}") for s in cell.severities]} for kind in kinds
            },
            "oracle": {kind: {"scores": [_score(run, run.told[kind])] * len(cell.severities)} for kind in kinds},
        }
        for label in dict.fromkeys(labels)
        for seed, run in cell.runs[label].items()
    ]


def counted_conditions(cell: CellOutcomes) -> list[tuple[str, str]]:
    """Return the conditions that count, each with that of its oracle."""
    from concordant.study.stress import LEAST_WAY

    found = []
    for kind, told in cell.any.told.items():
        for severity in cell.severities:
            condition = f"corruption.{kind}.{severity}"
            way = cell.means(TWIN, told).mean() - cell.means(TWIN, condition).mean()
            if kind != CONTROL and way > LEAST_WAY:
                found.append((condition, told))
    return found


def shares_of(cell: CellOutcomes, label: str, counted: Sequence[tuple[str, str]]) -> np.ndarray[Any, Any] | None:
    """Return the share of each seed (S,), over the conditions that count; None where none does."""
    if not counted:
        return None
    gain = np.sum([cell.means(label, one) - cell.means(TWIN, one) for one, _ in counted], 0)
    return np.asarray(gain / _way(cell, counted))


def _way(cell: CellOutcomes, counted: Sequence[tuple[str, str]]) -> float:
    """Return the whole way, the sum over the conditions that count of the mean over seeds."""
    return float(sum(cell.means(TWIN, told).mean() - cell.means(TWIN, one).mean() for one, told in counted))


def _compared(cell: CellOutcomes, counted: Sequence[tuple[str, str]], resamples: int) -> list[Row]:
    """Compare shares: sums over the conditions that count, in units of the way."""
    way = _way(cell, counted)
    # What the twin scores is 0 on this scale, for every seed the mean over all of them.
    zero = float(sum(cell.means(TWIN, one).mean() for one, _ in counted))

    def scaled(label: str) -> dict[int, Outcomes]:
        return {
            seed: Outcomes((np.sum([run.values[one] for one, _ in counted], 0) - zero) / way, run.ids, run.groups)
            for seed, run in cell.runs[label].items()
        }

    ours = scaled(OURS)
    asked = [Asked(OURS, label, SHARE, ours, scaled(label)) for label in cell.labels if label != OURS]
    return compare_cell(cell, asked, resamples=resamples)


def _score(run: RunOutcomes, condition: str) -> float:
    return float(run.values[condition].mean())
