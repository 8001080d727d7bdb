"""The encoders without weights: inputs as they are, or their mean over time, for fusions with own sub-networks.

Training applies them once to the whole split, not at every step; applied twice they change nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from concordant.encoders.base import Encoder, Encoding


class InputEncoder(Encoder):
    """Vectors (B, D), or sequences (B, T, D) as they are."""

    def __init__(self, *, inputs: int, layout: str) -> None:
        super().__init__(inputs, layout)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Return what is given."""
        return x, mask


class MeanEncoder(Encoder):
    """The mean over the valid steps of a sequence, (B, T, D) -> (B, D)."""

    def __init__(self, *, inputs: int) -> None:
        super().__init__(inputs, "bd")

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Return the mean (B, D), and bool (B, 1), True where a step is valid; a mean stays as it is."""
        if x.dim() == 2:
            return x, mask
        if mask is None:
            return x.mean(1), None
        total = torch.where(mask.unsqueeze(2), x, 0).sum(1)
        return total / mask.sum(1, keepdim=True).clamp(min=1), mask.any(1, keepdim=True)
