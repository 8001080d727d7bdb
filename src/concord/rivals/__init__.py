"""Calibrators by name: ours, and what a user would put in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from concord.calibration.base import Calibrator
from concord.calibration.calibrator import ContextualCalibrator
from concord.registry import Registry
from concord.rivals.joint_gate import JointGate
from concord.rivals.none import NoCalibrator
from concord.rivals.self_gate import SelfGate


@dataclass(frozen=True)
class CalibratorEntry:
    """A calibrator that an experiment can choose.

    Args:
        build: its class; takes the sizes and keyword arguments.
        summary: one line.
        paper: authors, venue and year of what it implements; "" for our own.
        options: keyword arguments that the class takes with this name.
        classes: the class takes the number of classes as `classes`.
        late: it decides for each modality alone, and needs a fusion that keeps them apart to the end.
        identity: untrained, it passes the features on bit for bit.
    """

    build: type[Calibrator]
    summary: str
    paper: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: bool = False
    late: bool = False
    identity: bool = True


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
    "context",
    CalibratorEntry(
        ContextualCalibrator, "scaled by the support and conflict of the other modalities (ours)", "arXiv 2606.02679"
    ),
)

__all__ = ["CALIBRATORS", "CalibratorEntry", "JointGate", "NoCalibrator", "SelfGate"]
