"""CentralNet: a central network beside the streams, whose input at every stage is a learned sum of all of them.

Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", ECCV workshops 2018, for any number of
modalities: the central state of a stage is alpha_C times the output of the central stage before it plus the sum of
alpha_m times each stream's own (equation 1), with learned scalars. The streams classify as well, and their losses are
added (equation 2), for which `auxiliary_loss` needs the labels. Maps of different sizes meet on a common grid; vectors
and sequences are repeated at each of its places.
Shapes: streams (B, D_m, H_m, W_m) -> central (B, W, G, G) per stage -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec, Specs, Tensors, masked_mean, register
from concordant.fusion.convolutional.stages import MAPS, Stage, StagedFusion
from concordant.fusion.convolutional.streams import pool_stream
from concordant.modalities import LAYOUTS


@register(
    "centralnet",
    setting="convolutional",
    summary="a central network fed by weighted sums of the streams' stages",
    paper="Vielzeuf et al., ECCV workshops 2018",
    small={"widths": (64, 64), "blocks": "small"},
    points=("maps",),
    stages=2,
)
class CentralNet(StagedFusion):
    """A central network beside the streams.

    Args: as for `StagedFusion`, with
        blocks: of the streams' stages, "resnet" or "small".
        grid: rows and columns of the grid on which maps meet; 4.

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
        grid: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes=classes, widths=widths, dropout=dropout)
        self.grid = grid
        self.stages, self.central = nn.ModuleList(), nn.ModuleList()
        for number, width in enumerate(self.widths):
            self.add_stage(width, blocks)
            if number:
                # The grid is small whatever the streams' maps are.
                before = FeatureSpec(self.widths[number - 1], LAYOUTS["bchw"])
                self.central.append(Stage(before, width, blocks="small"))
        share = 1 / (len(self.names) + 1)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.full((len(self.names) + bool(number),), share)) for number in range(len(self.widths))
        )
        self.heads = nn.ModuleDict({name: nn.Linear(self.widths[-1], classes) for name in self.names})
        self.head = nn.Linear(self.widths[-1], classes)
        self._own: dict[str, tuple[Tensor, Tensor]] = {}

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C) of the central network."""
        state, central = self.enter(features, masks, present), torch.empty(0)
        for number, weights in enumerate(self.weights):
            state = self.advance(number, state)
            states = [self._on_grid(name, *state[name]) for name in self.names]
            if number:
                states.append(self.central[number - 1](central, None)[0])
            central = torch.stack([w * x for w, x in zip(weights, states, strict=True)]).sum(0)
        if self.training:
            self._own = self.classify(state)
        last = masked_mean(central.flatten(2).transpose(1, 2), None, None)
        logits: Tensor = self.head(self.dropout(last))
        return logits

    def auxiliary_loss(self, labels: Tensor | None = None) -> Tensor:
        """Return the sum of the streams' own losses, each over the instances that have it; 0 without labels."""
        total = super().auxiliary_loss()
        if not self.training or labels is None:
            return total
        for logits, here in self._own.values():
            if labels.is_floating_point():
                loss = F.l1_loss(logits[:, 0], labels, reduction="none")
            else:
                loss = F.cross_entropy(logits, labels, reduction="none")
            total = total + torch.where(here, loss, 0).sum() / here.sum().clamp(min=1)
        return total

    def _on_grid(self, name: str, x: Tensor, valid: Tensor | None) -> Tensor:
        """Return a stream's state (B, W, G, G), 0 where nothing is valid."""
        spec = FeatureSpec(x.shape[1], self.specs[name].layout)
        if spec.layout.name in MAPS:
            return pool_stream(x, spec, valid, None, self.grid).view(-1, spec.size, self.grid, self.grid)
        return masked_mean(x, valid, None)[:, :, None, None].expand(-1, -1, self.grid, self.grid)

    def __getstate__(self) -> dict[str, object]:
        # The last logits belong to a graph, which neither pickles nor deep-copies.
        return {**super().__getstate__(), "_own": {}}
