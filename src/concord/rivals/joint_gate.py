"""The joint gate: all summaries concatenated, then channel gates for every modality, as in MMTM.

Joze et al., "MMTM: Multimodal Transfer Module for CNN Fusion", CVPR 2020: squeeze each modality, join the
squeezed vectors in one layer, gate each modality's channels from it. Here for any number of modalities and
with the reliability, the perturbations and the loss of the contextual calibrator.
Shapes: summaries (B, S_1 + ... + S_M) -> hidden (B, K) a modality -> shift (B, 1), gate (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from concord import seeding
from concord.calibration.base import Calibrator, Modulation, Summaries
from concord.calibration.perturbation import Perturbation
from concord.rivals.self_gate import Squeeze


class JointGate(Calibrator):
    """Gate every modality from all summaries at once, without comparing them.

    Args: as for `ContextualCalibrator`, with
        hidden: width of each modality's hidden layer, 32 as the comparison size.

    >>> gate = JointGate({"text": 4, "audio": 3}).eval()
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
        inputs = sum(self.summary_size(name) + self.energy_count(name) for name in self.names)
        self.judges = nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", "joint", name):
                self.judges[name] = Squeeze(inputs, hidden, self.sizes[name])

    def modulate(self, summaries: Summaries) -> Modulation:
        """Judge every modality from all of them; what is absent enters as zeros."""
        seen = []
        for name in sorted(self.names):  # an order that does not depend on the declaration's
            both = torch.cat([summaries.vectors[name], summaries.energies[name]], 1)
            seen.append(torch.where(summaries.present[:, self.names.index(name), None], both, 0))
        joined = F.dropout(torch.cat(seen, 1), self.dropout, self.training)
        judged = {name: self.judges[name](joined) for name in self.names}
        shifts = torch.stack([judged[name][0] for name in self.names], 1)
        return Modulation(shifts, {name: judged[name][1] for name in self.names})
