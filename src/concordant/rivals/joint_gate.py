"""The joint gate: all summaries concatenated, then channel gates for every modality, as in MMTM.

Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020: squeeze each modality, join the
squeezed vectors in one layer, gate each modality's channels from it. Here for any number of modalities and
with the reliability, the perturbations and the loss of the contextual calibrator.
Shapes: summaries (B, S_1 + ... + S_M) -> hidden (B, K) a modality -> shift (B, 1), gate (B, D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.gate import Gate


class JointGate(Gate):
    """Gate every modality from all summaries at once, without comparing them.

    Args: as for `ContextualCalibrator`, with
        hidden: width of each modality's hidden layer, 32 as the comparison size; every one of these layers
            sees all summaries, so that parameters grow with the square of the number of modalities.

    >>> gate = JointGate({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    kind = "joint"

    def seen_size(self, name: str) -> int:
        """Return the width of all summaries and energies together, whichever the modality."""
        return sum(self.summary_size(other) + self.energy_count(other) for other in self.names)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Judge every modality from all of them; what is absent enters as zeros."""
        seen = []
        for name in sorted(self.names):  # an order that does not depend on the declaration's
            both = torch.cat([summaries.vectors[name], summaries.energies[name]], 1)
            seen.append(torch.where(summaries.present[:, self.names.index(name), None], both, 0))
        joined = F.dropout(torch.cat(seen, 1), self.dropout, self.training)
        judged = {name: self.heads[name](joined) for name in self.names}
        shifts = torch.stack([judged[name][0] for name in self.names], 1)
        return Modulation(shifts, {name: judged[name][1] for name in self.names})
