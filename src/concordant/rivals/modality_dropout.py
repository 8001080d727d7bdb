"""Modality dropout: whole modalities are removed at random in training, to reduce the reliance on any single one.

Neverova et al., "ModDrop: Adaptive Multi-Modal Gesture Recognition", TPAMI 2016. A removed modality counts as absent;
at least one stays. Nothing is changed when predicting.
Shapes: features in their layouts, presence (B, M).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch

from concordant.calibration.base import SharedOptions
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import Rival, keep_one, register, ungated


@register("modality-dropout", "whole modalities left out while training (ModDrop)", "Neverova et al., TPAMI 2016")
class ModalityDropout(Rival):
    """Remove modalities in training, each with the same probability. It has no parameters.

    Args: as for `Rival`, with
        probability: of the removal of a modality of an instance; 0.2.

    Raises:
        UsageError: `probability` is not in [0, 1).
    """

    has_reliability = False
    reads_summaries = False
    scales_features = False

    def __init__(self, sizes: Mapping[str, int], *, probability: float = 0.2, **options: Unpack[SharedOptions]) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            self.probability = check.number("probability", probability, 0, 1)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return a shift of 0 and gates of 1, and in training which modalities are kept."""
        shift, kept = next(self.buffers()).new_zeros(summaries.present.shape), None
        if self.training and self.probability:
            draws = torch.rand(summaries.present.shape, device=shift.device)
            kept = keep_one(draws >= self.probability, summaries.present, draws)
        return ungated(shift, self.sizes, kept=kept)
