"""The paper: summary, comparison, modulation, joined in the calibrator."""

from concord.calibration.base import Calibrator
from concord.calibration.calibrator import ContextualCalibrator
from concord.calibration.outcome import Calibration
from concord.calibration.perturbation import Perturbation, repeat_targets, with_copies

__all__ = ["Calibration", "Calibrator", "ContextualCalibrator", "Perturbation", "repeat_targets", "with_copies"]
