"""Gated fusion: one stream says, dimension by dimension, how much of the others goes on.

Kiela et al., "Efficient Large-Scale Multi-Modal Classification", AAAI 2018, as a head of the audio-visual
balance benchmarks (OGM-GE, CVPR 2022): a linear layer a stream to a common width, the sigmoid of one multiplied
by the other. With more than two streams the others are added up before. Where the gating stream is absent the
gate is the sigmoid of its layer's bias. With one modality alone there is no gate.
Shapes: gating (B, P_g) -> gate (B, W); others (B, P_m) -> (B, W); logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec
from concordant.fusion.convolutional.film import chosen
from concordant.fusion.convolutional.streams import StreamFusion


class GatedStreams(StreamFusion):
    """Gate the other streams by one, and classify what is left.

    Args: as for `StreamFusion`, with
        gating: the stream that gates; None = the first by name among those with fewest axes.
        width: of the common space; 512 as published.

    Raises:
        UsageError: no stream is called `gating`.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        *,
        classes: int,
        gating: str | None = None,
        width: int = 512,
        grid: int = 1,
        dropout: float = 0.0,
        at: str = "maps",
    ) -> None:
        super().__init__(features, classes=classes, grid=grid, dropout=dropout, at=at)
        self.gating = chosen("gating", gating, features, most_axes=False)
        self.layers = nn.ModuleDict({name: nn.Linear(self.widths[name], width) for name in self.names})
        self.head = nn.Linear(width, classes)

    def classify(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C)."""
        x = {name: self.layers[name](self.dropout(vectors[name])) for name in self.names}
        others = [x[name] for name in self.names if name != self.gating]
        passed = torch.stack(others).sum(0) * x[self.gating].sigmoid() if others else x[self.gating]
        logits: Tensor = self.head(passed)
        return logits
