"""What passes features on as they are shares: it looks at no summaries, and scales nothing.

Shapes: features in their layouts.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from concordant.calibration.base import Calibrator, Pooled
from concordant.calibration.result import Summaries
from concordant.calibration.scaling import pass_on
from concordant.modalities import ModalityBatch


class Passing(Calibrator):
    """Base of what stands in the calibrator's place without touching the features."""

    def _pooled(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """Spare the work: nothing looks at summaries here."""
        return {}

    def _summaries(self, batch: ModalityBatch, perturbed: Tensor | None, pooled: Pooled | None = None) -> Summaries:
        """Spare the work: nothing looks at summaries here."""
        return Summaries({}, {}, batch.present)

    def _scaled(
        self,
        batch: ModalityBatch,
        reliability: Tensor,
        gates: Mapping[str, Tensor],
        stacked: Tensor | None = None,
        pooled: Pooled | None = None,
    ) -> dict[str, Tensor]:
        """Return the features as they are."""
        return pass_on(batch)
