"""The self gate: each modality gated by its own summary only, as in squeeze-and-excitation.

Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018; here with the reliability, the perturbations and
the loss of the contextual calibrator, so that only the comparison between modalities is missing.
Shapes: summary (B, S) and energy (B, E) -> hidden (B, K) -> shift (B, 1), gate (B, D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.gate import Gate


class SelfGate(Gate):
    """Gate each modality by its own summary only.

    Args: as for `ContextualCalibrator`, with
        hidden: width of the hidden layer, 32 as the comparison size, for about as many parameters.

    >>> gate = SelfGate({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    kind = "self"

    def seen_size(self, name: str) -> int:
        """Return the width of a modality's own summary and energies."""
        return self.summary_size(name) + self.energy_count(name)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Judge every modality by itself."""
        shifts, gates = [], {}
        for name in self.names:
            vector = F.dropout(summaries.vectors[name], self.dropout, self.training)
            shift, gates[name] = self.heads[name](torch.cat([vector, summaries.energies[name]], 1))
            shifts.append(shift)
        return Modulation(torch.stack(shifts, 1), gates)
