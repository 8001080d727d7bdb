"""Trace a calibrator over a split: features before and after, gates, reliability, support and conflict.

Features are kept as summaries, the mean over their valid positions.
Axis letters: N instances, M modalities, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant.calibration.summary import summarise
from concordant.data.split import AnySplit, Bools, Floats
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS, to_positions
from concordant.robustness.own_data import layouts_of
from concordant.robustness.predict import (
    BATCH,
    FromFeatures,
    Model,
    call,
    device_of,
    evaluating,
    feature_layouts,
    features_of,
)
from concordant.training.batches import open_tensors
from concordant.training.model import MultimodalModel


@dataclass(frozen=True)
class Trace:
    """The output of a calibrator on some instances.

    Args:
        names: the modalities, the order of every M axis.
        before: modality -> summaries of its input features (N, D).
        after: modality -> summaries of the calibrated features (N, D).
        gates: modality -> (N, D).
        reliability: (N, M), 0 where absent.
        present: bool (N, M).
        support: (N, M, M).
        conflict: (N, M, M).
        logits: (N, C) of the model around it; None for a calibrator alone.
    """

    names: tuple[str, ...]
    before: dict[str, Floats]
    after: dict[str, Floats]
    gates: dict[str, Floats]
    reliability: Floats
    present: Bools
    support: Floats
    conflict: Floats
    logits: Floats | None

    def predictions(self, *, real: bool) -> NDArray[Any] | None:
        """Return class indices (N,), or the predicted numbers (N,); None for a calibrator alone."""
        return None if self.logits is None else self.logits[:, 0] if real else self.logits.argmax(1)


def trace_calibration(model: Model, split: AnySplit, layouts: Mapping[str, str] | None = None) -> Trace:
    """Run a calibrator over a split and return its intermediate values.

    Args:
        model: a model of `concordant run`, whose inputs the split has; or a calibrator, or any callable whose output is
            a `Calibration` or has one as `.calibration`, whose features the split has.
        split: the instances.
        layouts: modality -> layout of the features, batch first; None = read off the number of axes.

    Raises:
        UsageError: the output of the model has no calibration.
    """
    if isinstance(model, MultimodalModel):
        return _trace(FromFeatures(model), features_of(model, split), feature_layouts(model))
    return _trace(model, split, layouts_of(split, layouts))


def _trace(model: Model, split: AnySplit, layouts: Mapping[str, str]) -> Trace:
    found: dict[str, list[Tensor]] = {}
    names: tuple[str, ...] = ()
    with evaluating(model):
        for some in open_tensors(split).to(device_of(model)).chunks(BATCH):
            out = call(model, some)
            calibration = _calibration_of(out)
            names = calibration.names
            lacking = [name for name in names if name not in some.inputs]
            if lacking:
                raise UsageError(
                    f"data must have all modalities of the calibrator; {lacking} are not among {list(some.inputs)}: "
                    "give their features, and mark in `present` which instances have them"
                )
            rows = {
                "reliability": calibration.reliability,
                "present": calibration.present,
                "support": calibration.support,
                "conflict": calibration.conflict,
            }
            if isinstance(getattr(out, "logits", None), Tensor) and out is not calibration:
                rows["logits"] = out.logits
            for index, name in enumerate(names):
                here = calibration.present[:, index]
                rows[f"gates.{name}"] = calibration.gates[name]
                for side, x in (("before", some.inputs[name]), ("after", calibration.features[name])):
                    rows[f"{side}.{name}"] = _summary(x, layouts[name], here, some.masks.get(name))
            for key, values in rows.items():
                found.setdefault(key, []).append(values.cpu())
    whole = {key: torch.cat(values).numpy() for key, values in found.items()}
    arrays: dict[str, Any] = {key: x if x.dtype == np.bool_ else x.astype(np.float32) for key, x in whole.items()}
    for side in ("before", "after", "gates"):
        arrays[side] = {name: arrays.pop(f"{side}.{name}") for name in names}
    return Trace(names=names, logits=arrays.pop("logits", None), **arrays)


def _calibration_of(out: Any) -> Any:  # noqa: ANN401 - a model may return anything
    calibration = getattr(out, "calibration", out)
    needed = ("names", "features", "gates", "reliability", "present", "support", "conflict")
    missing = [name for name in needed if not hasattr(calibration, name)]
    if missing:
        raise UsageError(
            f"model must return a Calibration, or an object that has one as `.calibration`; found "
            f"{type(out).__name__} without {', '.join(missing)}"
        )
    return calibration


def _summary(x: Tensor, layout: str, here: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over valid positions, (B, D); 0 where the modality is absent."""
    flat = to_positions(x.float(), LAYOUTS[layout])
    valid = here.unsqueeze(1) if mask is None else here.unsqueeze(1) & mask
    return summarise(flat, valid, spread=False)
