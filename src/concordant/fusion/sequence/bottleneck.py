"""MBT: modalities exchange information through a few bottleneck tokens only.

Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", NeurIPS 2021, for any number of modalities.
Each has its own transformer; from one layer on its steps also attend to a few bottleneck tokens. Every modality updates
these separately, and the updates are averaged over the modalities that are present. Each modality's class token is
classified, and the logits averaged. A calibrator stands before the first layer with bottleneck tokens.
Shapes: features (B, L_m, D_m) -> tokens (B, 1 + L_m, W), bottleneck (B, N, W), logits (B, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.attention import blocks, known_steps, sinusoids, valid_steps
from concordant.fusion.base import Encoded, FeatureSpec, Fusion, Specs, Tensors, mean_of, register
from concordant.modalities import LAYOUTS, to_positions


@register(
    "mbt",
    setting="sequence",
    summary="one transformer per modality, joined through a few bottleneck tokens",
    paper="Nagrani et al., NeurIPS 2021",
    small={"width": 64, "layers": 2, "heads": 4, "alone": 1},
)
class BottleneckFusion(Fusion):
    """Transformers that are connected by bottleneck tokens.

    Args: as for `Fusion`, with
        width: of a token; even. Width, layers and heads default to the paper's, which are ViT-B's.
        layers: of each modality's transformer.
        heads: attention heads.
        alone: number of layers before modalities meet; 8 as in the paper, below `layers`.
        bottlenecks: number of shared tokens; 4 as in the paper.
        dropout: in the layers and before the head, in training.

    Raises:
        UsageError: `alone` is not below `layers`, or an argument is no number in its range.
    """

    may_be_zero = ("alone",)

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        alone: int = 8,
        bottlenecks: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        if alone >= layers:
            raise UsageError(f"alone must lie between 0 and layers - 1; found alone {alone}, layers {layers}")
        self.meeting = {name: FeatureSpec(width, LAYOUTS["btd"]) for name in features}
        self.project = nn.ModuleDict({name: nn.Linear(self.specs[name].size, width) for name in self.names})
        self.start = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names})

        self.before, self.after = (
            nn.ModuleDict({name: blocks(count, width, heads, cross=False, dropout=dropout) for name in self.names})
            for count in (alone, layers - alone)
        )
        self.bottleneck = nn.Parameter(0.02 * torch.randn(bottlenecks, width))
        self.normalise = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def encode(self, features: Tensors, masks: Tensors, present: Tensors) -> Encoded:
        """Return every modality's tokens (B, 1 + L, W), its class token first, and which are valid."""
        tokens, left = {}, {}
        for name in (name for name in self.names if name in features):
            steps = to_positions(features[name], self.specs[name].layout)
            valid = valid_steps(steps, masks.get(name), present.get(name))
            token = self.project[name](known_steps(steps, valid))
            token = token + sinusoids(token)
            start = self.start[name].to(token.dtype).expand(token.shape[0], 1, -1)
            x = torch.cat([start, token], 1)
            # The class token of a modality without a valid step is not valid either.
            valid = torch.cat([valid.any(1, keepdim=True), valid], 1)
            for block in self.before[name]:  # type: ignore[attr-defined]
                x = block(x, ignored=~valid)
            tokens[name] = x
            if name in masks or name in present:
                left[name] = valid
        return tokens, left

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        tokens = {name: features[name] for name in self.names}
        valid = {name: valid_steps(x, masks.get(name), present.get(name)) for name, x in tokens.items()}
        tokens = {name: known_steps(x, valid[name]) for name, x in tokens.items()}
        here = [valid[name].any(1) for name in self.names]
        first = tokens[self.names[0]]
        shared = self.bottleneck.to(first.dtype).expand(first.shape[0], -1, -1)
        always = torch.ones(shared.shape[:2], dtype=torch.bool, device=first.device)
        ignored = {name: ~torch.cat([always, valid[name]], 1) for name in self.names}
        count = shared.shape[1]
        for layer in range(len(self.after[self.names[0]])):  # type: ignore[arg-type]
            updates = []
            for name in self.names:
                x = self.after[name][layer](torch.cat([shared, tokens[name]], 1), ignored=ignored[name])  # type: ignore[index]
                updates.append(x[:, :count])
                tokens[name] = x[:, count:]
            shared = mean_of(updates, here, shared)
        starts = [tokens[name][:, 0] for name in self.names]
        return mean_of([self.head(self.dropout(self.normalise(x))) for x in starts], here)
