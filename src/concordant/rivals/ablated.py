"""The contextual calibrator with parts of it switched off: what each part is worth.

With nothing switched off it is `ContextualCalibrator`, bit for bit.
Shapes: as for every calibrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import UsageError


class AblatedCalibrator(ContextualCalibrator):
    """A contextual calibrator without some of its parts.

    Args: as for `ContextualCalibrator`, with
        support: the cues show where modalities agree, the positive cosines.
        conflict: the cues show where they contradict each other, the negative cosines.
        reliability: the instance-wise modulation; without it reliability is 1, and nothing is taught what was
            perturbed.
        gates: the dimension-wise modulation; without it gates are 1.
        unimodal_cues: the modalities' opinions of the classes, where they have any, are cues.

    Raises:
        UsageError: neither reliability nor gates are left, or as for `ContextualCalibrator`.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        support: bool = True,
        conflict: bool = True,
        reliability: bool = True,
        gates: bool = True,
        unimodal_cues: bool = True,
        **options: Any,  # noqa: ANN401 - those of the calibrator
    ) -> None:
        super().__init__(sizes, **options)
        if not reliability and not gates:
            raise UsageError("reliability and gates cannot both be switched off: nothing would be modulated")
        self.support, self.conflict, self.gates, self.unimodal_cues = support, conflict, gates, unimodal_cues
        self.has_reliability = reliability

    def shown_cues(self, kind: str, values: Tensor) -> Tensor:
        """Return the values without what is switched off."""
        if kind != "agreement" and not self.unimodal_cues:
            return torch.zeros_like(values)
        if kind == "certainty":
            return values
        shown = values if self.support else values.clamp(max=0)
        return shown if self.conflict else shown.clamp(min=0)

    def modulate(self, summaries: Summaries) -> Modulation:
        """Return the modulation without what is switched off."""
        found = super().modulate(summaries)
        if not self.has_reliability:
            found = replace(found, shift=torch.zeros_like(found.shift))
        if not self.gates:
            ones = {name: torch.ones_like(gate) for name, gate in found.gates.items()}
            found = replace(found, gates=ones)
        return found
