"""Late fusion by a small dense network (LF-DNN): pooled features side by side, one hidden layer, the head.

The baseline of that name in the sentiment literature, for any number of modalities.
Shapes: features (B, L, D_m), pooled to (B, D_m), joined to (B, D_1 + ... + D_M), hidden (B, W), logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec, Fusion, masked_mean


class LateDense(Fusion):
    """Pool every modality, concatenate, classify.

    Args:
        features: modality -> what it hands over.
        classes: number of logits.
        hidden: width of the hidden layer; 128 as in MMSA's.
        dropout: before the hidden layer and the head, in training.
    """

    def __init__(
        self, features: Mapping[str, FeatureSpec], *, classes: int, hidden: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes=classes)
        joined = sum(spec.size for spec in features.values())
        self.hidden = nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, classes)

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C)."""
        pooled = [
            masked_mean(self.positions(name, features), masks.get(name), present.get(name)) for name in self.names
        ]
        logits: Tensor = self.head(self.hidden(torch.cat(pooled, 1)))
        return logits
