"""The stress test of one trained run: clean, with one modality of each instance corrupted, with one removed.

Each condition gives predictions and reliabilities instance by instance; scores and detection are computed
from these, so that whatever the results say can be recomputed from `predictions.parquet`.
Axis letters: N test instances, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from concord.analysis.corruption import CORRUPTIONS, corrupt, remove
from concord.analysis.detection import whether_auroc, which_auroc
from concord.data.part import Part, Task
from concord.experiment.batches import to_tensors
from concord.experiment.metrics import classification_metrics
from concord.experiment.model import MultimodalModel

CLEAN = "clean"
_BATCH = 512


@dataclass(frozen=True)
class Scored:
    """What a model said of a part under one condition.

    Args:
        condition: "clean", "corruption.<kind>" or "removal.<modality>".
        prediction: (N,) class indices.
        confidence: (N,) probability of the predicted class.
        reliability: (N, M), or None where the calibrator gives none.
        present: bool (N, M).
        hit: bool (N, M), True at corrupted modalities.
    """

    condition: str
    prediction: NDArray[np.int64]
    confidence: NDArray[np.float32]
    reliability: NDArray[np.float32] | None
    present: NDArray[np.bool_]
    hit: NDArray[np.bool_]


@dataclass(frozen=True)
class Stressed:
    """A run's stress test.

    Args:
        names: the modalities, the order of every M axis.
        scored: condition -> what the model said of the test part.
        scores: what results.json holds of it: "clean", "corruption", "removal", "detection_auroc".
    """

    names: tuple[str, ...]
    scored: dict[str, Scored]
    scores: dict[str, Any]


def stress(model: MultimodalModel, task: Task, seed: int) -> Stressed:
    """Score a trained model clean, corrupted and with each modality removed.

    Args:
        model: in evaluation mode.
        task: its test part is scored; its validation part, clean, tells what reliabilities are usual.
        seed: of the corruptions, the run's own.
    """
    names = tuple(task.test.inputs)
    scored = {CLEAN: score(model, task.test, CLEAN)}
    for kind in CORRUPTIONS:
        corrupted = corrupt(task.test, kind, layouts=task.layouts, seed=seed)
        scored[f"corruption.{kind}"] = score(model, corrupted.part, f"corruption.{kind}", hit=corrupted.hit)
    for name in names:
        scored[f"removal.{name}"] = score(model, remove(task.test, name), f"removal.{name}")
    usual = score(model, task.valid, "validation")
    metrics = {
        condition: classification_metrics(task.test.labels, one.prediction, len(task.classes))
        for condition, one in scored.items()
    }
    return Stressed(
        names=names,
        scored=scored,
        scores={
            "clean": metrics[CLEAN],
            "corruption": {kind: metrics[f"corruption.{kind}"] for kind in CORRUPTIONS},
            "removal": {name: metrics[f"removal.{name}"] for name in names},
            "detection_auroc": {
                kind: detection(scored[f"corruption.{kind}"], scored[CLEAN], usual) for kind in CORRUPTIONS
            },
        },
    )


def score(model: MultimodalModel, part: Part, condition: str, *, hit: NDArray[np.bool_] | None = None) -> Scored:
    """Return what a model says of a part."""
    device = next(model.parameters()).device
    prediction, confidence, reliability, present = [], [], [], []
    with torch.no_grad():
        for batch in to_tensors(part).chunks(_BATCH):
            here = batch.to(device)
            out = model(here.inputs, here.masks, here.present)
            best = out.logits.float().softmax(1).max(1)
            prediction.append(best.indices.cpu())
            confidence.append(best.values.cpu())
            reliability.append(out.calibration.reliability.float().cpu())
            present.append(out.calibration.present.cpu())
    seen = torch.cat(present).numpy()
    return Scored(
        condition=condition,
        prediction=torch.cat(prediction).numpy(),
        confidence=torch.cat(confidence).numpy(),
        reliability=torch.cat(reliability).numpy() if model.calibrator.has_reliability else None,
        present=seen,
        hit=np.zeros_like(seen) if hit is None else hit,
    )


def detection(corrupted: Scored, clean: Scored, usual: Scored) -> dict[str, float | None]:
    """Return how well reliability tells which modality was corrupted, and whether one was; None without any."""
    if corrupted.reliability is None or clean.reliability is None or usual.reliability is None:
        return {"which": None, "whether": None}
    common = {
        "reference": usual.reliability,
        "corrupted": corrupted.hit,
        "present": corrupted.present,
        "reference_present": usual.present,
    }
    return {
        "which": which_auroc(corrupted.reliability, **common),
        "whether": whether_auroc(corrupted.reliability, clean.reliability, **common),
    }
