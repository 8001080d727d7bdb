"""Steps 7 and 8: from a shift of the reliability logit, and from gate activations, to factors of the features.

Shapes: shift (B, M) -> reliability (B, M); activations (B, D) -> gate (B, D). With zeros both are exactly one, which
makes an untrained calibrator the identity, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from concordant.errors import UsageError

START = 3.0  # the logit of a clean modality before training: sigmoid(3) = 0.953
_REST = 1 / (1 + math.exp(START))  # sigmoid(-3)


def reliability_from_shift(shift: Tensor) -> Tensor:
    """Return sigmoid(3 + shift) / sigmoid(3), in (0, 1.05).

    Written so that a shift of 0 gives exactly 1 in every precision: only zeros and ones are rounded there.

    >>> reliability_from_shift(torch.tensor([0.0])).item()
    1.0
    """
    return 1 / (1 + _REST * (torch.exp(-shift.clamp(min=-30.0)) - 1))


def shift_from_reliability(reliability: Tensor) -> Tensor:
    """Return the shift whose reliability is the one given, in [0, 1]; 0 for exactly 1.

    >>> reliability_from_shift(shift_from_reliability(torch.tensor([1.0]))).item()
    1.0
    >>> round(reliability_from_shift(shift_from_reliability(torch.tensor(0.25))).item(), 4)
    0.25
    """
    return -torch.log1p((1 / reliability.clamp(min=1e-6) - 1) / _REST)


def gate_from_activation(activation: Tensor) -> Tensor:
    """Return 1 + tanh(activation) / 2, in (0.5, 1.5): a dimension is at most halved or raised by half."""
    return 1 + 0.5 * torch.tanh(activation)


class Tolerant(nn.Module):
    """A module with a tolerance, part of its state dictionary where it is set; None at first.

    Beside it may stand a `promise`, the numbers of what was shown of this tolerance (`concordant.attach.harm`).

    A calibrator that is trained beside a frozen model should leave alone whatever it has no strong case against: the
    model was made for its features as they are. A tolerance is added to the shift of the reliability logit, and what
    is then above 0, the shift of an untrained calibrator, is cut off: reliability is exactly 1 there.
    """

    names: tuple[str, ...]
    tolerance: Tensor | None
    promise: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tolerance", None)
        self.register_buffer("promise", None)

    def tolerate(self, margin: float | Sequence[float] | None) -> None:
        """Set the tolerance, used in evaluation; training never depends on it.

        `reliability` is then at most 1, and 1 for most instances; the `logits` stay as they were, for detection.

        Args:
            margin: by how much a reliability logit may be below the usual 3 before anything is scaled down; one for
                all modalities, or one per modality. Infinity = nothing is scaled down. None = no tolerance: reliability
                as it was trained.

        Raises:
            UsageError: it is negative, not a number, or not one per modality.
        """
        self.promise = None  # it was of another tolerance
        if margin is None:
            self.tolerance = None
            return
        try:
            margins = torch.as_tensor(margin, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):  # no numbers
            margins = torch.tensor(torch.nan)
        if margins.shape not in ((), (len(self.names),)) or not (margins >= 0).all():
            raise UsageError(
                f"margin must be a number of 0 or more, or one for each of {', '.join(self.names)}; found {margin}"
            )
        self.tolerance = margins.expand(len(self.names)).to(_device_of(self), copy=True)

    def tolerated(self, shift: Tensor) -> Tensor:
        """Return the shift that is applied, (B, M): in training, or without a tolerance, as it is."""
        if self.tolerance is None or self.training:
            return shift
        return (shift + self.tolerance.to(shift.dtype)).clamp(max=0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        # Whether there are any is part of the state of a calibrator, and not of that of a model alone.
        if all(prefix + name in state_dict for name, _ in self.named_parameters()):
            for name in ("tolerance", "promise"):
                given = state_dict.get(prefix + name)
                setattr(self, name, None if given is None else torch.zeros_like(given, device=_device_of(self)))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _device_of(module: nn.Module) -> torch.device:
    first = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if first is None else first.device
