"""Late fusion by a small dense network (LF-DNN): pooled features side by side, one hidden layer, one head.

A baseline of the sentiment literature, for any number of modalities.
Shapes: features (B, L, D_m), pooled to (B, D_m), joined to (B, D_1 + ... + D_M), hidden (B, W), logits (B, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.fusion.base import Fusion, Specs, Tensors, masked_mean, register


@register(
    "lf-dnn",
    setting="vector",
    summary="pooled features side by side, one hidden layer (late fusion)",
    paper="the LF-DNN baseline of MMSA (Yu et al., ACL 2020)",
    small={"hidden": 64},
    late=True,
)
class LateDense(Fusion):
    """Pool every modality, concatenate, classify.

    Args: as for `Fusion`, with
        hidden: width of the hidden layer; 128 as in MMSA's.
        dropout: before the hidden layer and the head, in training.
    """

    def __init__(self, features: Specs, *, classes: int, hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__(features, classes=classes)
        joined = sum(spec.size for spec in features.values())
        self.hidden = nn.Sequential(nn.Linear(joined, hidden), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(hidden, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        pooled = [
            masked_mean(self.positions(name, features), masks.get(name), present.get(name)) for name in self.names
        ]
        logits: Tensor = self.head(self.hidden(torch.cat(pooled, 1)))
        return logits
