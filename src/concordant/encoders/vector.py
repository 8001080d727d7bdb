"""The encoder of vectors: one linear layer and a ReLU. (B, D_in) -> (B, D)."""

from __future__ import annotations

from torch import Tensor, nn

from concordant.encoders.base import Encoder, Encoding


class VectorEncoder(Encoder):
    """A projection of vectors to `size` features, with dropout on them in training."""

    def __init__(self, *, inputs: int, size: int = 64, dropout: float = 0.1) -> None:
        super().__init__(size, "bd")
        self.project = nn.Linear(inputs, size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode (B, D_in) as (B, D)."""
        return self.dropout(self.project(x).relu()), mask
