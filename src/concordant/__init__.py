"""Concordant calibrates the features of every modality before they are fused.

`import concordant` needs PyTorch alone; commands, data and experiments need the extra `experiments`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from concordant.attach import attach
from concordant.attach.fit import fit_plugin
from concordant.calibration import (
    Calibration,
    Calibrator,
    ContextualCalibrator,
    Perturbation,
    repeat_targets,
    with_copies,
)
from concordant.errors import ConcordantError, DataError, UsageError
from concordant.rivals import JointGate, NoCalibrator, SelfGate

if TYPE_CHECKING:
    from concordant.estimator import CalibratedClassifier, CalibratedRegressor
    from concordant.monitor import Monitor

__version__ = "0.1.0"

# What needs more than PyTorch is imported when it is asked for.
_LAZY = {
    "CalibratedClassifier": "concordant.estimator",
    "CalibratedRegressor": "concordant.estimator",
    "Monitor": "concordant.monitor",
}

__all__ = [
    "CalibratedClassifier",
    "CalibratedRegressor",
    "Calibration",
    "Calibrator",
    "ConcordantError",
    "ContextualCalibrator",
    "DataError",
    "JointGate",
    "Monitor",
    "NoCalibrator",
    "Perturbation",
    "SelfGate",
    "UsageError",
    "__version__",
    "attach",
    "fit_plugin",
    "repeat_targets",
    "with_copies",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
