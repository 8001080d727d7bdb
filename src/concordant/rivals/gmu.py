"""Gated multimodal units: for every dimension a gate that has seen all modalities.

Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshops 2017: z_m = sigmoid(W_m [x_1, ...,
x_M]) weighs h_m = tanh(V_m x_m), and the weighted h_m are added up. Here the fusion behind the gate stays whose it
is, so z_m weighs the original features instead of h_m, and 2 z_m, so that an untrained gate passes them on.
Shapes: summaries (B, S_1 + ... + S_M) -> gates (B, D_m) in (0, 2).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from concordant.calibration.base import linear, zero_linear
from concordant.calibration.perturbation import Perturbation
from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.untaught import Untaught


class GatedUnits(Untaught):
    """Gate every dimension of every modality by one linear layer over all summaries.

    Args: as for `Untaught`; gates start at exactly 1, so there is no seed.

    >>> gate = GatedUnits({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    has_reliability = False

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        layouts: str | Mapping[str, str] = "auto",
        nonfinite: str = "raise",
        perturbation: Perturbation | bool | None = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(sizes, layouts=layouts, nonfinite=nonfinite, perturbation=perturbation, dropout=dropout)
        seen = sum(self.summary_size(name) for name in self.names)
        self.gates = nn.ModuleDict({name: zero_linear(seen, self.sizes[name]) for name in self.names})

    def modulate(self, summaries: Summaries) -> Modulation:
        """Gate every modality from all of them; what is absent enters as zeros."""
        seen = []
        for name in sorted(self.names):  # an order that does not depend on the declaration's
            here = summaries.present[:, self.names.index(name), None]
            seen.append(torch.where(here, summaries.vectors[name], 0))
        joined = F.dropout(torch.cat(seen, 1), self.dropout, self.training)
        gates = {name: 2 * linear(self.gates[name], joined).sigmoid() for name in self.names}  # type: ignore[arg-type]
        return Modulation(joined.new_zeros(summaries.present.shape), gates)
