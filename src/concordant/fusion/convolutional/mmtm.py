"""MMTM: streams recalibrate each other's channels between the stages of their networks.

Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020, for any number of modalities: every
stream is squeezed to its mean over places, one layer joins the squeezed, and from it each stream's channels are
scaled by 2 sigmoid(e_m) (equations 1 to 4). The streams are classified apart and their logits averaged over those
that are present. As a fusion it has its gates between the stages; a calibrator stands before the first of them.
Shapes: maps (B, D_m, H_m, W_m), of any sizes; squeezed (B, D_m); joint (B, sum of D_m / 4); logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec, Fusion, masked_mean, mean_of
from concordant.fusion.convolutional.stages import Stage, enter, places_of, widths_of
from concordant.modalities import over_features


class TransferModule(nn.Module):
    """From the squeezed streams to the gates of their channels.

    Args:
        sizes: modality -> channels.
        ratio: how much narrower the joint layer is than all channels together; 4 as published.
    """

    def __init__(self, sizes: Mapping[str, int], *, ratio: int = 4) -> None:
        super().__init__()
        total = sum(sizes.values())
        joint = max(total // ratio, 1)
        self.squeeze = nn.Linear(total, joint)
        self.excite = nn.ModuleDict({name: nn.Linear(joint, size) for name, size in sizes.items()})

    def forward(self, squeezed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> gates (B, D_m) in (0, 2), from means (B, D_m), 0 where absent."""
        joint = self.squeeze(torch.cat([squeezed[name] for name in self.excite], 1)).relu()
        return {name: 2 * layer(joint).sigmoid() for name, layer in self.excite.items()}


class TransferFusion(Fusion):
    """Let streams gate each other before and behind every further stage but the last.

    Args:
        features: modality -> what it hands over; maps, or vectors and sequences beside them.
        classes: number of logits.
        widths: channels behind each further stage; None = a ResNet's.
        blocks: of the stages, "resnet" or "small".
        dropout: before the heads, in training; 0 as published.

    Raises:
        UsageError: unknown `blocks`, or `widths` that are none.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
        *,
        classes: int,
        widths: Sequence[int] | None = None,
        blocks: str = "resnet",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes=classes)
        specs = {name: self.specs[name] for name in self.names}
        self.transfers, self.stages = nn.ModuleList(), nn.ModuleList()
        for width in widths_of(specs, widths):
            self.transfers.append(TransferModule({name: spec.size for name, spec in specs.items()}))
            stage = nn.ModuleDict({name: Stage(spec, width, blocks=blocks) for name, spec in specs.items()})
            self.stages.append(stage)
            specs = {name: FeatureSpec(width, spec.layout) for name, spec in specs.items()}
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(spec.size, classes) for name, spec in specs.items()})

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C)."""
        streams = enter(features, {name: self.specs[name] for name in self.names}, masks, present)
        specs = self.specs
        for transfer, stage in zip(self.transfers, self.stages, strict=True):
            squeezed = {
                name: masked_mean(places_of(x, specs[name]), streams.valid[name], None)
                for name, x in streams.features.items()
            }
            gates = transfer(squeezed)
            for name, x in streams.features.items():
                gate = gates[name].unsqueeze(1) if x.dim() == 3 else over_features(gates[name], specs[name].layout)
                out = stage[name](x * gate, streams.valid[name])  # type: ignore[index]
                streams.features[name], streams.valid[name] = out
            specs = {name: stage[name].spec for name in self.names}  # type: ignore[index]
        vectors, here = [], []
        for name in self.names:
            x, valid = streams.features[name], streams.valid[name]
            vectors.append(masked_mean(places_of(x, specs[name]), valid, None))
            here.append(torch.ones(x.shape[0], dtype=torch.bool, device=x.device) if valid is None else valid.any(1))
        logits = [self.heads[name](self.dropout(v)) for name, v in zip(self.names, vectors, strict=True)]
        return mean_of(logits, here)
