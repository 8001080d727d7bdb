"""What passes features on as they are shares: it looks at no summaries, and scales nothing.

Shapes: features in their layouts.
"""

from __future__ import annotations

from concordant.calibration.base import Calibrator


class Passing(Calibrator):
    """Base of what stands in the calibrator's place without touching the features."""

    reads_summaries = False
    scales_features = False
