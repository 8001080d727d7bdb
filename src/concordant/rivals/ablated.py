"""Ablations: the contextual calibrator with parts of it switched off, to measure the effect of each part.

With nothing switched off it is `ContextualCalibrator`, bit for bit. The entries are not listed, since they answer
questions about the contextual calibrator and are not to be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Unpack

import torch
from torch import Tensor

from concordant.calibration.calibrator import ContextualCalibrator, ContextualOptions
from concordant.calibration.result import Modulation, Summaries
from concordant.errors import checks
from concordant.rivals.base import CALIBRATORS, CalibratorEntry, register

PAPER = "arXiv 2606.02679"
register("context", "scaled by the support and conflict of the other modalities (ours)", PAPER, unimodal=True)(
    ContextualCalibrator
)


class AblatedCalibrator(ContextualCalibrator):
    """A contextual calibrator without some of its parts.

    Args: as for `ContextualCalibrator`, with
        support: the cues have the positive cosines, where modalities agree.
        conflict: the cues have the negative cosines, where they contradict each other.
        reliability: the instance-wise modulation; without it reliability is 1, and the loss on what was perturbed does
            not apply.
        gates: the dimension-wise modulation; without it gates are 1.
        unimodal_cues: the unimodal predictions of the classes, if there are any, are cues.
        scaling: features are scaled; without it they pass as they are, and the losses alone shape the encoders.

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
        scaling: bool = True,
        **options: Unpack[ContextualOptions],
    ) -> None:
        super().__init__(sizes, **options)
        with checks() as check:
            self.support, self.conflict = check.flag("support", support), check.flag("conflict", conflict)
            self.has_reliability, self.gates = check.flag("reliability", reliability), check.flag("gates", gates)
            self.unimodal_cues = check.flag("unimodal_cues", unimodal_cues)
            self.scales_features = check.flag("scaling", scaling)
            left = bool(reliability) or bool(gates)
            check.require(left, "reliability and gates cannot both be switched off: nothing would be modulated")

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


# name -> (what is switched off, the arguments)
_SWITCHED_OFF: dict[str, tuple[str, dict[str, Any]]] = {
    "no-support": ("its cues hide agreement that is positive", {"support": False}),
    "no-conflict": ("its cues hide agreement that is negative", {"conflict": False}),
    "no-comparison": ("its cues hide all agreement", {"support": False, "conflict": False}),
    "no-gates": ("instance-wise alone: gates are 1", {"gates": False}),
    "no-reliability": ("dimension-wise alone: reliability is 1", {"reliability": False}),
    "losses-only": ("its losses alone: features pass as they are", {"scaling": False}),
    "no-intact-loss": ("without the loss on what was perturbed", {"clean_weight": 0.0}),
    "no-agreement-loss": ("without the contrastive loss", {"agreement_weight": 0.0}),
    "no-perturbation": ("trained on clean batches alone", {}),
    "no-opinions": ("without unimodal predictions of the classes", {}),
    "no-opinion-cues": ("its unimodal predictions are no cues", {"unimodal_cues": False}),
    "narrow": ("compared in 16 dimensions", {"comparison_size": 16}),
    "wide": ("compared in 64 dimensions", {"comparison_size": 64}),
}
ABLATIONS = tuple(f"context-{name}" for name in _SWITCHED_OFF)
for _name, (_what, _options) in _SWITCHED_OFF.items():
    _entry = CalibratorEntry(
        AblatedCalibrator,
        f"context, {_what}",
        PAPER,
        options=_options,
        unimodal=_name != "no-opinions",
        perturbed=_name != "no-perturbation",
        stream="context",
    )
    CALIBRATORS.add(f"context-{_name}", _entry, listed=False)
