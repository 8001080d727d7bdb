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
    return several_stacked([(layer,) for layer in layers], x)


def several_stacked(layers: Sequence[Sequence[nn.Linear]], x: Tensor) -> Tensor:
    """Apply several linear layers a modality to the same input, in the input's precision.

    Args:
        layers: M times the same sizes of layers.
        x: (M, B, inputs).

    Returns:
        Their outputs one behind the other, (M, B, sum of outputs).
    """
    every = [layer for one in layers for layer in one]
    bias = torch.cat([layer.bias for layer in every]).view(len(layers), 1, -1)
    weight = torch.cat([layer.weight for layer in every]).view(len(layers), bias.shape[2], -1)
    if weight.dtype != x.dtype:
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    return torch.baddbmm(bias, x, weight.mT)


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
