"""Base class of fusions inside the network: further stages of each stream, between which the streams interact.

A stage is one of a ResNet (He et al., CVPR 2016, in transformers' implementation), which halves a map, or one small
convolution; for vectors and sequences, a linear layer. Invalid places enter a stage as zeros; frames without a valid
place do not enter batch normalisation at all.
Shapes: maps (B, D, H, W) or (B, D, T, H, W), processed frame by frame; else steps (B, L, D); masks (B, L).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.encoders.resnet import frame_by_frame
from concordant.errors import UsageError, needs_extra
from concordant.fusion.base import FeatureSpec, Fusion, Specs, Tensors, masked_mean
from concordant.modalities import over, to_positions

BLOCKS = ("resnet", "small")
MAPS = ("bchw", "bcthw")
GROUPS = 4  # of channels that a small stage normalises together
DEPTH = 2  # basic blocks of a ResNet-18's stage

State = dict[str, tuple[Tensor, Tensor | None]]  # modality -> a map, or steps (B, L, D); valid positions (B, L)


class Stage(nn.Module):
    """One further stage of one stream.

    Args:
        spec: size and layout of the input; `self.spec` is that of the output.
        width: channels of the output.
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
        self.map = spec.layout.name in MAPS
        if not self.map:
            self.layers: nn.Module = nn.Sequential(nn.Linear(spec.size, width), nn.LayerNorm(width), nn.ReLU())
        elif blocks == "resnet":
            self.layers = _resnet_stage(spec.size, width)
        else:
            convolution = nn.Conv2d(spec.size, width, 3, padding=1, bias=False)
            self.layers = nn.Sequential(convolution, nn.GroupNorm(math.gcd(GROUPS, width), width), nn.ReLU())

    def forward(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the output and its mask; a place of a halved map is valid if any of its sources was.

        Args:
            x: a map in its layout, or steps (B, L, D).
            valid: bool (B, L), or None.
        """
        if not self.map:
            known = x if valid is None else torch.where(valid.unsqueeze(2), x, 0)
            return self.layers(known), valid
        known = x if valid is None else torch.where(over(valid.unsqueeze(2), x, self.spec.layout), x, 0)
        frames = known if x.dim() == 4 else known.transpose(1, 2).flatten(0, 1)  # (B*T, D, H, W)
        if self.normalises_by_batch:
            keep = None if valid is None else valid.reshape(frames.shape[0], -1).any(1)
            out = frame_by_frame(self.layers, frames, keep, training=self.training, size=self.spec.size)
        else:
            out = self.layers(frames)
        if x.dim() == 5:
            out = out.reshape(x.shape[0], x.shape[2], *out.shape[1:]).transpose(1, 2)
        if valid is None or out.shape[2:] == x.shape[2:]:
            return out, valid
        places = valid.reshape(x.shape[0], -1, *x.shape[-2:]).to(x.dtype)  # (B, 1 or T, H, W)
        return out, F.adaptive_max_pool2d(places, out.shape[-2:]).flatten(1) > 0


class StagedFusion(Fusion):
    """Base class of the fusions with stages; a subclass creates `stages`, `heads` and modules of its own, and `join`.

    Args: as for `Fusion`, with
        widths: channels after each further stage; None = twice the widest stream's, then twice that, as in a ResNet.
        dropout: before the heads, in training; 0 as published.

    Raises:
        UsageError: `widths` is empty or has a number below 1.
    """

    stages: nn.ModuleList
    heads: nn.ModuleDict

    def __init__(self, features: Specs, *, classes: int, widths: Sequence[int] | None, dropout: float) -> None:
        super().__init__(features, classes=classes)
        if widths is None:
            widest = max(spec.size for spec in features.values())
            widths = (2 * widest, 4 * widest)
        if not widths or min(widths) < 1:
            raise UsageError(f"widths must be one or more positive integers; found {tuple(widths)}")
        self.widths = tuple(widths)
        self.dropout = nn.Dropout(dropout)

    def add_stage(self, width: int, blocks: str) -> None:
        """Append one stage per stream."""
        specs = self.specs_before(len(self.stages))
        self.stages.append(nn.ModuleDict({name: Stage(spec, width, blocks=blocks) for name, spec in specs.items()}))

    def specs_before(self, number: int) -> dict[str, FeatureSpec]:
        """Return modality -> size and layout before a stage; `len(stages)` = after the last."""
        sizes = {name: self.specs[name].size if not number else self.widths[number - 1] for name in self.names}
        return {name: FeatureSpec(size, self.specs[name].layout) for name, size in sizes.items()}

    def enter(self, features: Tensors, masks: Tensors, present: Tensors) -> State:
        """Return the input of the first stage; an absent modality has no valid position."""
        state: State = {}
        for name in self.names:
            steps = self.positions(name, features)
            mask, here = masks.get(name), present.get(name)
            if here is not None:
                here = here.unsqueeze(1)
                mask = here.expand(-1, steps.shape[1]) if mask is None else mask & here
            state[name] = features[name] if self.meeting[name].layout.name in MAPS else steps, mask
        return state

    def advance(self, number: int, state: State) -> State:
        """Return the output of a stage."""
        return {name: self.stages[number][name](*state[name]) for name in self.names}  # type: ignore[index]

    def means(self, state: State) -> dict[str, Tensor]:
        """Return modality -> mean over valid positions (B, D), 0 without any."""
        return {
            name: masked_mean(to_positions(x, self.meeting[name].layout) if x.dim() > 3 else x, valid, None)
            for name, (x, valid) in state.items()
        }

    def classify(self, state: State) -> dict[str, tuple[Tensor, Tensor]]:
        """Return modality -> logits (B, C) of its own head in `heads`, and bool (B,), True where it is present."""
        found = {}
        for name, mean in self.means(state).items():
            valid = state[name][1]
            here = torch.ones(len(mean), dtype=torch.bool, device=mean.device) if valid is None else valid.any(1)
            found[name] = self.heads[name](self.dropout(mean)), here
        return found


def _resnet_stage(inputs: int, width: int) -> nn.Module:
    with needs_extra("experiments", "ResNet stages need"):
        from transformers import ResNetConfig
        from transformers.models.resnet.modeling_resnet import ResNetStage
    stage: nn.Module = ResNetStage(ResNetConfig(layer_type="basic"), inputs, width, stride=2, depth=DEPTH)
    return stage
