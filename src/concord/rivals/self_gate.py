"""The self gate: each modality gated by its own summary only, as in squeeze-and-excitation.

Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; here with the reliability, the perturbations and
the loss of the contextual calibrator, so that only the comparison between modalities is missing.
Shapes: summary (B, S) and energy (B, E) -> hidden (B, K) -> shift (B, 1), gate (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concord import seeding
from concord.calibration.base import Calibrator, Modulation, Summaries, linear
from concord.calibration.modulation import gate_from_activation
from concord.calibration.perturbation import Perturbation


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


class SelfGate(Calibrator):
    """Gate each modality by its own summary only.

    Args: as for `ContextualCalibrator`, with
        hidden: width of the hidden layer, 32 as the comparison size, for about as many parameters.

    >>> gate = SelfGate({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        hidden: int = 32,
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        intact_weight: float = 0.5,
        dropout: float = 0.1,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            sizes,
            layouts=layouts,
            nonfinite=nonfinite,
            perturbation=perturbation,
            intact_weight=intact_weight,
            agreement_weight=0.0,
            dropout=dropout,
        )
        base = int(torch.randint(2**62, ()).item()) if seed is None else seed
        self.judges = nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "self", name):
                width = self.summary_size(name) + self.energy_count(name)
                self.judges[name] = Squeeze(width, hidden, self.sizes[name])

    def modulate(self, summaries: Summaries) -> Modulation:
        """Judge every modality by itself."""
        shifts, gates = [], {}
        for name in self.names:
            vector = F.dropout(summaries.vectors[name], self.dropout, self.training)
            shift, gates[name] = self.judges[name](torch.cat([vector, summaries.energies[name]], 1))
            shifts.append(shift)
        return Modulation(torch.stack(shifts, 1), gates)
