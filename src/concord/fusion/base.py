"""What a fusion is: a module from the features of all modalities to the logits, with its own head.

It takes features by name, with masks and presence, and knows nothing of a calibrator before it.
Shapes: features in their layouts; masks (B, L); present (B,) a modality; logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from concord.modalities import Layout, to_positions


@dataclass(frozen=True)
class FeatureSpec:
    """What one modality hands to a fusion.

    Args:
        size: number of features, D.
        layout: where the axes are.
    """

    size: int
    layout: Layout


class Fusion(nn.Module):
    """Base of the fusions.

    Args:
        features: modality -> what it hands over.
        classes: number of logits, C.
    """

    def __init__(self, features: Mapping[str, FeatureSpec], *, classes: int) -> None:
        super().__init__()
        self.specs = dict(features)
        self.names = tuple(sorted(features))  # sorted, so that the declared order has no influence
        self.classes = classes

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C).

        Args:
            features: modality -> features in its layout.
            masks: modality -> bool (B, L), True at valid positions; no entry means that all are.
            present: modality -> bool (B,), True where the instance has it; no entry means that all have.
        """
        raise NotImplementedError

    def positions(self, name: str, features: Mapping[str, Tensor]) -> Tensor:
        """Return one modality's features as (B, L, D)."""
        return to_positions(features[name], self.specs[name].layout)


def masked_mean(x: Tensor, mask: Tensor | None, here: Tensor | None) -> Tensor:
    """Return the mean over valid positions, (B, L, D) -> (B, D), and 0 where the modality is absent."""
    if mask is None:
        mean = x.mean(1)
    else:
        valid = mask.unsqueeze(-1)
        mean = torch.where(valid, x, 0).sum(1) / valid.sum(1).clamp(min=1)
    return mean if here is None else torch.where(here.unsqueeze(1), mean, 0)
