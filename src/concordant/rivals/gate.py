"""What the self gate and the joint gate share: one small network a modality, from what it sees to its modulation.

Shapes: what is seen (B, S) -> hidden (B, K) -> shift (B,), gate (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import Calibrator, linear
from concordant.calibration.modulation import gate_from_activation
from concordant.calibration.perturbation import Perturbation
from concordant.errors import UsageError


class Squeeze(nn.Module):
    """One hidden layer and two zero-initialised heads, reliability and gate.

    Args:
        inputs: width of what it sees.
        hidden: width of the hidden layer.
        size: number of features gated, D.
    """

    def __init__(self, inputs: int, hidden: int, size: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(inputs, hidden)
        self.reliability = nn.Linear(hidden, 1)
        self.gate = nn.Linear(hidden, size)
        for last in (self.reliability, self.gate):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift (B,) and gate (B, D) from (B, inputs)."""
        hidden = F.gelu(linear(self.squeeze, seen))
        return linear(self.reliability, hidden).squeeze(1), gate_from_activation(linear(self.gate, hidden))


class Gate(Calibrator):
    """Base of the gates that do not compare modalities.

    Args: as for `ContextualCalibrator`, with
        hidden: width of each modality's hidden layer, 32 as the comparison size.
    """

    kind = ""  # names the stream of the initial weights

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        hidden: int = 32,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        clean_weight: float = 0.5,
        dropout: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            sizes,
            layouts=layouts,
            nonfinite=nonfinite,
            perturbation=perturbation,
            clean_weight=clean_weight,
            agreement_weight=0.0,
            dropout=dropout,
        )
        if hidden < 1:
            raise UsageError(f"hidden must be 1 or more; found {hidden}")
        base = int(torch.randint(2**62, ()).item()) if seed is None else seed
        self.heads = nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", self.kind, name):
                self.heads[name] = Squeeze(self.seen_size(name), hidden, self.sizes[name])

    def seen_size(self, name: str) -> int:
        """Return the width of what the judge of a modality sees."""
        raise NotImplementedError
