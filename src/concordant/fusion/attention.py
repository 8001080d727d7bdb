"""The attention block of the fusions: pre-normalised, with residuals, and without NaN where all keys are ignored.

Xiong et al., "On Layer Normalization in the Transformer Architecture", ICML 2020. Every query also attends to one zero
key with a zero value, which leaves 0 where the memory is padded throughout.
Shapes: x (B, Q, W), memory (B, K, W), ignored (B, K).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AttentionBlock(nn.Module):
    """Attention, then a feed-forward layer, each added to its input.

    Args:
        width: of queries and memory.
        heads: attention heads.
        cross: attend to another sequence, which has its own normalisation.
        dropout: on the output of each half, in training; not on attention weights.
        expansion: width of the feed-forward layer, in widths; 4 as in the transformer.
    """

    def __init__(self, width: int, heads: int, *, cross: bool, dropout: float = 0.1, expansion: int = 4) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(width)
        self.normalise_memory = nn.LayerNorm(width) if cross else None
        self.attend = nn.MultiheadAttention(width, heads, batch_first=True, add_zero_attn=True)
        self.forward_normalise = nn.LayerNorm(width)
        self.forward_layers = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor | None = None, ignored: Tensor | None = None) -> Tensor:
        """Return x after attending to memory, (B, Q, W).

        Args:
            x: queries.
            memory: the sequence attended to; None = x itself.
            ignored: bool, True at keys to ignore; None = no key is ignored.
        """
        queries = self.normalise(x)
        keys = queries
        if memory is not None:
            keys = memory if self.normalise_memory is None else self.normalise_memory(memory)
        found, _ = self.attend(queries, keys, keys, key_padding_mask=ignored, need_weights=False)
        x = x + self.dropout(found)
        added: Tensor = self.dropout(self.forward_layers(self.forward_normalise(x)))
        return x + added


def blocks(count: int, width: int, heads: int, *, cross: bool, dropout: float, expansion: int = 4) -> nn.ModuleList:
    """Return a list of attention blocks with the same settings."""
    return nn.ModuleList(
        AttentionBlock(width, heads, cross=cross, dropout=dropout, expansion=expansion) for _ in range(count)
    )


def sinusoids(tokens: Tensor) -> Tensor:
    """Return the position encoding (L, W) of tokens (B, L, W), as in Vaswani et al., section 3.5."""
    length, width = tokens.shape[1:]
    place = torch.arange(length, device=tokens.device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, device=tokens.device) * (-math.log(10_000.0) / width))
    angles = place * rate  # (L, W/2)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(tokens.dtype)


def valid_steps(steps: Tensor, mask: Tensor | None, here: Tensor | None) -> Tensor:
    """Return bool (B, L), True where a step (B, L, D) is valid and its modality present."""
    keep = torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device) if mask is None else mask
    return keep if here is None else keep & here.unsqueeze(1)


def known_steps(steps: Tensor, valid: Tensor) -> Tensor:
    """Return the steps (B, L, D) with zeros at invalid ones, NaN included."""
    return torch.where(valid.unsqueeze(-1), steps, 0)
