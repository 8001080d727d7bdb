"""MMTM: streams recalibrate each other's channels between the stages of their networks.

Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020, for any number of modalities: every stream is
squeezed to its mean over places, one layer joins these, and from it each stream's channels are scaled by 2 sigmoid(e_m)
(equations 1 to 4). The streams are classified separately, and their logits averaged over those that are present. A
calibrator stands before the first gates.
Shapes: maps (B, D_m, H_m, W_m) of any sizes; squeezed (B, D_m); joint (B, sum of D_m / 4); logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from concordant.fusion.base import Specs, Tensors, mean_of, register
from concordant.fusion.convolutional.stages import StagedFusion
from concordant.modalities import over


class TransferModule(nn.Module):
    """Gates of all streams' channels from their squeezed means.

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

    def forward(self, squeezed: Tensors) -> dict[str, Tensor]:
        """Return modality -> gates (B, D_m) in (0, 2), from means (B, D_m), 0 where absent."""
        joint = self.squeeze(torch.cat([squeezed[name] for name in self.excite], 1)).relu()
        return {name: 2 * layer(joint).sigmoid() for name, layer in self.excite.items()}


@register(
    "mmtm",
    setting="convolutional",
    summary="streams gate each other's channels between their stages",
    paper="Joze et al., CVPR 2020",
    small={"widths": (64, 64), "blocks": "small"},
    points=("maps",),
    head=False,
    stages=2,
)
class TransferFusion(StagedFusion):
    """Streams that gate each other before every further stage.

    Args: as for `StagedFusion`, with
        blocks: of the stages, "resnet" or "small".

    Raises:
        UsageError: other `blocks`, or as for `StagedFusion`.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        widths: Sequence[int] | None = None,
        blocks: str = "resnet",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes=classes, widths=widths, dropout=dropout)
        self.transfers, self.stages = nn.ModuleList(), nn.ModuleList()
        for number, width in enumerate(self.widths):
            specs = self.specs_before(number)
            self.transfers.append(TransferModule({name: spec.size for name, spec in specs.items()}))
            self.add_stage(width, blocks)
        self.heads = nn.ModuleDict({name: nn.Linear(self.widths[-1], classes) for name in self.names})

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        state = self.enter(features, masks, present)
        for number, transfer in enumerate(self.transfers):
            gates = transfer(self.means(state))
            for name, (x, valid) in state.items():
                layout = self.specs[name].layout
                gate = gates[name].unsqueeze(1) if x.dim() == 3 else over(gates[name].unsqueeze(1), x, layout)
                state[name] = x * gate, valid
            state = self.advance(number, state)
        own = self.classify(state).values()
        return mean_of([logits for logits, _ in own], [here for _, here in own])
