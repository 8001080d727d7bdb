"""Gated multimodal units: a gate per dimension, from the summaries of all modalities.

Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshops 2017: z_m = sigmoid(W_m [x_1, ..., x_M])
weighs h_m = tanh(V_m x_m), and the weighted h_m are added. Here a fusion of any kind follows, so the original features
are weighed instead of h_m, by 2 z_m, which is 1 before training.
Shapes: summaries (B, S_1 + ... + S_M) -> gates (B, D_m) in (0, 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

from torch import nn

from concordant.calibration.base import SharedOptions, linear, zero_linear
from concordant.calibration.result import Modulation, Summaries
from concordant.rivals.base import Rival, joined, register


@register("gmu", "gated multimodal units: sigmoid gates from all summaries", "Arevalo et al., ICLR workshops 2017")
class GatedUnits(Rival):
    """Gate every dimension of every modality by one linear layer over all summaries.

    Args: as for `Rival`; gates start at exactly 1, so there is no seed.

    >>> import torch
    >>> gate = GatedUnits({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    has_reliability = False

    def __init__(self, sizes: Mapping[str, int], **options: Unpack[SharedOptions]) -> None:
        super().__init__(sizes, **options)
        inputs = sum(self.summary_size(name) for name in self.names)
        self.gates = nn.ModuleDict({name: zero_linear(inputs, self.sizes[name]) for name in self.names})

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return a shift of 0, and gates from all summaries; absent modalities enter as zeros."""
        x = joined(self, summaries.vectors, summaries.present)
        gates = {name: 2 * linear(self.gates[name], x).sigmoid() for name in self.names}
        return Modulation(x.new_zeros(summaries.present.shape), gates)
