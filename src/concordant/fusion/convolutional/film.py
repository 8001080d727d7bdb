"""Fusion by FiLM: the other streams scale and shift the features of one.

Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018, as a head of the
audio-visual balance benchmarks (OGM-GE, CVPR 2022): one linear layer makes scale and shift, 1 + gamma and beta,
of the conditioning streams side by side. With one modality alone there is nothing to condition on, and what is
left is a linear layer.
Shapes: modulated (B, P), conditioning (B, Q) -> gamma, beta (B, P) -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.base import FeatureSpec
from concordant.fusion.convolutional.streams import StreamFusion


def chosen(argument: str, name: str | None, features: Mapping[str, FeatureSpec], *, most_axes: bool) -> str:
    """Return the stream that an argument names, or the first by name among those with most (or fewest) axes.

    Raises:
        UsageError: no stream has that name.
    """
    if name is None:
        sign = -1 if most_axes else 1
        return min(features, key=lambda one: (sign * len(features[one].layout.name), one))
    if name not in features:
        raise UsageError(f"{argument} must name one of {', '.join(sorted(features))}; found {name!r}")
    return name


class FilmStreams(StreamFusion):
    """Scale and shift one stream by the others, and classify it.

    Args: as for `StreamFusion`, with
        modulated: the stream that is scaled and shifted; None = the first by name among those with most axes.

    Raises:
        UsageError: no stream is called `modulated`.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        *,
        classes: int,
        modulated: str | None = None,
        grid: int = 1,
        dropout: float = 0.0,
        at: str = "maps",
    ) -> None:
        super().__init__(features, classes=classes, grid=grid, dropout=dropout, at=at)
        self.modulated = chosen("modulated", modulated, features, most_axes=True)
        self.conditioning = tuple(name for name in self.names if name != self.modulated)
        width = self.widths[self.modulated]
        seen = sum(self.widths[name] for name in self.conditioning)
        self.film = nn.Linear(seen, 2 * width) if self.conditioning else None
        self.head = nn.Linear(width, classes)

    def classify(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C)."""
        x = vectors[self.modulated]
        if self.film is not None:
            gamma, beta = self.film(torch.cat([vectors[name] for name in self.conditioning], 1)).chunk(2, 1)
            x = (1 + gamma) * x + beta
        logits: Tensor = self.head(self.dropout(x))
        return logits
