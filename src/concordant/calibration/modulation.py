"""From a shift of the reliability logit, and from gate activations, to what multiplies the features.

Shapes: shift (B, M) -> reliability (B, M); activations (B, D) -> gate (B, D). With zeros both are exactly
one, which makes an untrained calibrator the identity, bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

START = 3.0  # the logit of an untouched modality before training: sigmoid(3) = 0.953
_REST = 1 / (1 + math.exp(START))  # sigmoid(-3)


def reliability_from_shift(shift: Tensor) -> Tensor:
    """Return sigmoid(3 + shift) / sigmoid(3), in (0, 1.05).

    Written so that a shift of 0 gives exactly 1 in every precision: only zeros and ones are rounded there.

    >>> reliability_from_shift(torch.tensor([0.0])).item()
    1.0
    """
    return 1 / (1 + _REST * (torch.exp(-shift.clamp(min=-30.0)) - 1))


def gate_from_activation(activation: Tensor) -> Tensor:
    """Return 1 + tanh(activation) / 2, in (0.5, 1.5): a dimension is at most halved or raised by half."""
    return 1 + 0.5 * torch.tanh(activation)


def shift_from_reliability(reliability: Tensor) -> Tensor:
    """Return the shift whose reliability is the one given, in [0, 1]; 0 for exactly 1.

    >>> reliability_from_shift(shift_from_reliability(torch.tensor([1.0]))).item()
    1.0
    >>> round(reliability_from_shift(shift_from_reliability(torch.tensor(0.25))).item(), 4)
    0.25
    """
    return -torch.log1p((1 / reliability.clamp(min=1e-6) - 1) / _REST)
