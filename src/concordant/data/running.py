"""Running statistics of a modality: what `concordant data check` knows of values that it has not kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import ModalityCard
from concordant.data.store import Values


class Running:
    """Statistics of one modality by feature, over instances that are taken in one by one.

    Means and squares are joined as in Chan, Golub and LeVeque (1979). Values that are not finite count as 0.

    Args:
        known: the modality.
    """

    def __init__(self, known: ModalityCard) -> None:
        self.axis = 0 if known.layout in ("bchw", "bcthw") else len(known.shape) - 1
        size = known.shape[self.axis] or 1
        self.count = self.bad = self.zeros = 0
        self.mean, self.squares = np.zeros(size), np.zeros(size)
        self.least, self.most = np.full(size, np.inf), np.full(size, -np.inf)

    def add(self, values: Values) -> None:
        """Take in the values of an instance."""
        flat = np.moveaxis(values, self.axis, -1).reshape(-1, values.shape[self.axis]).astype(np.float64)
        finite = np.isfinite(flat)
        self.bad += int((~finite).sum())
        flat = np.where(finite, flat, 0)
        self.zeros += int((flat == 0).sum())
        count, mean = len(flat), flat.mean(0)
        gap, total = mean - self.mean, self.count + count
        self.squares += ((flat - mean) ** 2).sum(0) + gap**2 * self.count * count / total
        self.mean += gap * count / total
        self.count = total
        self.least, self.most = np.minimum(self.least, flat.min(0)), np.maximum(self.most, flat.max(0))

    def summary(self, lengths: NDArray[np.int64]) -> dict[str, float]:
        """Return the numbers of the report."""
        there = lengths[lengths > 0]
        found: dict[str, float] = {"absent": float((lengths == 0).mean())}
        if self.count:
            spread = self.squares.sum() + self.count * ((self.mean - self.mean.mean()) ** 2).sum()
            found |= {
                "shortest": int(there.min()),
                "median": float(np.median(there)),
                "longest": int(there.max()),
                "least": float(self.least.min()),
                "most": float(self.most.max()),
                "mean": float(self.mean.mean()),
                "std": float(np.sqrt(spread / (self.count * len(self.mean)))),
                "zeros": self.zeros / (self.count * len(self.mean)),
            }
        return found
