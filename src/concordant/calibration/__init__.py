"""The paper: summary, comparison, modulation, joined in the calibrator."""

from concordant.calibration.base import Calibrator
from concordant.calibration.calibrator import ContextualCalibrator
from concordant.calibration.perturbation import Perturbation, repeat_targets, with_copies
from concordant.calibration.result import Calibration

__all__ = ["Calibration", "Calibrator", "ContextualCalibrator", "Perturbation", "repeat_targets", "with_copies"]
