"""A bound on harm: how many right answers of a trained model may become wrong by its calibrator, with confidence.

On held-out rows a right answer that becomes wrong is a flip. Tolerances are tried from the largest, at which nothing is
touched, downwards; the last before the first whose upper bound on the share of flips exceeds `harm` is used. Testing in
a fixed order keeps the level (Angelopoulos et al., "Learn then Test", 2021; Bates et al., "Distribution-Free,
Risk-Controlling Prediction Sets", 2021). Of several candidates each is tested at an equal part of the error
probability, so that all their bounds hold at once and any of them may be chosen afterwards by the same rows. Splitting
the rows between choice and test would cost more: with three candidates, harm 0.02 and confidence 0.9 the test needs 169
rows instead of 114, and the choice none of its own.
Shapes: flips (G, N) of G tolerances and N units; a unit is a row whose answer was right, or a group of rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache

import torch
from torch import Tensor

TOLERANCES = (math.inf, 8.0, 6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5)


@dataclass(frozen=True)
class Guarantee:
    """What a fitted plug-in holds to on data like its validation rows.

    Args:
        harm: the largest share of units that may be harmed: of answers that were right, those that become wrong.
        confidence: the probability, over draws of the validation rows, with which that holds.
        rows: the units that it was tested on.
        tolerance: the tolerance that was found; infinity = nothing is scaled but by gates.
        flips: the units that were harmed at this tolerance.
        bound: the upper bound on the share of harmed units, at most `harm`, unless the gates of a calibrator that was
            trained elsewhere harm more; 0 where nothing is scaled.
    """

    harm: float
    confidence: float
    rows: int
    tolerance: float
    flips: int
    bound: float

    @classmethod
    def of(cls, promise: Tensor) -> Guarantee:
        """Return the guarantee that a calibrator's state holds."""
        harm, confidence, rows, tolerance, flips, bound = promise.cpu().view(torch.float64).tolist()
        return cls(harm, confidence, int(rows), tolerance, int(flips), bound)

    def promise(self) -> Tensor:
        """Return the numbers for a calibrator's state: as integers, which no change of its precision rounds."""
        return torch.tensor(astuple(self), dtype=torch.float64).view(torch.int64)

    def __str__(self) -> str:
        if math.isinf(self.tolerance) and not 0 < self.bound <= self.harm:
            what = "nothing is scaled" if not self.bound else f"the upper bound is {self.bound:.2%}"
            return f"No bound of {self.harm:.1%} could be shown on {self.rows} validation rows: {what}."
        return (
            f"With {self.confidence:.0%} confidence at most {self.harm:.1%} of the answers that are right without the "
            f"calibrator are harmed by it, on data like the validation rows. Of {self.rows} tested {self.flips} were "
            f"harmed at the tolerance {self.tolerance:g}; the upper bound is {self.bound:.2%}."
        )


@cache
def upper_bound(flips: int, units: int, confidence: float) -> float:
    """Return the one-sided Clopper-Pearson upper bound of a share, in [0, 1]: the beta quantile, by bisection.

    >>> round(upper_bound(0, 114, 0.9), 4), round(upper_bound(3, 360, 0.9), 4)
    (0.02, 0.0185)
    """
    if flips >= units:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        share = (low + high) / 2
        chances = (
            math.lgamma(units + 1)
            - math.lgamma(k + 1)
            - math.lgamma(units - k + 1)
            + k * math.log(share)
            + (units - k) * math.log1p(-share)
            for k in range(flips + 1)
        )
        if sum(map(math.exp, chances)) > 1 - confidence:
            low = share
        else:
            high = share
    return high


def level(confidence: float, candidates: int) -> float:
    """Return the confidence at which each of several candidates is tested (Bonferroni)."""
    return 1 - (1 - confidence) / candidates


def fewest_units(harm: float, confidence: float, candidates: int = 1) -> int:
    """Return the smallest number of units that can show a bound, when none of them is harmed.

    >>> fewest_units(0.02, 0.9), fewest_units(0.02, 0.9, candidates=3)
    (114, 169)
    """
    return math.ceil(math.log(1 - level(confidence, candidates)) / math.log1p(-harm))


def certify(flips: Sequence[Tensor], harm: float, confidence: float, *, first: bool = False) -> list[int]:
    """Return for every candidate the last tolerance, by index, down to which the bound holds at every step.

    Args:
        flips: per candidate bool (G, N), from the largest tolerance to the smallest.
        harm: largest share of harmed units.
        confidence: the probability with which all returned tolerances hold to it together.
        first: test the first tolerance too, at which otherwise nothing can be harmed; -1 is returned if it fails.
    """
    found = []
    for one in flips:
        index, each = -1 if first else 0, level(confidence, len(flips))
        while index + 1 < len(one) and upper_bound(int(one[index + 1].sum()), one.shape[1], each) <= harm:
            index += 1
        found.append(index)
    return found


def units_harmed(
    harmed: Tensor, counted: Tensor, groups: Sequence[object] | None = None, *, share: float = 0.0
) -> Tensor:
    """Return bool (G, N): which units are harmed at each tolerance.

    Args:
        harmed: bool (G, R), the rows that are harmed.
        counted: bool (R,), the rows that can be harmed, those with a right answer; others are left out.
        groups: the group of every row; None = every row is a unit. A group is harmed where more than `share` of its
            counted rows are.
        share: see `groups`.
    """
    harmed = harmed[:, counted]
    if groups is None:
        return harmed
    kept = [group for group, one in zip(groups, counted.tolist(), strict=True) if one]
    number = {group: index for index, group in enumerate(dict.fromkeys(kept))}
    members = torch.zeros(len(kept), len(number), dtype=torch.float64)
    members[torch.arange(len(kept)), torch.tensor([number[group] for group in kept], dtype=torch.long)] = 1
    return (harmed.double() @ members) / members.sum(0) > share
