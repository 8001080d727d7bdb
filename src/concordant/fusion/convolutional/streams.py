"""Fusions of pooled streams: every map is averaged onto a small grid, then a joint head classifies.

The joint heads of the audio-visual balance benchmarks (OGM-GE, Peng et al., CVPR 2022), for any number of streams:
concatenation, summation, FiLM (Perez et al., "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI 2018) and
gating (Kiela et al., "Efficient Large-Scale Multi-Modal Classification", AAAI 2018). A calibrator can stand before the
pooling, on the maps, or after it, on the vectors. These benchmarks average over the whole map; small inputs keep a
coarse grid, which is nearly the only information on location.
Shapes: maps (B, D_m, H, W) or (B, D_m, T, H, W) -> (B, P_m) with P_m = D_m * grid * grid; vectors and sequences ->
(B, D_m); logits (B, C).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.base import (
    Encoded,
    FeatureSpec,
    Fusion,
    Specs,
    Tensors,
    masked_mean,
    presence_of,
    register,
    zero_absent,
)
from concordant.modalities import LAYOUTS, to_positions

POINTS = ("maps", "pooled")


class StreamFusion(Fusion):
    """Base class of the fusions of pooled streams; a subclass defines `classify`.

    Args: as for `Fusion`, with
        grid: rows and columns that a map keeps; 1 averages over the whole map, as published.
        dropout: on the pooled vectors, in training; 0 as published.
        at: where a calibrator stands, on the "maps" or on the "pooled" vectors.

    Raises:
        UsageError: another `at`.
    """

    def __init__(self, features: Specs, *, classes: int, grid: int = 1, dropout: float = 0.0, at: str = "maps") -> None:
        super().__init__(features, classes=classes)
        if at not in POINTS:
            raise UsageError(f"at must be one of {', '.join(POINTS)}; found {at!r}")
        self.grid, self.at = grid, at
        self.widths = {name: pooled_size(self.specs[name], grid) for name in self.names}
        if at == "pooled":
            self.meeting = {name: FeatureSpec(self.widths[name], LAYOUTS["bd"]) for name in features}
        self.dropout = nn.Dropout(dropout)

    def encode(self, features: Tensors, masks: Tensors, present: Tensors) -> Encoded:
        """Pool the streams if the calibrator stands after the pooling."""
        if self.at == "maps":
            return dict(features), dict(masks)
        return {name: self._pool(name, x, masks, present) for name, x in features.items()}, {}

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        vectors, known = {}, {}
        for name in self.names:
            here = presence_of(name, masks, present)
            if here is not None:
                known[name] = here
            if self.at == "maps":
                vectors[name] = self._pool(name, features[name], masks, present)
            else:
                vectors[name] = zero_absent(features[name], here)
        return self.classify(vectors, known)

    def classify(self, vectors: Tensors, here: Tensors) -> Tensor:
        """Return logits (B, C).

        Args:
            vectors: stream -> pooled vector (B, `widths[name]`), 0 where it is absent.
            here: stream -> bool (B,), True where it is present; no entry = everywhere.
        """
        raise NotImplementedError

    def _pool(self, name: str, x: Tensor, masks: Tensors, present: Tensors) -> Tensor:
        return pool_stream(x, self.specs[name], masks.get(name), present.get(name), self.grid)


@register(
    "concat",
    setting="convolutional",
    summary="feature maps averaged onto a grid, side by side, one linear layer",
    paper="the joint baseline of OGM-GE (Peng et al., CVPR 2022)",
    small={"grid": 2},
    points=POINTS,
    late=True,
)
class ConcatMaps(StreamFusion):
    """Concatenate the pooled streams, and classify by one linear layer. Args: as for `StreamFusion`."""

    def __init__(self, features: Specs, *, classes: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(features, classes=classes, **options)
        self.head = nn.Linear(sum(self.widths.values()), classes)

    def classify(self, vectors: Tensors, here: Tensors) -> Tensor:
        """Return logits (B, C)."""
        logits: Tensor = self.head(self.dropout(torch.cat([vectors[name] for name in self.names], 1)))
        return logits


@register(
    "sum",
    setting="convolutional",
    summary="pooled maps, one linear layer per stream, logits added up",
    paper="the summation baseline of OGM-GE (Peng et al., CVPR 2022)",
    small={"grid": 2},
    points=POINTS,
    late=True,
    head=False,
)
class SumLogits(StreamFusion):
    """Classify every stream alone and add the logits; an absent stream adds nothing, not even its bias.

    Args: as for `StreamFusion`.
    """

    def __init__(self, features: Specs, *, classes: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(features, classes=classes, **options)
        self.heads = nn.ModuleDict({name: nn.Linear(self.widths[name], classes) for name in self.names})

    def classify(self, vectors: Tensors, here: Tensors) -> Tensor:
        """Return logits (B, C)."""
        logits = {name: self.heads[name](self.dropout(vectors[name])) for name in self.names}
        return torch.stack([zero_absent(own, here.get(name)) for name, own in logits.items()]).sum(0)


@register(
    "film",
    setting="convolutional",
    summary="pooled maps, one stream scaled and shifted by the others",
    paper="Perez et al., AAAI 2018",
    small={"grid": 2},
    points=POINTS,
)
class FilmStreams(StreamFusion):
    """Scale one stream by 1 + gamma, shift it by beta, and classify it; a single stream is only classified.

    One linear layer maps the other streams, side by side (B, Q), to gamma and beta (B, P).

    Args: as for `StreamFusion`, with
        modulated: the stream that is scaled and shifted; None = the first by name among those with most axes.

    Raises:
        UsageError: no stream has the name `modulated`.
    """

    def __init__(self, features: Specs, *, classes: int, modulated: str | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(features, classes=classes, **options)
        self.modulated = _chosen("modulated", modulated, features, most_axes=True)
        self.conditioning = tuple(name for name in self.names if name != self.modulated)
        width = self.widths[self.modulated]
        inputs = sum(self.widths[name] for name in self.conditioning)
        self.film = nn.Linear(inputs, 2 * width) if self.conditioning else None
        self.head = nn.Linear(width, classes)

    def classify(self, vectors: Tensors, here: Tensors) -> Tensor:
        """Return logits (B, C)."""
        x = vectors[self.modulated]
        if self.film is not None:
            gamma, beta = self.film(torch.cat([vectors[name] for name in self.conditioning], 1)).chunk(2, 1)
            x = (1 + gamma) * x + beta
        logits: Tensor = self.head(self.dropout(x))
        return logits


@register(
    "gated",
    setting="convolutional",
    summary="pooled maps, one stream gates the others",
    paper="Kiela et al., AAAI 2018",
    small={"grid": 2, "width": 64},
    points=POINTS,
)
class GatedStreams(StreamFusion):
    """Multiply the other streams, projected to a common width and added, by the sigmoid of one; classify the product.

    Where the gating stream is absent, the gate is the sigmoid of its layer's bias. A single stream has no gate.

    Args: as for `StreamFusion`, with
        gating: the stream that gates; None = the first by name among those with fewest axes.
        width: of the common space; 512 as published.

    Raises:
        UsageError: no stream has the name `gating`.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        gating: str | None = None,
        width: int = 512,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(features, classes=classes, **options)
        self.gating = _chosen("gating", gating, features, most_axes=False)
        self.layers = nn.ModuleDict({name: nn.Linear(self.widths[name], width) for name in self.names})
        self.head = nn.Linear(width, classes)

    def classify(self, vectors: Tensors, here: Tensors) -> Tensor:
        """Return logits (B, C)."""
        x = {name: self.layers[name](self.dropout(vectors[name])) for name in self.names}
        others = [x[name] for name in self.names if name != self.gating]
        gated = torch.stack(others).sum(0) * x[self.gating].sigmoid() if others else x[self.gating]
        logits: Tensor = self.head(gated)
        return logits


