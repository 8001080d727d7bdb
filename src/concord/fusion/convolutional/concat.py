"""Convolutional fusion by concatenation: every stream's feature map averaged onto a small grid, joined, classified.

The joint baseline of the audio-visual balance benchmarks (OGM-GE, Peng et al., CVPR 2022), which average
over the whole map; small inputs keep a coarse grid, since little else says where something is.
Shapes: maps (B, D_m, H, W) -> (B, D_m * grid * grid), vectors (B, D_m), logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concord.fusion.base import FeatureSpec, Fusion, masked_mean


class ConcatMaps(Fusion):
    """Pool every stream, concatenate, classify by one linear layer.

    Args:
        features: modality -> what it hands over; maps "bchw", or vectors and sequences beside them.
        classes: number of logits.
        grid: rows and columns that a map keeps; 1 averages over the whole map.
        dropout: before the head, in training.
    """

    def __init__(
        self, features: Mapping[str, FeatureSpec], *, classes: int, grid: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes=classes)
        self.grid = grid
        joined = sum(s.size * (grid * grid if s.layout.name == "bchw" else 1) for s in features.values())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(joined, classes)

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C)."""
        pooled = [self._pooled(name, features, masks.get(name), present.get(name)) for name in self.names]
        logits: Tensor = self.head(self.dropout(torch.cat(pooled, 1)))
        return logits

    def _pooled(self, name: str, features: Mapping[str, Tensor], mask: Tensor | None, here: Tensor | None) -> Tensor:
        if self.specs[name].layout.name != "bchw":
            return masked_mean(self.positions(name, features), mask, here)
        x = features[name]
        if mask is None:
            cells = F.adaptive_avg_pool2d(x, self.grid)  # (B, D, grid, grid)
        else:  # the mean over a cell's valid places, 0 where it has none
            valid = mask.reshape(len(x), 1, *x.shape[2:])  # (B, 1, H, W)
            share = F.adaptive_avg_pool2d(valid.to(x.dtype), self.grid)
            sums = F.adaptive_avg_pool2d(torch.where(valid, x, 0), self.grid)
            cells = sums / torch.where(share > 0, share, 1)
        flat = cells.flatten(1)
        return flat if here is None else torch.where(here.unsqueeze(1), flat, 0)
