"""Concordant calibrates the features of every modality before they are fused.

`import concordant` needs PyTorch alone; commands, data and experiments need the extra `experiments`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concordant.attach import attach
    from concordant.attach.find import find_taps
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
    from concordant.estimator import Modalities, MultimodalClassifier, MultimodalRegressor
    from concordant.monitor import Monitor
    from concordant.rivals import JointGate, NoCalibrator, SelfGate

__version__ = "0.2.0"

__all__ = [
    "Calibration",
    "Calibrator",
    "ConcordantError",
    "ContextualCalibrator",
    "DataError",
    "JointGate",
    "Modalities",
    "Monitor",
    "MultimodalClassifier",
    "MultimodalRegressor",
    "NoCalibrator",
    "Perturbation",
    "SelfGate",
    "UsageError",
    "__version__",
    "attach",
    "find_taps",
    "fit_plugin",
    "repeat_targets",
    "with_copies",
]

# Each name is imported at its first use: commands that compute nothing start without PyTorch.
_HOMES = {
    "Calibration": "calibration",
    "Calibrator": "calibration",
    "ConcordantError": "errors",
    "ContextualCalibrator": "calibration",
    "DataError": "errors",
    "JointGate": "rivals",
    "Modalities": "estimator",
    "Monitor": "monitor",
    "MultimodalClassifier": "estimator",
    "MultimodalRegressor": "estimator",
    "NoCalibrator": "rivals",
    "Perturbation": "calibration",
    "SelfGate": "rivals",
    "UsageError": "errors",
    "find_taps": "attach.find",
    "fit_plugin": "attach.fit",
    "repeat_targets": "calibration",
    "with_copies": "calibration",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The type of this module: `concordant.attach` is the function, although a subpackage has its name."""

    @property
    def attach(self) -> Any:  # noqa: ANN401
        return import_module(f"{__name__}.attach").attach

    @attach.setter
    def attach(self, subpackage: ModuleType) -> None:
        """Ignore the assignment that the import system makes when the subpackage is first imported."""


sys.modules[__name__].__class__ = _Package
