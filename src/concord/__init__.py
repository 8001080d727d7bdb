"""Concord calibrates the features of every modality before they are fused.

`import concord` needs PyTorch alone; commands, data and experiments need the extra `experiments`.
"""

from concord.calibration import (
    Calibration,
    Calibrator,
    ContextualCalibrator,
    Perturbation,
    repeat_targets,
    with_copies,
)
from concord.errors import ConcordError, DataError, UsageError
from concord.rivals import JointGate, NoCalibrator, SelfGate

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Calibrator",
    "ConcordError",
    "ContextualCalibrator",
    "DataError",
    "JointGate",
    "NoCalibrator",
    "Perturbation",
    "SelfGate",
    "UsageError",
    "__version__",
    "repeat_targets",
    "with_copies",
]
