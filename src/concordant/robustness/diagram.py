"""The reliability diagram of the reliability score: is what it calls 90 % intact intact nine times in ten?

Every present modality of every instance is one case: its probability of being intact, as the calibrator says it, and
whether it was. Untouched and corrupted copies of the same instances are pooled (Niculescu-Mizil and Caruana, ICML
2005). Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10


class Diagram:
    """Counts cases bin by bin, so that many conditions go through without being kept."""

    def __init__(self) -> None:
        self.edges = np.linspace(0, 1, BINS + 1)
        self.count = np.zeros(BINS, np.int64)
        self.predicted = np.zeros(BINS)
        self.intact = np.zeros(BINS)

    def add(self, probability: NDArray[Any], hit: NDArray[np.bool_], present: NDArray[np.bool_]) -> None:
        """Add the cases of one condition.

        Args:
            probability: (N, M) of being intact, in [0, 1]; values outside are cut.
            hit: bool (N, M).
            present: bool (N, M); what is absent is no case.
        """
        values = np.clip(np.asarray(probability, dtype=np.float64), 0, 1)[present]
        which = np.clip(np.ceil(values * BINS).astype(np.int64) - 1, 0, BINS - 1)
        self.count += np.bincount(which, minlength=BINS)
        self.predicted += np.bincount(which, weights=values, minlength=BINS)
        self.intact += np.bincount(which, weights=~hit[present], minlength=BINS)

    def record(self) -> dict[str, Any]:
        """Return edges, mean prediction, intact share and count of each bin, and the expected calibration error."""
        filled = np.maximum(self.count, 1)
        gaps = np.abs(self.predicted - self.intact).sum() / max(1, self.count.sum())

        def means(sums: NDArray[np.float64]) -> list[float | None]:
            return [float(v) if n else None for v, n in zip(sums / filled, self.count, strict=True)]

        return {
            "edges": [round(float(edge), 10) for edge in self.edges],
            "predicted": means(self.predicted),
            "intact": means(self.intact),
            "count": self.count.tolist(),
            "error": float(gaps),
        }
