"""CentralNet: a network of its own between the streams, fed at every stage by a learned sum of all of them.

Vielzeuf et al., "CentralNet: a Multilayer Approach for Multimodal Fusion", ECCV workshops 2018, for any number
of modalities: the central state of a stage is alpha_C times what the central stage before it made plus the sum
of alpha_m times each stream's own (equation 1), with learned scalars. The streams classify as well, and their
losses are added (equation 2), for which `auxiliary_loss` needs the labels. Where maps differ in size, they meet on
a common grid; what is no map stands at each of its places.
Shapes: streams (B, D_m, H_m, W_m) -> central (B, W, G, G) a stage -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.fusion.base import FeatureSpec, Fusion, masked_mean
from concordant.fusion.convolutional.stages import Stage, Streams, enter, places_of, widths_of
from concordant.fusion.convolutional.streams import pool_stream
from concordant.modalities import LAYOUTS


class CentralNet(Fusion):
    """Classify by a central network beside the streams.

    Args:
        features: modality -> what it hands over; maps, or vectors and sequences beside them.
        classes: number of logits.
        widths: channels behind each further stage, of streams and centre; None = a ResNet's.
        blocks: of the stages, "resnet" or "small".
        grid: rows and columns on which maps meet; 4.
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
        grid: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes=classes)
        self.grid = grid
        specs = {name: self.specs[name] for name in self.names}
        chosen = widths_of(specs, widths)
        self.stages, self.central = nn.ModuleList(), nn.ModuleList()
        for number, width in enumerate(chosen):
            self.stages.append(nn.ModuleDict({name: Stage(spec, width, blocks=blocks) for name, spec in specs.items()}))
            specs = {name: FeatureSpec(width, spec.layout) for name, spec in specs.items()}
            if number:
                # Of the grid's size throughout, so small whatever the streams' are.
                before = FeatureSpec(chosen[number - 1], LAYOUTS["bchw"])
                self.central.append(Stage(before, width, blocks="small"))
        share = 1 / (len(self.names) + 1)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.full((len(self.names) + bool(number),), share)) for number in range(len(chosen))
        )
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(chosen[-1], classes) for name in self.names})
        self.head = nn.Linear(chosen[-1], classes)
        self._alone: dict[str, tuple[Tensor, Tensor]] = {}

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C) of the central network."""
        streams = enter(features, {name: self.specs[name] for name in self.names}, masks, present)
        central: Tensor | None = None
        for number, stage in enumerate(self.stages):
            for name in self.names:
                out = stage[name](streams.features[name], streams.valid[name])  # type: ignore[index]
                streams.features[name], streams.valid[name] = out
            specs = {name: stage[name].spec for name in self.names}  # type: ignore[index]
            states = [self._on_grid(name, streams, specs) for name in self.names]
            if central is not None:
                states.append(self.central[number - 1](central, None)[0])
            weights = self.weights[number]
            central = torch.stack([w * x for w, x in zip(weights, states, strict=True)]).sum(0)
        if self.training:
            self._alone = {name: self._classify(name, streams, specs) for name in self.names}
        last = masked_mean(central.flatten(2).transpose(1, 2), None, None)  # type: ignore[union-attr]
        logits: Tensor = self.head(self.dropout(last))
        return logits

    def auxiliary_loss(self, labels: Tensor | None = None) -> Tensor:
        """Return the sum of the streams' own losses, each over the instances that have it; 0 without labels."""
        total = super().auxiliary_loss()
        if not self.training or labels is None:
            return total
        for logits, here in self._alone.values():
            if labels.is_floating_point():
                loss = F.l1_loss(logits[:, 0], labels, reduction="none")
            else:
                loss = F.cross_entropy(logits, labels, reduction="none")
            total = total + torch.where(here, loss, 0).sum() / here.sum().clamp(min=1)
        return total

    def _on_grid(self, name: str, streams: Streams, specs: Mapping[str, FeatureSpec]) -> Tensor:
        """Return a stream's state (B, W, G, G), 0 where it has nothing."""
        x, spec, valid = streams.features[name], specs[name], streams.valid[name]
        if spec.layout.name in ("bchw", "bcthw"):
            return pool_stream(x, spec, valid, None, self.grid).view(x.shape[0], spec.size, self.grid, self.grid)
        return masked_mean(x, valid, None)[:, :, None, None].expand(-1, -1, self.grid, self.grid)

    def _classify(self, name: str, streams: Streams, specs: Mapping[str, FeatureSpec]) -> tuple[Tensor, Tensor]:
        """Return one stream's own logits, and which instances have it."""
        x, valid = streams.features[name], streams.valid[name]
        here = torch.ones(x.shape[0], dtype=torch.bool, device=x.device) if valid is None else valid.any(1)
        vector = masked_mean(places_of(x, specs[name]), valid, None)
        return self.heads[name](self.dropout(vector)), here

    def __getstate__(self) -> dict[str, object]:
        # The last logits belong to a graph, which neither pickles nor deep-copies.
        return {**super().__getstate__(), "_alone": {}}
