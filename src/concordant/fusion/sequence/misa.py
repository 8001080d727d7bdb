"""MISA: every modality in a shared and in a private space, with losses that separate the two.

Hazarika, Zimmermann and Poria, "MISA: Modality-Invariant and -Specific Representations for Multimodal
Sentiment Analysis", ACM MM 2020, for any number of modalities. One loss makes the shared vectors similar (central
moment discrepancy, Zellinger et al., ICLR 2017), one makes shared and private ones orthogonal, and one reconstructs the
projected features from their sum. The fusion transformer is pre-normalised here.
Shapes: pooled features (B, D_m) -> shared and private (B, W) per modality -> 2 M tokens -> logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant.fusion.attention import AttentionBlock
from concordant.fusion.base import Fusion, Specs, Tensors, masked_mean, presence_of, register

MOMENTS = 5
EPSILON = 1e-6


@register(
    "misa",
    setting="vector",
    summary="shared and private vectors with their losses, joined by a transformer",
    paper="Hazarika et al., ACM MM 2020",
    small={"width": 64},
)
class MisaFusion(Fusion):
    """Attention over the shared and private vectors of all modalities, which are classified side by side.

    Args: as for `Fusion`, with
        width: of the vectors; 128 as in the released code, like the weights below.
        heads: attention heads.
        difference_weight: of the orthogonality loss between shared and private vectors; 0.3.
        similarity_weight: of the loss on the distance between shared vectors; 1.
        reconstruction_weight: of the reconstruction loss; 1.
        dropout: in the transformer and before the head, in training.
    """

    def __init__(
        self,
        features: Specs,
        *,
        classes: int,
        width: int = 128,
        heads: int = 2,
        difference_weight: float = 0.3,
        similarity_weight: float = 1.0,
        reconstruction_weight: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes=classes)
        self.loss_weights = (difference_weight, similarity_weight, reconstruction_weight)
        self.project = nn.ModuleDict(
            {
                name: nn.Sequential(nn.Linear(self.specs[name].size, width), nn.ReLU(), nn.LayerNorm(width))
                for name in self.names
            }
        )
        self.shared = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.private = nn.ModuleDict(
            {name: nn.Sequential(nn.Linear(width, width), nn.Sigmoid()) for name in self.names}
        )
        self.restore = nn.ModuleDict({name: nn.Linear(width, width) for name in self.names})
        self.fuse = AttentionBlock(width, heads, cross=False, dropout=dropout)
        joined = 2 * len(self.names) * width
        self.hidden = nn.Sequential(nn.Linear(joined, 3 * width), nn.Dropout(dropout), nn.ReLU())
        self.head = nn.Linear(3 * width, classes)

    def join(self, features: Tensors, masks: Tensors, present: Tensors) -> Tensor:
        """Return logits (B, C)."""
        projected, here = {}, {}
        for name in self.names:
            steps = self.positions(name, features)
            has = presence_of(name, masks, present)
            here[name] = torch.ones(steps.shape[0], dtype=torch.bool, device=steps.device) if has is None else has
            projected[name] = self.project[name](masked_mean(steps, masks.get(name), here[name]))
        private = {name: self.private[name](x) for name, x in projected.items()}
        shared = {name: self.shared(x) for name, x in projected.items()}
        if self.training:
            self._extra = self._losses(projected, private, shared, here)
        tokens = torch.stack([side[name] for side in (private, shared) for name in self.names], 1)
        known = torch.stack([here[name] for name in self.names] * 2, 1)  # (B, 2M)
        tokens = torch.where(known.unsqueeze(2), tokens, 0)
        fused = torch.where(known.unsqueeze(2), self.fuse(tokens, ignored=~known), 0)
        logits: Tensor = self.head(self.hidden(fused.flatten(1)))
        return logits

    def _losses(
        self,
        projected: Mapping[str, Tensor],
        private: Mapping[str, Tensor],
        shared: Mapping[str, Tensor],
        here: Mapping[str, Tensor],
    ) -> Tensor:
        """Return the weighted sum of the three losses, a scalar."""
        pairs = list(combinations(self.names, 2))
        apart = [orthogonality(private[n], shared[n], here[n]) for n in self.names]
        apart += [orthogonality(private[a], private[b], here[a] & here[b]) for a, b in pairs]
        together = [moment_discrepancy(shared[a], shared[b], here[a], here[b]) for a, b in pairs]
        kept = [
            masked_error(self.restore[n](private[n] + shared[n]), projected[n].detach(), here[n]) for n in self.names
        ]
        total = projected[self.names[0]].new_zeros(())
        for weight, losses, mean in zip(self.loss_weights, (apart, together, kept), (False, True, True), strict=True):
            if losses:
                stacked = torch.stack(losses)
                total = total + weight * (stacked.mean() if mean else stacked.sum())
        return total


def moment_discrepancy(one: Tensor, other: Tensor, one_here: Tensor, other_here: Tensor) -> Tensor:
    """Return the distance between the first five central moments of two batches (B, W) with values in [0, 1].

    Zellinger et al., ICLR 2017, definition 2; over the rows that are present, 0 where either has none.
    """
    first, second = _moments(one, one_here), _moments(other, other_here)
    distance = sum((_norm(a - b) for a, b in zip(first, second, strict=True)), one.new_zeros(()))
    return torch.where(one_here.any() & other_here.any(), distance, 0)


def orthogonality(one: Tensor, other: Tensor, here: Tensor) -> Tensor:
    """Return the mean squared entry of one^T other, rows (B, W) centred and brought to length 1."""
    first, second = (F.normalize(x - _mean(x, here), dim=1) for x in (one, other))
    product = torch.where(here.unsqueeze(1), first, 0).T @ torch.where(here.unsqueeze(1), second, 0)
    return product.square().mean()


def masked_error(found: Tensor, expected: Tensor, here: Tensor) -> Tensor:
    """Return the mean squared error over the rows (B, W) that are present."""
    return _mean((found - expected).square(), here).mean()


def _moments(x: Tensor, here: Tensor) -> Sequence[Tensor]:
    mean = _mean(x, here)
    centred = x - mean
    return [mean, *(_mean(centred**k, here) for k in range(2, MOMENTS + 1))]


def _mean(x: Tensor, here: Tensor) -> Tensor:
    return torch.where(here.unsqueeze(1), x, 0).sum(0) / here.sum().clamp(min=1)


def _norm(x: Tensor) -> Tensor:
    # The root of 0 has no gradient.
    return (x.square().sum() + EPSILON**2).sqrt()
