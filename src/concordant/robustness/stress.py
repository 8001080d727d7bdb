"""The stress test of one trained run: clean, with one modality of each instance corrupted, with one removed.

Each condition gives predictions and reliabilities instance by instance; scores and detection are computed
from these, so that whatever the results say can be recomputed from `predictions.parquet`.
Axis letters: N test instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from concordant.data.split import Split, Task
from concordant.robustness.corruption import CORRUPTIONS, corrupt, remove
from concordant.robustness.detection import whether_auroc, which_auroc
from concordant.robustness.predict import ask
from concordant.statistics.comparisons import CLEAN
from concordant.training.metrics import calibration_error, classification_metrics, sentiment_metrics
from concordant.training.model import MultimodalModel


@dataclass(frozen=True)
class Scored:
    """What a model said of a part under one condition.

    Args:
        condition: "clean", "corruption.<kind>" or "removal.<modality>".
        prediction: (N,) class indices, or real numbers.
        confidence: (N,) probability of the predicted class; None of real numbers.
        reliability: (N, M), or None where the calibrator gives none.
        present: bool (N, M).
        hit: bool (N, M), True at corrupted modalities.
    """

    condition: str
    prediction: NDArray[Any]
    confidence: NDArray[np.float32] | None
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

    A test part that is too large for memory is gone through piece by piece.

    Args:
        model: in evaluation mode.
        task: its test part is scored; its validation part, clean, tells what reliabilities are usual.
        seed: of the corruptions, the run's own.
    """
    names = tuple(task.test.shapes)
    found: dict[str, list[Scored]] = {}
    whole = isinstance(task.test, Split)
    for number, piece in enumerate(task.test.chunks()):
        place = None if whole else number
        for one in _conditions(model, piece, task, seed, place):
            found.setdefault(one.condition, []).append(one)
    scored = {condition: _joined(pieces) for condition, pieces in found.items()}
    usual = _joined([score(model, piece, "validation") for piece in task.valid.chunks()])
    metrics = {condition: metrics_of(task.test.labels, one, task.outputs) for condition, one in scored.items()}
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


def _conditions(model: MultimodalModel, piece: Split, task: Task, seed: int, place: int | None) -> Iterator[Scored]:
    """Yield what a model says of some instances under every condition."""
    yield score(model, piece, CLEAN)
    for kind in CORRUPTIONS:
        corrupted = corrupt(piece, kind, layouts=task.layouts, seed=seed, piece=place)
        yield score(model, corrupted.part, f"corruption.{kind}", hit=corrupted.hit)
    for name in piece.inputs:
        yield score(model, remove(piece, name), f"removal.{name}")


def _joined(pieces: Sequence[Scored]) -> Scored:
    """Return the pieces of one condition as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Scored(
        condition=pieces[0].condition,
        prediction=np.concatenate([piece.prediction for piece in pieces]),
        confidence=_concatenated([piece.confidence for piece in pieces]),
        reliability=_concatenated([piece.reliability for piece in pieces]),
        present=np.concatenate([piece.present for piece in pieces]),
        hit=np.concatenate([piece.hit for piece in pieces]),
    )


def _concatenated(arrays: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    there = [array for array in arrays if array is not None]
    return np.concatenate(there) if there else None


def as_classes(labels: NDArray[Any]) -> NDArray[Any]:
    """Return class indices as they are, and of real numbers whether they are 0 or more (Has0)."""
    return labels if labels.dtype.kind in "iu" else (labels >= 0).astype(np.int64)


def agree(labels: NDArray[Any], predictions: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a prediction is right: the class, or of real numbers the side of 0 (N,)."""
    return np.asarray(as_classes(labels) == as_classes(predictions), dtype=np.bool_)


def metrics_of(labels: NDArray[Any], scored: Scored, outputs: int) -> dict[str, float | None]:
    """Return all metrics; `accuracy` of real labels is `has0_accuracy`, so that tables hold one kind of number."""
    if scored.confidence is not None:
        error = calibration_error(agree(labels, scored.prediction), scored.confidence)
        return {**classification_metrics(labels, scored.prediction, outputs), "calibration_error": error}
    found = sentiment_metrics(labels, scored.prediction)
    return {"accuracy": found["has0_accuracy"], **found}


def score(model: MultimodalModel, part: Split, condition: str, *, hit: NDArray[np.bool_] | None = None) -> Scored:
    """Return what a model says of a part."""
    answer = ask(model, part)
    real = part.labels.dtype.kind == "f"
    best = torch.from_numpy(answer.logits).softmax(1).max(1)
    return Scored(
        condition=condition,
        prediction=answer.predictions(real=True) if real else best.indices.numpy(),
        confidence=None if real else best.values.numpy(),
        reliability=answer.reliability,
        present=answer.present,
        hit=np.zeros_like(answer.present) if hit is None else hit,
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
