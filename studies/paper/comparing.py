"""The statistics of every table: paired differences, their intervals, corrected p-values.

A row says how far one method lies from another in one cell, under one condition: mean and standard deviation over
seeds of both, the paired difference with its 95 % interval and p-value from a bootstrap over seeds and test instances
(whole groups where instances are grouped), Holm's correction over the table, and Wilcoxon's test over seeds from 8 up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.statistics.bootstrap import Outcomes, PairedDifference, paired_bootstraps
from concordant.statistics.significance import holm, wilcoxon
from studies.paper.grid import Cell
from studies.paper.outcomes import CellOutcomes

Row = dict[str, Any]
Floats = NDArray[np.float64]
_FLIPPED = 16
BySeed = Mapping[int, Outcomes]


@dataclass(frozen=True)
class Asked:
    """One comparison.

    Args:
        of: the method in question.
        to: what it is compared to.
        condition: what the row calls it.
        of_outcomes: seed -> outcomes.
        to_outcomes: the same seeds -> outcomes of the same instances.
    """

    of: str
    to: str
    condition: str
    of_outcomes: BySeed
    to_outcomes: BySeed


def between(cell: CellOutcomes, of: str, to: str, condition: str) -> Asked:
    """Return the comparison of two methods under one condition."""
    return Asked(of, to, condition, cell.outcomes(of, condition), cell.outcomes(to, condition))


def compare_cell(cell: CellOutcomes, asked: Sequence[Asked], *, resamples: int) -> list[Row]:
    """Return a row a comparison; p-values are not corrected yet."""
    sides = [(one.of_outcomes, one.to_outcomes) for one in asked]
    paired = paired_bootstraps(sides, seed=seeding.derive_seed(0, "bootstrap"), resamples=resamples)
    return [
        {**place_of(cell), "condition": one.condition, "of": one.of, "to": one.to, **_numbers(one, found)}
        for one, found in zip(asked, paired, strict=True)
    ]


def compare_seeds(cell: CellOutcomes, condition: str, of: str, to: str, ours: Floats, theirs: Floats) -> Row:
    """Return the comparison of two methods of which only one number a seed is known; p is not corrected yet.

    There are no instances to resample, and a bootstrap of a few seeds is far too sure of itself: the p-value is that of
    an exact sign-flip test (3 seeds give 0.25 at the least, 5 give 0.0625), the interval that of Student's t.

    Args:
        cell: where.
        condition: what the row calls it.
        of: the method in question.
        to: what it is compared to.
        ours: (S,) one number a seed.
        theirs: (S,) of the same seeds.
    """
    differences = ours - theirs
    low, high = _student(differences)
    return {
        **place_of(cell),
        "condition": condition,
        "of": of,
        "to": to,
        "mean_of": float(ours.mean()),
        "std_of": mean_and_deviation(ours)[1],
        "mean_to": float(theirs.mean()),
        "std_to": mean_and_deviation(theirs)[1],
        "difference": float(differences.mean()),
        "low": low,
        "high": high,
        "p": sign_flips(differences),
        "p_holm": None,
        "p_wilcoxon": wilcoxon(differences),
    }


def sign_flips(differences: Floats) -> float:
    """Return the two-sided p-value of the mean of paired differences (S,) among all flips of their signs.

    Beyond 16 differences it is that among 65536 flips that are drawn.

    >>> sign_flips(np.array([1.0, 2.0, 4.0]))
    0.25
    """
    count = len(differences)
    if count <= _FLIPPED:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = np.random.default_rng(seeding.derive_seed(0, "sign flips")).choice([-1, 1], (2**_FLIPPED, count))
    means = np.abs(signs @ differences) / count
    least = abs(float(differences.mean()))
    return float((means >= least * (1 - 1e-9)).mean())


def _student(differences: Floats) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a mean; None with a single value."""
    if len(differences) < 2:
        return None, None

    from scipy import stats

    error = float(differences.std(ddof=1)) / len(differences) ** 0.5
    reach = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    mean = float(differences.mean())
    return mean - reach, mean + reach


def place_of(cell: CellOutcomes) -> Row:
    """Return what a row says of where it comes from."""
    return place_of_cell(cell.cell)


def place_of_cell(cell: Cell) -> Row:
    """Return what the rows of a cell say of where they come from."""
    family = cell.family
    return {
        "family": family.name,
        "benchmark": family.benchmark,
        "protocol": family.split,
        "fusion": cell.fusion,
        "modalities": len(family.names),
        "seeds": family.seeds,
    }


def corrected(rows: Sequence[Row], *, by: str | None = None) -> list[Row]:
    """Return the rows with Holm's correction over all of them, or over those that agree in `by`."""
    found = [dict(row) for row in rows]
    for group in dict.fromkeys(row[by] if by is not None else None for row in found):
        mine = [row for row in found if by is None or row[by] == group]
        for row, adjusted in zip(mine, holm([row["p"] for row in mine]), strict=True):
            row["p_holm"] = adjusted
    return found


def mean_and_deviation(values: NDArray[np.float64] | Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation of a sample; None with fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def _numbers(one: Asked, found: PairedDifference) -> Row:
    of, to = (_by_seed(side) for side in (one.of_outcomes, one.to_outcomes))
    return {
        "mean_of": found.mean_of,
        "std_of": mean_and_deviation(of)[1],
        "mean_to": found.mean_to,
        "std_to": mean_and_deviation(to)[1],
        "difference": found.difference,
        "low": found.ci95[0],
        "high": found.ci95[1],
        "p": found.p_value,
        "p_holm": None,  # of a whole table
        "p_wilcoxon": wilcoxon(of - to),
    }


def _by_seed(outcomes: BySeed) -> NDArray[np.float64]:
    return np.array([float(np.mean(outcomes[seed].values)) for seed in sorted(outcomes)])