def pooled_size(spec: FeatureSpec, grid: int) -> int:
    """Return P_m, the length of a stream's pooled vector."""
    return spec.size * (grid * grid if spec.layout.name in ("bchw", "bcthw") else 1)


def pool_stream(x: Tensor, spec: FeatureSpec, mask: Tensor | None, here: Tensor | None, grid: int) -> Tensor:
    """Return the means over a grid's cells (maps) or over all positions, flat, (B, P_m).

    Args:
        x: features in the layout of `spec`; frames (B, D, T, H, W) are averaged over time as well.
        spec: feature size and layout.
        mask: bool (B, L), True at valid positions, or None.
        here: bool (B,), True where the instance has the modality, or None; the other rows become 0.
        grid: rows and columns.
    """
    if spec.layout.name not in ("bchw", "bcthw"):
        return masked_mean(to_positions(x, spec.layout), mask, here)
    if mask is None:
        still = x if x.dim() == 4 else x.mean(2)
        cells = F.adaptive_avg_pool2d(still, grid)  # (B, D, grid, grid)
    else:  # the mean over a cell's valid places, 0 without any
        valid = mask.reshape(x.shape[0], 1, *x.shape[2:])  # (B, 1, [T,] H, W)
        known, count = torch.where(valid, x, 0), valid.to(x.dtype)
        if x.dim() == 5:
            known, count = known.mean(2), count.mean(2)
        share = F.adaptive_avg_pool2d(count, grid)
        cells = F.adaptive_avg_pool2d(known, grid) / torch.where(share > 0, share, 1)
    return zero_absent(cells.flatten(1), here)


def _chosen(argument: str, name: str | None, features: Specs, *, most_axes: bool) -> str:
    """Return the named stream, or the first by name among those with most (or fewest) axes."""
    if name is None:
        sign = -1 if most_axes else 1
        return min(features, key=lambda one: (sign * len(features[one].layout.name), one))
    if name not in features:
        raise UsageError(f"{argument} must name one of {', '.join(sorted(features))}; found {name!r}")
    return name
