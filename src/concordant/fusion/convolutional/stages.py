"""What fusions in the middle of the network share: further stages of each stream, between which they meet.

A stage is one of a ResNet (He et al., CVPR 2016, in transformers' implementation), which halves a map, or one
small convolution; of what is no map, a linear layer. Places that are not valid enter a stage as zeros; frames
without a valid place do not enter batch normalisation at all.
Shapes: maps (B, D, H, W) or (B, D, T, H, W), the frames one by one; else steps (B, L, D); masks (B, L).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.encoders.resnet import frame_by_frame
from concordant.errors import ConcordantError, UsageError
from concordant.fusion.base import FeatureSpec
from concordant.modalities import over_positions, to_positions

BLOCKS = ("resnet", "small")
GROUPS = 4  # of channels that a small stage normalises together
DEPTH = 2  # basic blocks of a ResNet-18's stage


class Stage(nn.Module):
    """One further stage of one stream.

    Args:
        spec: what comes in.
        width: channels that come out.
        blocks: "resnet" or "small"; for maps.

    Raises:
        UsageError: other `blocks`.
        ConcordantError: "resnet" without transformers.
    """

    def __init__(self, spec: FeatureSpec, width: int, *, blocks: str) -> None:
        super().__init__()
        if blocks not in BLOCKS:
            raise UsageError(f"blocks must be one of {', '.join(BLOCKS)}; found {blocks!r}")
        self.spec = FeatureSpec(width, spec.layout)
        self.normalises_by_batch = blocks == "resnet"
        self.map = spec.layout.name in ("bchw", "bcthw")
        if not self.map:
            self.layers: nn.Module = nn.Sequential(nn.Linear(spec.size, width), nn.LayerNorm(width), nn.ReLU())
        elif blocks == "resnet":
            self.layers = _resnet_stage(spec.size, width)
        else:
            convolution = nn.Conv2d(spec.size, width, 3, padding=1, bias=False)
            self.layers = nn.Sequential(convolution, nn.GroupNorm(math.gcd(GROUPS, width), width), nn.ReLU())

    def forward(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return what comes out, and its mask: of a halved map a place is valid where any of its sources was.

        Args:
            x: a map as it is; anything else as (B, L, D).
            valid: bool (B, L), or None.
        """
        if not self.map:
            known = x if valid is None else torch.where(valid.unsqueeze(2), x, 0)
            return self.layers(known), valid
        known = x if valid is None else torch.where(over_positions(valid, x, self.spec.layout), x, 0)
        frames = known if x.dim() == 4 else known.transpose(1, 2).flatten(0, 1)  # (B*T, D, H, W)
        keep = None if valid is None else valid.reshape(frames.shape[0], -1).any(1)
        out: Tensor = self._maps(frames, keep)
        if x.dim() == 5:
            out = out.reshape(x.shape[0], x.shape[2], *out.shape[1:]).transpose(1, 2)
        if valid is None or out.shape[2:] == x.shape[2:]:
            return out, valid
        places = valid.reshape(x.shape[0], -1, *x.shape[-2:]).to(x.dtype)  # (B, 1 or T, H, W)
        return out, F.adaptive_max_pool2d(places, out.shape[-2:]).flatten(1) > 0

    def _maps(self, frames: Tensor, keep: Tensor | None) -> Tensor:
        if not self.normalises_by_batch:
            out: Tensor = self.layers(frames)
            return out
        return frame_by_frame(self.layers, frames, keep, training=self.training, size=self.spec.size)


class Streams:
    """Features on their way through stages, with what is valid of them.

    Args:
        features: modality -> a map as it is, anything else as (B, L, D).
        valid: modality -> bool (B, L), or None where all is.
    """

    def __init__(self, features: dict[str, Tensor], valid: dict[str, Tensor | None]) -> None:
        self.features = features
        self.valid = valid


def enter(
    features: Mapping[str, Tensor],
    specs: Mapping[str, FeatureSpec],
    masks: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> Streams:
    """Return features as stages take them; an absent modality has no valid position."""
    taken, valid = {}, dict[str, Tensor | None]()
    for name, spec in specs.items():
        x = features[name]
        taken[name] = x if spec.layout.name in ("bchw", "bcthw") else to_positions(x, spec.layout)
        mask, here = masks.get(name), present.get(name)
        if here is not None:
            length = to_positions(x, spec.layout).shape[1]
            mask = here.unsqueeze(1).expand(-1, length) if mask is None else mask & here.unsqueeze(1)
        valid[name] = mask
    return Streams(taken, valid)


def places_of(x: Tensor, spec: FeatureSpec) -> Tensor:
    """Return what is on its way as (B, L, D)."""
    return to_positions(x, spec.layout) if spec.layout.name in ("bchw", "bcthw") else x


def widths_of(specs: Mapping[str, FeatureSpec], widths: Sequence[int] | None) -> tuple[int, ...]:
    """Return the channels behind each stage; None = twice the widest stream's, and twice that, as in a ResNet.

    Raises:
        UsageError: no width, or one below 1.
    """
    if widths is None:
        widest = max(spec.size for spec in specs.values())
        return (2 * widest, 4 * widest)
    if not widths or min(widths) < 1:
        raise UsageError(f"widths must be one or more positive integers; found {tuple(widths)}")
    return tuple(widths)


def _resnet_stage(inputs: int, width: int) -> nn.Module:
    try:
        from transformers import ResNetConfig
        from transformers.models.resnet.modeling_resnet import ResNetStage
    except ImportError:
        raise ConcordantError(
            "ResNet stages need transformers, which is not installed: pip install 'concordant[experiments]'"
        ) from None
    stage: nn.Module = ResNetStage(ResNetConfig(layer_type="basic"), inputs, width, stride=2, depth=DEPTH)
    return stage
