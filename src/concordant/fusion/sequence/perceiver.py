"""Perceiver: a few latent vectors attend to all steps of all modalities, in several rounds.

Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021. Steps carry embeddings of their
modality and position; the latents attend to all of them at once, then to each other. As in the paper, all rounds after
the first share their weights.
Shapes: features (B, L_m, D_m) -> tokens (B, L_1 + ... + L_M, W), latents (B, N, W), logits (B, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from concordant.fusion.attention import blocks as attention_blocks
from concordant.fusion.attention import known_steps, sinusoids, valid_steps
from concordant.fusion.base import Fusion, Specs, Tensors, register


@register(
    "perceiver",
    setting="sequence",
    summary="latents that attend to the steps of all modalities, in rounds",
    paper="Jaegle et al., ICML 2021",
    small={"width": 64, "latents": 16, "rounds": 2, "blocks": 1, "heads": 4},
)
class PerceiverFusion(Fusion):
    """Latents that attend to all modalities, and a head on their mean.

    Args: as for `Fusion`, with
        width: of latents and tokens; even. Like the next four, the paper's for ImageNet.
        latents: number of latents, N.
        rounds: number of rounds.
        blocks: blocks of self-attention per round.
        heads: of self-attention; the attention to steps has one.
        dropout: in the blocks and before the head, in training.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        width: int = 1024,
        latents: int = 512,
        rounds: int = 8,
        blocks: int = 6,
        heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        self.rounds = rounds
        self.project = nn.ModuleDict({name: nn.Linear(self.specs[name].size, width) for name in self.names})
        self.whose = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names})
        self.latents = nn.Parameter(0.02 * torch.randn(latents, width))
        sets = min(rounds, 2)  # of weights
        self.look = attention_blocks(sets, width, 1, cross=True, dropout=dropout, expansion=1)
        self.think = nn.ModuleList(
            attention_blocks(blocks, width, heads, cross=False, dropout=dropout, expansion=1) for _ in range(sets)
        )
        self.normalise = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        tokens, valid = [], []
        for name in self.names:
            steps = self.positions(name, features)
            keep = valid_steps(steps, masks.get(name), present.get(name))
            token = self.project[name](known_steps(steps, keep)) + self.whose[name]
            tokens.append(token + sinusoids(token))
            valid.append(keep)
        steps, ignored = torch.cat(tokens, 1), ~torch.cat(valid, 1)
        # len(steps) would fix the rows of an exported graph.
        x = self.latents.to(steps.dtype).expand(steps.shape[0], -1, -1)
        for turn in range(self.rounds):
            which = min(turn, 1)
            x = self.look[which](x, steps, ignored)
            for block in self.think[which]:  # type: ignore[attr-defined]
                x = block(x)
        logits: Tensor = self.head(self.dropout(self.normalise(x.mean(1))))
        return logits
