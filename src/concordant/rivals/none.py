"""No calibration: the uncalibrated twin, with the same perturbations in training and nothing else."""

from __future__ import annotations

from concordant.calibration.base import Calibrator
from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.base import register, ungated


@register("none", "no calibration: the uncalibrated twin")
class NoCalibrator(Calibrator):
    """Return the features unchanged; in training perturb them like every other calibrator.

    Args: as for `ContextualCalibrator`; it has no parameters, and no seed.

    >>> sum(p.numel() for p in NoCalibrator({"text": 4, "audio": 3}).parameters())
    0
    """

    has_reliability = False
    reads_summaries = False
    scales_features = False
    fewest = 1  # nothing is compared

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return a shift of 0 and gates of 1."""
        return ungated(next(self.buffers()).new_zeros(summaries.present.shape), self.sizes)
