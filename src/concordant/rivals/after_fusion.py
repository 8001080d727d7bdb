"""Calibration after fusion: the contextual calibrator's modulation, applied to the vector before the head.

arXiv 2606.02679 calibrates before fusion; this rival tests whether that matters. Summaries, comparison, cues, losses
and perturbations are the same, but the original features pass unchanged. The mean of reliability times gate over the
present modalities scales the fused vector instead. The gates are as wide as that vector, and start at exactly 1.
Shapes: reliability (B, M), gates (B, H) per modality -> scale (B, H) of the vector before the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack, cast

import torch

from concordant.calibration.base import zero_linear
from concordant.calibration.calibrator import ContextualCalibrator, ContextualOptions, ModalityHead
from concordant.calibration.result import Calibration
from concordant.errors import checks
from concordant.rivals.base import register


@register(
    "after-fusion",
    "context, applied to the vector before the head instead of the original features",
    "arXiv 2606.02679",
    listed=False,
    unimodal=True,
    stream="context",
)
class AfterFusion(ContextualCalibrator):
    """Scale the vector before the fusion's head by the contextual calibrator's modulation.

    Args: as for `ContextualCalibrator`, with
        fused: width of the vector before the head, H.

    Raises:
        UsageError: `fused` is below 1, or as for `ContextualCalibrator`.
    """

    scales_features = False
    after_fusion = True

    def __init__(self, sizes: Mapping[str, int], *, fused: int, **options: Unpack[ContextualOptions]) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            fused = check.integer("fused", fused, 1)
        for name in self.names:
            cast(ModalityHead, self.heads[name]).gate = zero_linear(self.comparison_size, fused)

    def forward(self, *args: Any, **options: Any) -> Calibration:  # noqa: ANN401
        """Return the features unchanged, and the scale of the fused vector; arguments as for every calibrator."""
        found: Calibration = super().forward(*args, **options)
        scale = torch.stack([found.gates[name] for name in self.names], 1) * found.reliability.unsqueeze(2)  # (B, M, H)
        count = found.present.sum(1, keepdim=True).clamp(min=1)  # reliability is 0 where absent
        ones = {name: found.reliability.new_ones(len(found.reliability), size) for name, size in self.sizes.items()}
        return replace(found, gates=ones, fused=scale.sum(1) / count)
