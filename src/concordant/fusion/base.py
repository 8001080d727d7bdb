"""What a fusion is: a module from the features of all modalities to the logits, with its own head.

It takes features by name, with masks and presence, and knows nothing of a calibrator before it.
Shapes: features in their layouts; masks (B, L); present (B,) a modality; logits (B, C).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from concordant.modalities import Layout, to_positions


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
    """Base of the fusions: `encode` takes each modality on its own to where they meet, `join` lets them meet.

    Whoever calibrates before fusion does so between the two; `forward` is one after the other.

    Args:
        features: modality -> what it hands over.
        classes: number of logits, C.

    Attributes:
        meeting: modality -> what comes out of `encode`, the features just before they meet; what a calibrator
            sees. A subclass whose `encode` changes size or layout sets it.
    """

    def __init__(self, features: Mapping[str, FeatureSpec], *, classes: int) -> None:
        super().__init__()
        self.specs = dict(features)
        self.meeting = dict(features)
        self.names = tuple(sorted(features))  # sorted, so that the declared order has no influence
        self.classes = classes
        self._extra: Tensor | None = None

    def forward(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C).

        Args:
            features: modality -> features in its layout.
            masks: modality -> bool (B, L), True at valid positions; no entry means that all are.
            present: modality -> bool (B,), True where the instance has it; no entry means that all have.
        """
        encoded, left = self.encode(features, masks, present)
        return self.join(encoded, left, present)

    def encode(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take each modality on its own to where they meet; return features as `meeting` says, and their masks.

        Nothing unless a subclass says otherwise. Rows of absent modalities may come out as any values.
        """
        return dict(features), dict(masks)

    def join(
        self, features: Mapping[str, Tensor], masks: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Return logits (B, C) from what `encode` returned, calibrated or not."""
        raise NotImplementedError

    def auxiliary_loss(self, labels: Tensor | None = None) -> Tensor:
        """Return the fusion's own loss of the last training pass, to be added to the task's; 0 in evaluation.

        Most fusions have none, which is 0 as well.

        Args:
            labels: class indices (B,) of that pass, for fusions whose modalities learn the task on their own too.
        """
        if self.training and self._extra is not None:
            return self._extra
        like = next(self.parameters())
        return torch.zeros((), dtype=like.dtype, device=like.device)  # plain, even where parameters lie in pieces

    def positions(self, name: str, features: Mapping[str, Tensor]) -> Tensor:
        """Return one modality's features, as they meet, in the shape (B, L, D)."""
        return to_positions(features[name], self.meeting[name].layout)

    def __getstate__(self) -> dict[str, Any]:
        # The last loss belongs to a graph, which neither pickles nor deep-copies.
        return {**super().__getstate__(), "_extra": None}  # type: ignore[no-untyped-call]


def mean_of(values: Sequence[Tensor], here: Sequence[Tensor], otherwise: Tensor | None = None) -> Tensor:
    """Return the mean over the modalities that are present.

    Args:
        values: one (B, ...) a modality.
        here: one bool (B,) a modality.
        otherwise: what stands where none is present; None = 0.
    """
    shape = (-1, *(1 for _ in values[0].shape[1:]))
    known = [torch.where(h.view(shape), v, 0) for v, h in zip(values, here, strict=True)]
    count = torch.stack(list(here)).sum(0).view(shape)
    mean = torch.stack(known).sum(0) / count.clamp(min=1)
    return mean if otherwise is None else torch.where(count > 0, mean, otherwise)


def masked_mean(x: Tensor, mask: Tensor | None, here: Tensor | None) -> Tensor:
    """Return the mean over valid positions, (B, L, D) -> (B, D), and 0 where the modality is absent."""
    if mask is None:
        mean = x.mean(1) if x.shape[1] != 1 else x.squeeze(1)
    else:
        valid = mask.unsqueeze(-1)
        mean = torch.where(valid, x, 0).sum(1) / valid.sum(1).clamp(min=1)
    return mean if here is None else torch.where(here.unsqueeze(1), mean, 0)
