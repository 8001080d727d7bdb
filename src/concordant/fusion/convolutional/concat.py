"""Fusion by concatenation: the pooled streams side by side, classified by one linear layer.

The joint baseline of the audio-visual balance benchmarks (OGM-GE, Peng et al., CVPR 2022), for any number of
streams. Shapes: pooled vectors (B, P_m) -> (B, P_1 + ... + P_M) -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec
from concordant.fusion.convolutional.streams import StreamFusion


class ConcatMaps(StreamFusion):
    """Concatenate the pooled streams, classify by one linear layer. Args: as for `StreamFusion`."""

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
        self.head = nn.Linear(sum(self.widths.values()), classes)

    def classify(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.head(self.dropout(torch.cat([vectors[name] for name in self.names], 1)))
        return logits
