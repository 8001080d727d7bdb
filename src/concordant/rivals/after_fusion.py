"""Calibration after fusion: the contextual calibrator's judgement, applied to what the head sees.

The question of arXiv 2606.02679 is whether to ask what to keep before fusion. Here everything is as there, summaries,
comparison, cues, losses and perturbations, but the original features pass as they are: what every modality's judge
says, its reliability times a gate, scales the fused vector instead, the mean over the modalities that are present. The
gates are as wide as that vector, and start at exactly 1.
Shapes: reliability (B, M), gates (B, H) a modality -> scale (B, H) of the vector before the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch

from concordant.calibration.base import zero_linear
from concordant.calibration.calibrator import ContextualCalibrator, ModalityHead
from concordant.calibration.result import Calibration
from concordant.errors import UsageError


class AfterFusion(ContextualCalibrator):
    """Judge the modalities as the contextual calibrator does, and scale the fused vector by it.

    Args: as for `ContextualCalibrator`, with
        fused: width of what the head sees, H.

    Raises:
        UsageError: `fused` is below 1, or as for `ContextualCalibrator`.
    """

    scales_features = False

    def __init__(self, sizes: Mapping[str, int], *, fused: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(sizes, **options)
        if fused < 1:
            raise UsageError(f"fused must be 1 or more; found {fused}")
        for name in self.names:
            cast(ModalityHead, self.heads[name]).gate = zero_linear(self.comparison_size, fused)

    def forward(self, *args: Any, **options: Any) -> Calibration:  # noqa: ANN401
        """Return the features as they are, and the scale of the fused vector; arguments as for every calibrator."""
        found: Calibration = super().forward(*args, **options)
        scale = torch.stack([found.gates[name] for name in self.names], 1) * found.reliability.unsqueeze(2)  # (B, M, H)
        count = found.present.sum(1, keepdim=True).clamp(min=1)  # reliability is 0 where absent
        ones = {name: found.reliability.new_ones(len(found.reliability), size) for name, size in self.sizes.items()}
        return replace(found, gates=ones, fused=scale.sum(1) / count)
