"""Calibrators by name: ours, and what a user would put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.registry import Registry
from concordant.rivals.ablated import AblatedCalibrator
from concordant.rivals.aecf import EntropyGate
from concordant.rivals.after_fusion import AfterFusion
from concordant.rivals.attention import ModalityAttention
from concordant.rivals.evidential import ConflictEvidential, Evidential
from concordant.rivals.gmu import GatedUnits
from concordant.rivals.joint_gate import JointGate
from concordant.rivals.modality_dropout import ModalityDropout
from concordant.rivals.none import NoCalibrator
from concordant.rivals.self_gate import SelfGate
from concordant.rivals.uncertainty import ConfidenceWeights


@dataclass(frozen=True)
class CalibratorEntry:
    """A calibrator that an experiment can choose.

    Args:
        build: its class; takes the sizes and keyword arguments.
        summary: one line.
        paper: authors, venue and year of what it implements; "" for our own.
        options: keyword arguments that the class takes with this name.
        classes: the class takes the number of classes as `classes`.
        opines: the class takes the number of classes as `classes` where labels are classes, and does without elsewhere.
        late: it decides for each modality alone, and needs a fusion that keeps them apart to the end.
        identity: untrained, it passes the features on bit for bit.
        fused: it stands behind the fusion, and takes the width of what the head sees as `fused`.
        perturbed: training perturbs; False for an ablation that is never shown what is unreliable.
        stream: whose stream of random numbers the initial weights come from; "" = its own. An ablation starts from the
            weights of what it is an ablation of.
    """

    build: type[Calibrator]
    summary: str
    paper: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: bool = False
    opines: bool = False
    late: bool = False
    identity: bool = True
    fused: bool = False
    perturbed: bool = True
    stream: str = ""


CALIBRATORS: Registry[CalibratorEntry] = Registry("calibrator")
CALIBRATORS.add("none", CalibratorEntry(NoCalibrator, "no calibration: the uncalibrated twin"))
CALIBRATORS.add(
    "self",
    CalibratorEntry(
        SelfGate, "each modality gated by its own summary (squeeze-and-excitation)", "Hu et al., CVPR 2018"
    ),
)
CALIBRATORS.add(
    "joint",
    CalibratorEntry(JointGate, "gates from all summaries concatenated (MMTM, CVPR 2020)", "Joze et al., CVPR 2020"),
)
CALIBRATORS.add(
    "gmu",
    CalibratorEntry(
        GatedUnits, "gated multimodal units: sigmoid gates from all summaries", "Arevalo et al., ICLR workshops 2017"
    ),
)
CALIBRATORS.add(
    "modality-dropout",
    CalibratorEntry(
        ModalityDropout, "whole modalities left out while training (ModDrop)", "Neverova et al., TPAMI 2016"
    ),
)
CALIBRATORS.add(
    "uncertainty",
    CalibratorEntry(
        ConfidenceWeights,
        "weighed by the confidence of each modality's own classifier (QMF)",
        "Zhang et al., ICML 2023",
        classes=True,
    ),
)
CALIBRATORS.add(
    "evidential",
    CalibratorEntry(
        Evidential,
        "opinions of each modality combined by Dempster's rule, in place of the head (TMC)",
        "Han et al., ICLR 2021",
        classes=True,
        late=True,
        identity=False,
    ),
)
CALIBRATORS.add(
    "evidential-conflict",
    CalibratorEntry(
        ConflictEvidential,
        "opinions averaged, with a loss on their conflict, in place of the head (RCML)",
        "Xu et al., AAAI 2024",
        classes=True,
        late=True,
        identity=False,
    ),
)
CALIBRATORS.add(
    "aecf",
    CalibratorEntry(
        EntropyGate, "softmax weights at a target entropy, with curriculum masking", "Chlon et al., arXiv 2505.15417"
    ),
)
CALIBRATORS.add(
    "attention",
    CalibratorEntry(
        ModalityAttention,
        "attention over modalities: weights from each summary beside the mean of all",
        "Hori et al., ICCV 2017",
    ),
)
CALIBRATORS.add(
    "context",
    CalibratorEntry(
        ContextualCalibrator,
        "scaled by the support and conflict of the other modalities (ours)",
        "arXiv 2606.02679",
        opines=True,
    ),
)
# Made to answer questions about the contextual calibrator, not to be chosen: not listed.
_SWITCHED_OFF: dict[str, tuple[str, dict[str, Any]]] = {
    "no-support": ("its cues hide agreement that is positive", {"support": False}),
    "no-conflict": ("its cues hide agreement that is negative", {"conflict": False}),
    "no-comparison": ("its cues hide all agreement", {"support": False, "conflict": False}),
    "no-gates": ("instance-wise alone: gates are 1", {"gates": False}),
    "no-reliability": ("dimension-wise alone: reliability is 1", {"reliability": False}),
    "no-intact-loss": ("without the loss on what was perturbed", {"clean_weight": 0.0}),
    "no-agreement-loss": ("without the contrastive loss", {"agreement_weight": 0.0}),
    "no-perturbation": ("trained on clean batches alone", {}),
    "no-opinions": ("its modalities have no opinions of the classes", {}),
    "no-opinion-cues": ("its modalities have opinions, which are no cues", {"unimodal_cues": False}),
    "narrow": ("compared in 16 dimensions", {"comparison_size": 16}),
    "wide": ("compared in 64 dimensions", {"comparison_size": 64}),
}
for _part, (_what, _options) in _SWITCHED_OFF.items():
    CALIBRATORS.add(
        f"context-{_part}",
        CalibratorEntry(
            AblatedCalibrator,
            f"context, {_what}",
            "arXiv 2606.02679",
            options=_options,
            opines=_part != "no-opinions",
            perturbed=_part != "no-perturbation",
            stream="context",
        ),
        listed=False,
    )
CALIBRATORS.add(
    "after-fusion",
    CalibratorEntry(
        AfterFusion,
        "context, applied to what the head sees instead of the original features",
        "arXiv 2606.02679",
        opines=True,
        fused=True,
        stream="context",
    ),
    listed=False,
)
ABLATIONS = tuple(f"context-{part}" for part in _SWITCHED_OFF)

__all__ = [
    "ABLATIONS",
    "CALIBRATORS",
    "AblatedCalibrator",
    "AfterFusion",
    "CalibratorEntry",
    "ConfidenceWeights",
    "ConflictEvidential",
    "EntropyGate",
    "Evidential",
    "GatedUnits",
    "JointGate",
    "ModalityAttention",
    "ModalityDropout",
    "NoCalibrator",
    "SelfGate",
]
