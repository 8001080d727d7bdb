"""Fusion by summation: a linear layer a stream, and the logits added up.

One of the four joint heads of the audio-visual balance benchmarks (OGM-GE, Peng et al., CVPR 2022), for any
number of streams. A stream that is absent adds nothing, not even its bias.
Shapes: pooled vectors (B, P_m) -> logits (B, C) a stream -> their sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec
from concordant.fusion.convolutional.streams import StreamFusion


class SumLogits(StreamFusion):
    """Classify every stream by itself and add the logits. Args: as for `StreamFusion`."""

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        *,
        classes: int,
        grid: int = 1,
        dropout: float = 0.0,
        at: str = "maps",
    ) -> None:
        super().__init__(features, classes=classes, grid=grid, dropout=dropout, at=at)
        self.heads = nn.ModuleDict({name: nn.Linear(self.widths[name], classes) for name in self.names})

    def classify(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C)."""
        logits = []
        for name in self.names:
            own = self.heads[name](self.dropout(vectors[name]))
            logits.append(torch.where(here[name].unsqueeze(1), own, 0) if name in here else own)
        return torch.stack(logits).sum(0)
