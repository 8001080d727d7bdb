"""Layers of several modalities of one size in one operation each: small layers cost what their number costs.

Parameters stay where they are, one set a modality, and are laid side by side for the product.
Shapes: (M, B, inputs) -> (M, B, outputs).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_stacked(layers: Sequence[nn.Linear], x: Tensor) -> Tensor:
    """Apply one linear layer a modality, in the input's precision.

    Args:
        layers: M layers of one size.
        x: (M, B, inputs).
    """
    weight = torch.stack([layer.weight for layer in layers])  # (M, outputs, inputs)
    bias = torch.stack([layer.bias for layer in layers])
    if weight.dtype != x.dtype:
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)


def dropout_stacked(x: Tensor, probability: float) -> Tensor:
    """Drop out values of each modality, by the draws of one `torch.nn.functional.dropout` after another.

    Args:
        x: (M, B, S).
        probability: that a value is dropped; 0 = none is, and nothing is drawn.
    """
    if not probability:
        return x
    # A call for each: what is drawn depends on where a call begins.
    return x * torch.stack([F.dropout(one, probability) for one in torch.ones_like(x, requires_grad=False)])
