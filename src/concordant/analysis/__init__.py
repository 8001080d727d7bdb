"""What a trained model does when modalities are absent, wrong or at odds: the analyses of Concordant.

The `measure_` functions take any callable `model(features) -> logits` and features by modality, a torch Dataset or a
part; `LoopRecorder` looks on in any training loop. Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concordant.analysis.features import measure_features
    from concordant.analysis.gradients import gradient_cosines
    from concordant.analysis.loop import LoopRecorder
    from concordant.analysis.removal import measure_removal
    from concordant.analysis.severity import measure_corruption

_HOMES = {
    "LoopRecorder": "loop",
    "gradient_cosines": "gradients",
    "measure_corruption": "severity",
    "measure_features": "features",
    "measure_removal": "removal",
}

__all__ = ["LoopRecorder", "gradient_cosines", "measure_corruption", "measure_features", "measure_removal"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
