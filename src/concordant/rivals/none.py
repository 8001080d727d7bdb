"""No calibration: the uncalibrated twin, with the same perturbations in training and nothing else."""

from __future__ import annotations

from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.passing import Passing


class NoCalibrator(Passing):
    """Pass the features on as they are; in training perturb them like every other calibrator.

    Args: as for `ContextualCalibrator`; it has no parameters, and no seed.

    >>> sum(p.numel() for p in NoCalibrator({"text": 4, "audio": 3}).parameters())
    0
    """

    has_reliability = False
    fewest = 1  # nothing is compared

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return a shift of 0 and gates of 1."""
        shift = next(self.buffers()).new_zeros(summaries.present.shape)
        ones = {name: shift.new_ones(shift.shape[0], size) for name, size in self.sizes.items()}
        return Modulation(shift, ones)
