"""The encoder of sequences: two 1D convolutions, each halving the number of steps. (B, T, D_in) -> (B, T/4, D)."""

from __future__ import annotations

from torch import Tensor, nn

from concordant.encoders.base import Encoder, Encoding


class SequenceEncoder(Encoder):
    """Two strided convolutions along time, of odd windows, then dropout on the features, in training.

    Padded steps are set to zero before each convolution, like the convolution's own padding. The features of a sequence
    therefore do not depend on the padding after it.
    """

    def __init__(self, *, inputs: int, size: int = 64, kernel: int = 5, dropout: float = 0.1) -> None:
        super().__init__(size, "btd")
        self.first = nn.Conv1d(inputs, size, kernel, stride=2, padding=kernel // 2)
        self.second = nn.Conv1d(size, size, kernel, stride=2, padding=kernel // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, present: Tensor | None = None) -> Encoding:
        """Encode (B, T, D_in) as (B, ceil(ceil(T/2)/2), D), with the mask of the remaining steps."""
        steps = x.transpose(1, 2)  # (B, D, T)
        for layer in (self.first, self.second):
            if mask is not None:
                steps = steps.masked_fill(~mask.unsqueeze(1), 0)
                mask = mask[:, ::2]  # step t of the result is centred on step 2t
            steps = layer(steps).relu()
        return self.dropout(steps.transpose(1, 2)), mask
