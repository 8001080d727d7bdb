"""Perceiver: a few latent vectors look at all steps of all modalities, again and again.

Jaegle et al., "Perceiver: General Perception with Iterative Attention", ICML 2021. Steps carry an embedding of
their modality and their place; the latents attend to all of them at once, then to each other. As in the paper,
every round after the first shares its weights with the other rounds.
Shapes: features (B, L_m, D_m) -> tokens (B, L_1 + ... + L_M, W), latents (B, N, W), logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from concordant.errors import UsageError
from concordant.fusion.attention import AttentionBlock, known_steps, sinusoids, valid_steps
from concordant.fusion.base import FeatureSpec, Fusion


class PerceiverFusion(Fusion):
    """Classify the mean of latents that have looked at all modalities.

    Args:
        features: modality -> what it hands over.
        classes: number of logits.
        width: of latents and tokens; even. Like the next four, the paper's for ImageNet.
        latents: how many, N.
        rounds: how often they look.
        blocks: of self-attention a round.
        heads: of self-attention; looking at the steps has one.
        dropout: in the blocks and before the head, in training.

    Raises:
        UsageError: `latents`, `rounds` or `blocks` below 1.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureSpec],
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
        for name, value in (("latents", latents), ("rounds", rounds), ("blocks", blocks)):
            if value < 1:
                raise UsageError(f"{name} must be 1 or more; found {value}")
        self.rounds = rounds
        self.project = nn.ModuleDict({name: nn.Linear(self.specs[name].size, width) for name in self.names})
        self.whose = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.names})
        self.latents = nn.Parameter(0.02 * torch.randn(latents, width))
        self.look = nn.ModuleList(
            AttentionBlock(width, 1, cross=True, dropout=dropout, expansion=1) for _ in range(min(rounds, 2))
        )
        self.think = nn.ModuleList(
            nn.ModuleList(
                AttentionBlock(width, heads, cross=False, dropout=dropout, expansion=1) for _ in range(blocks)
            )
            for _ in range(min(rounds, 2))
        )
        self.normalise = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C)."""
        tokens, valid = [], []
        for name in self.names:
            steps = self.positions(name, features)
            keep = valid_steps(steps, masks.get(name), present.get(name))
            token = self.project[name](known_steps(steps, keep)) + self.whose[name]
            tokens.append(token + sinusoids(token.shape[1], token.shape[2], token))
            valid.append(keep)
        seen, ignored = torch.cat(tokens, 1), ~torch.cat(valid, 1)
        x = self.latents.to(seen.dtype).expand(seen.shape[0], -1, -1)
        for turn in range(self.rounds):
            which = min(turn, 1)
            x = self.look[which](x, seen, ignored)
            for block in self.think[which]:  # type: ignore[attr-defined]
                x = block(x)
        logits: Tensor = self.head(self.dropout(self.normalise(x.mean(1))))
        return logits
