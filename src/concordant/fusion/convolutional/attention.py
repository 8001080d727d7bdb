"""Fusion by cross-attention between feature maps: the places of each modality attend to those of all others.

The places of every map, averaged onto a grid where there are many, become tokens with their position. One crossmodal
block per modality (Tsai et al., ACL 2019, here without its deeper stacks, as in audio-visual cross-attention) attends
to the tokens of all others; its output is averaged over the valid places, joined and classified. Absent modalities are
ignored.
Shapes: maps (B, D_m, H, W) or (B, D_m, T, H, W) -> tokens (B, L_m, W) -> means (B, M W) -> logits (B, C).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.fusion.attention import AttentionBlock, known_steps, sinusoids, valid_steps
from concordant.fusion.base import FeatureSpec, Fusion, Specs, Tensors, masked_mean, register
from concordant.modalities import to_positions


@register(
    "attention",
    setting="convolutional",
    summary="the places of each map attend to those of the others, then pooling",
    paper="crossmodal attention of Tsai et al., ACL 2019",
    small={"width": 64, "heads": 4, "grid": 4},
    points=("maps",),
)
class MapAttention(Fusion):
    """Cross-attention between maps, then pooling, concatenation and a linear head.

    Args: as for `Fusion`, with
        width: of a token; even.
        heads: attention heads.
        grid: rows, columns and frames that a map keeps; 7, as a ResNet's map of a 224 pixel image has.
        dropout: in the blocks and before the head, in training.
    """

    def __init__(
        self, features: Specs, *, classes: int, width: int = 512, heads: int = 8, grid: int = 7, dropout: float = 0.1
    ) -> None:
        super().__init__(features, classes=classes)
        self.grid = grid
        self.project = nn.ModuleDict({name: nn.Linear(self.specs[name].size, width) for name in self.names})
        several = len(self.names) > 1
        self.across = nn.ModuleDict(
            {name: AttentionBlock(width, heads, cross=several, dropout=dropout) for name in self.names}
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width * len(self.names), classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        tokens, valid = {}, {}
        for name in self.names:
            places, known = coarse(features[name], self.meeting[name], masks.get(name), self.grid)
            valid[name] = valid_steps(places, known, present.get(name))
            token = self.project[name](known_steps(places, valid[name]))
            tokens[name] = token + sinusoids(token)
        means = []
        for name in self.names:
            others = [other for other in self.names if other != name] or [name]
            memory = torch.cat([tokens[other] for other in others], 1)
            seen = torch.cat([valid[other] for other in others], 1)
            x = self.across[name](tokens[name], memory if len(self.names) > 1 else None, ~seen)
            means.append(masked_mean(x, valid[name], valid[name].any(1)))
        logits: Tensor = self.head(self.dropout(torch.cat(means, 1)))
        return logits


def coarse(x: Tensor, spec: FeatureSpec, mask: Tensor | None, grid: int) -> tuple[Tensor, Tensor | None]:
    """Return a map's places (B, L, D), averaged onto a grid where there are more, and which are valid, (B, L).

    Sequences and vectors stay as they are.
    """
    name = spec.layout.name
    if name not in ("bchw", "bcthw") or max(x.shape[2:]) <= grid:
        return to_positions(x, spec.layout), mask
    size = [min(side, grid) for side in x.shape[2:]]
    if mask is None:
        return _pool(x, size).flatten(2).transpose(1, 2), None
    known = mask.reshape(x.shape[0], 1, *x.shape[2:])
    share = _pool(known.to(x.dtype), size)
    means = _pool(torch.where(known, x, 0), size) / torch.where(share > 0, share, 1)
    return means.flatten(2).transpose(1, 2), (share > 0).flatten(1)


def _pool(x: Tensor, size: list[int]) -> Tensor:
    if x.dim() == 4:
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    return F.adaptive_avg_pool3d(x, (size[0], size[1], size[2]))
