"""Analyses of trained models: removal and corruption of modalities, feature-level effects, training dynamics.

The `measure_` functions take any callable `model(features) -> logits` and features by modality, a torch Dataset or a
split; `LoopRecorder` records any training loop. Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from concordant.errors import needs_extra

if TYPE_CHECKING:
    from concordant.dynamics.gradients import gradient_cosines
    from concordant.dynamics.loop import LoopRecorder
    from concordant.robustness.curves import measure_corruption
    from concordant.robustness.removal import measure_removal
    from concordant.visualisation.features import measure_features

_HOMES = {
    "LoopRecorder": "dynamics.loop",
    "gradient_cosines": "dynamics.gradients",
    "measure_corruption": "robustness.curves",
    "measure_features": "visualisation.features",
    "measure_removal": "robustness.removal",
}

__all__ = ["LoopRecorder", "gradient_cosines", "measure_corruption", "measure_features", "measure_removal"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra("experiments", f"{name} needs"):
        return getattr(import_module(f"concordant.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
