"""Gates that do not compare modalities: from each modality's own summary, or from all summaries concatenated.

`SelfGate`: Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018. `JointGate`: Joze et al., "MMTM: Multimodal
Transfer Module for CNN Fusion", CVPR 2020, for any number of modalities: squeeze each modality, join the squeezed
vectors in one layer, gate each modality's channels from it. Both have the reliability, the perturbations and the loss
of the contextual calibrator; only the comparison is missing.
Shapes: summaries (B, S) and energies (B, E), of one modality or of all -> hidden (B, K) -> shift (B,), gate (B, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from concordant import seeding
from concordant.calibration.base import Calibrator, SharedOptions, linear, zero_linear
from concordant.calibration.modulation import gate_from_activation
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import joined, register, summary_of


class Squeeze(nn.Module):
    """One hidden layer and two zero-initialised heads, reliability and gate.

    Args:
        inputs: width of the input.
        hidden: width of the hidden layer.
        size: number of features gated, D.
    """

    def __init__(self, inputs: int, hidden: int, size: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(inputs, hidden)
        self.reliability = zero_linear(hidden, 1)
        self.gate = zero_linear(hidden, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift (B,) and gate (B, D) from (B, inputs)."""
        hidden = F.gelu(linear(self.squeeze, x))
        return linear(self.reliability, hidden).squeeze(1), gate_from_activation(linear(self.gate, hidden))


@register("self", "each modality gated by its own summary (squeeze-and-excitation)", "Hu et al., CVPR 2018")
class SelfGate(Calibrator):
    """Gate each modality by its own summary only.

    Args: as for `ContextualCalibrator`, with
        hidden: width of the hidden layer, 32 as the comparison size, for about as many parameters.

    >>> gate = SelfGate({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    kind = "self"  # names the random stream of the initial weights

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        hidden: int = 32,
        clean_weight: float = 0.5,
        seed: int | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(sizes, clean_weight=clean_weight, agreement_weight=0.0, **options)
        with checks() as check:
            hidden = check.integer("hidden", hidden, 1)
        base = seeding.chosen(seed)
        self.heads = nn.ModuleDict()
        for name in self.names:
            with seeding.scope(base, "calibrator", self.kind, name):
                self.heads[name] = Squeeze(self.input_size(name), hidden, self.sizes[name])

    def input_size(self, name: str) -> int:
        """Return the width of a modality's summary and energies."""
        return self.summary_size(name) + self.energy_count(name)

    def inputs(self, summaries: Summaries) -> list[Tensor]:
        """Return the input of each modality's network."""
        return [torch.cat([summary_of(self, summaries, name), summaries.energies[name]], 1) for name in self.names]

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return shift and gates of every modality."""
        found = [self.heads[name](x) for name, x in zip(self.names, self.inputs(summaries), strict=True)]
        gates = {name: gate for name, (_, gate) in zip(self.names, found, strict=True)}
        return Modulation(torch.stack([shift for shift, _ in found], 1), gates)


@register("joint", "gates from all summaries concatenated (MMTM, CVPR 2020)", "Joze et al., CVPR 2020")
class JointGate(SelfGate):
    """Gate every modality from all summaries at once, without comparing them; absent modalities enter as zeros.

    Args: as for `ContextualCalibrator`, with
        hidden: width of each modality's hidden layer, 32 as the comparison size. The input of each is all summaries, so
            parameters grow with the square of the number of modalities.

    >>> gate = JointGate({"text": 4, "audio": 3}).eval()
    >>> text = torch.randn(2, 4)
    >>> torch.equal(gate({"text": text, "audio": torch.randn(2, 3)}).features["text"], text)
    True
    """

    kind = "joint"

    def input_size(self, name: str) -> int:
        """Return the width of all summaries and energies together."""
        return sum(self.summary_size(other) + self.energy_count(other) for other in self.names)

    def inputs(self, summaries: Summaries) -> list[Tensor]:
        """Return the input of each modality's network."""
        both = {name: torch.cat([summaries.vectors[name], summaries.energies[name]], 1) for name in self.names}
        return [joined(self, both, summaries.present)] * len(self.names)
