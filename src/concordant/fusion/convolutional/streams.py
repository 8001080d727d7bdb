"""What the fusions of pooled streams share: every stream's map averaged onto a small grid, then a joint head.

The streams are apart until they are pooled, so that a calibrator can stand before the pooling, on the maps,
or behind it, on the vectors. The published audio-visual benchmarks average over the whole map (OGM-GE, Peng
et al., CVPR 2022); small inputs keep a coarse grid, since little else says where something is.
Shapes: maps (B, D_m, H, W) or (B, D_m, T, H, W) -> (B, D_m * grid * grid); vectors and sequences -> (B, D_m).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.base import FeatureSpec, Fusion, masked_mean
from concordant.modalities import LAYOUTS, to_positions

POINTS = ("maps", "pooled")


def pooled_size(spec: FeatureSpec, grid: int) -> int:
    """Return the length of a stream's pooled vector."""
    return spec.size * (grid * grid if spec.layout.name in ("bchw", "bcthw") else 1)


def pool_stream(x: Tensor, spec: FeatureSpec, mask: Tensor | None, here: Tensor | None, grid: int) -> Tensor:
    """Return the means over a grid's cells (maps) or over all positions, flat, (B, `pooled_size`).

    Args:
        x: features in the layout of `spec`; frames (B, D, T, H, W) are averaged over time as well.
        spec: what the stream hands over.
        mask: bool (B, L), True at valid positions, or None.
        here: bool (B,), True where the instance has the modality, or None; the rest become 0.
        grid: rows and columns.
    """
    if spec.layout.name not in ("bchw", "bcthw"):
        return masked_mean(to_positions(x, spec.layout), mask, here)
    if mask is None:
        still = x if x.dim() == 4 else x.mean(2)
        cells = F.adaptive_avg_pool2d(still, grid)  # (B, D, grid, grid)
    else:  # the mean over a cell's valid places, 0 where it has none
        valid = mask.reshape(x.shape[0], 1, *x.shape[2:])  # (B, 1, [T,] H, W)
        known, count = torch.where(valid, x, 0), valid.to(x.dtype)
        if x.dim() == 5:
            known, count = known.mean(2), count.mean(2)
        share = F.adaptive_avg_pool2d(count, grid)
        cells = F.adaptive_avg_pool2d(known, grid) / torch.where(share > 0, share, 1)
    flat = cells.flatten(1)
    return flat if here is None else torch.where(here.unsqueeze(1), flat, 0)


class StreamFusion(Fusion):
    """Base of the fusions that join pooled streams; a subclass says how in `classify`.

    Args:
        features: modality -> what it hands over; maps, or vectors and sequences beside them.
        classes: number of logits.
        grid: rows and columns that a map keeps; 1 averages over the whole map, as published.
        dropout: on the pooled vectors, in training; 0 as published.
        at: where a calibrator stands, on the "maps" or on the "pooled" vectors.

    Raises:
        UsageError: another `at`.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        *,
        classes: int,
        grid: int = 1,
        dropout: float = 0.0,
        at: str = "maps",
    ) -> None:
        super().__init__(features, classes=classes)
        if at not in POINTS:
            raise UsageError(f"at must be one of {', '.join(POINTS)}; found {at!r}")
        self.grid, self.at = grid, at
        self.widths = {name: pooled_size(self.specs[name], grid) for name in self.names}
        if at == "pooled":
            self.meeting = {name: FeatureSpec(self.widths[name], LAYOUTS["bd"]) for name in features}
        self.dropout = nn.Dropout(dropout)

    def encode(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Pool the streams where the calibrator stands behind the pooling."""
        if self.at == "maps":
            return dict(features), dict(masks)
        return {name: self._pool(name, x, masks, present) for name, x in features.items()}, {}

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C)."""
        vectors, known = {}, {}
        for name in self.names:
            here = present.get(name)
            if name in masks:
                has = masks[name].any(1)
                here = has if here is None else here & has
            if here is not None:
                known[name] = here
            if self.at == "maps":
                vectors[name] = self._pool(name, features[name], masks, present)
            else:
                vectors[name] = features[name] if here is None else torch.where(here.unsqueeze(1), features[name], 0)
        return self.classify(vectors, known)

    def classify(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> Tensor:
        """Return logits (B, C).

        Args:
            vectors: stream -> its pooled vector (B, `widths[name]`), 0 where it is absent.
            here: stream -> bool (B,), True where it is present; no entry means everywhere.
        """
        raise NotImplementedError

    def _pool(self, name: str, x: Tensor, masks: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        return pool_stream(x, self.specs[name], masks.get(name), present.get(name), self.grid)
