"""Calibrators by name: ours, and what a user would put in its place."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    build: type[Calibrator]
    summary: str


CALIBRATORS: Registry[CalibratorEntry] = Registry("calibrator")
CALIBRATORS.add("none", CalibratorEntry(NoCalibrator, "no calibration: the uncalibrated twin"))
CALIBRATORS.add("self", CalibratorEntry(SelfGate, "each modality gated by its own summary (squeeze-and-excitation)"))
CALIBRATORS.add("joint", CalibratorEntry(JointGate, "gates from all summaries concatenated (MMTM, CVPR 2020)"))
CALIBRATORS.add(
    "context",
    CalibratorEntry(ContextualCalibrator, "scaled by the support and conflict of the other modalities (ours)"),
)

__all__ = ["CALIBRATORS", "CalibratorEntry", "JointGate", "NoCalibrator", "SelfGate"]
