"""Tolerance: what looks intact, or less intact than usual by no more than so much, passes exactly as it is.

Trained beside a model that stays as it is, a calibrator should leave alone whatever it has no strong case against:
the model was made for its features as they are. A tolerance is added to the shift of the reliability logit, and what
is then above 0, the shift of an untrained calibrator, is cut off: reliability is exactly 1 there.
Shapes: shift (B, M), tolerance (M,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from concordant.errors import UsageError


class Tolerant(nn.Module):
    """A module with a tolerance, which its state dictionary holds where there is one; None at first."""

    names: tuple[str, ...]
    tolerance: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tolerance", None)

    def tolerate(self, margin: float | Sequence[float] | None) -> None:
        """Set the tolerance, used in evaluation; what is trained never depends on it.

        `reliability` is then at most 1, and 1 for most instances; the `logits` stay as they were, for detection.

        Args:
            margin: by how much a reliability logit may be below the usual 3 before anything is scaled down; one for
                all modalities, or one for each. None = no tolerance: reliability as it was trained.

        Raises:
            UsageError: it is negative, not finite, or not one for each modality.
        """
        if margin is None:
            self.tolerance = None
            return
        margins = [margin] * len(self.names) if isinstance(margin, (int, float)) else list(margin)
        if len(margins) != len(self.names) or not all(0 <= one < float("inf") for one in margins):
            raise UsageError(
                f"margin must be a number of 0 or more, or one for each of {', '.join(self.names)}; found {margin}"
            )
        self.tolerance = torch.tensor([float(one) for one in margins], device=_device_of(self))

    def tolerated(self, shift: Tensor) -> Tensor:
        """Return the shift that is applied, (B, M): in training, or without a tolerance, as it is."""
        if self.tolerance is None or self.training:
            return shift
        return (shift + self.tolerance.to(shift.dtype)).clamp(max=0)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        # Whether there is a tolerance is part of the state.
        given = state_dict.get(f"{prefix}tolerance")
        self.tolerance = None if given is None else torch.zeros_like(given, device=_device_of(self))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _device_of(module: nn.Module) -> torch.device:
    first = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if first is None else first.device
