"""What rivals share that are not taught which modality was perturbed: they see it, and have losses of their own.

Shapes: as for every calibrator.
"""

from __future__ import annotations

from collections.abc import Mapping

from concordant.calibration.base import Calibrator
from concordant.calibration.perturbation import Perturbation


class Untaught(Calibrator):
    """Base of rivals without the loss on what was perturbed and without the contrastive one.

    Args:
        sizes: modality -> feature size.
        layouts: one for all, or modality -> layout; "auto" reads it off the number of axes.
        nonfinite: "raise", or "absent" to take a modality with NaN or infinity as absent.
        perturbation: what training inflicts unless the caller has; None or False = nothing.
        dropout: on what the rival sees, in training.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(
            sizes,
            layouts=layouts,
            nonfinite=nonfinite,
            perturbation=perturbation,
            clean_weight=0.0,
            agreement_weight=0.0,
            dropout=dropout,
        )
