"""Modality dropout: whole modalities are left out while training, so that none is relied upon alone.

Neverova et al., "ModDrop: Adaptive Multi-Modal Gesture Recognition", TPAMI 2016. What is left out counts as
absent; one modality at the least stays. Nothing is changed when predicting.
Shapes: features in their layouts, presence (B, M).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import UsageError
from concordant.rivals.passing import Passing
from concordant.rivals.untaught import Untaught


class ModalityDropout(Passing, Untaught):
    """Leave modalities out in training, each with the same probability. It has no parameters.

    Args: as for `Untaught`, with
        probability: that a modality of an instance is left out; 0.2.

    Raises:
        UsageError: `probability` is not in [0, 1).
    """

    has_reliability = False

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        probability: float = 0.2,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        dropout: float = 0.1,
    ) -> None:
        if not 0 <= probability < 1:
            raise UsageError(f"probability must lie in [0, 1); found {probability}")
        super().__init__(sizes, layouts=layouts, nonfinite=nonfinite, perturbation=perturbation, dropout=dropout)
        self.probability = probability

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return a shift of 0 and gates of 1, and in training what is kept."""
        shift = next(self.buffers()).new_zeros(summaries.present.shape)
        ones = {name: shift.new_ones(shift.shape[0], size) for name, size in self.sizes.items()}
        kept = None
        if self.training and self.probability:
            draws = torch.rand(summaries.present.shape, device=shift.device)
            kept = keep_one(draws >= self.probability, summaries.present, draws)
        return Modulation(shift, ones, kept=kept)


def keep_one(kept: Tensor, present: Tensor, preference: Tensor) -> Tensor:
    """Return what is kept, bool (B, M), with one present modality at the least: the one most preferred."""
    none = ~(kept & present).any(1, keepdim=True)
    best = torch.where(present, preference, -torch.inf).argmax(1, keepdim=True)
    saved = torch.zeros_like(kept).scatter(1, best, value=True)
    return kept | (none & saved)
