"""No calibration: the uncalibrated twin, trained on clean batches or, as `none+perturbed`, with the perturbations."""

from __future__ import annotations

from concordant.calibration.base import Calibrator
from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.base import CALIBRATORS, CalibratorEntry, register, ungated

TWIN = "none+perturbed"


@register("none", "no calibration: the uncalibrated twin", perturbed=False)
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


CALIBRATORS.add(
    TWIN,
    CalibratorEntry(NoCalibrator, "none, with perturbations in training", stream="none"),
    listed=False,
)
