"""One number for what a model said: the metric that an analysis follows.

Every metric here is better when it is higher, so that shares of a score and Shapley values can be read.
Axis letters: N instances, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError
from concordant.robustness.predict import Answer
from concordant.robustness.stress import agree, as_classes
from concordant.training.metrics import PRIMARY, classification_metrics, sentiment_metrics

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted")
REAL_METRICS = ("accuracy", "has0_f1_weighted", "accuracy7", "accuracy5", "accuracy3", "correlation")


def check_metric(metric: str, labels: NDArray[Any]) -> str:
    """Return the metric's name if labels of this kind have it.

    Raises:
        UsageError: lists those that there are; errors such as `mae` are none, since lower is better there.
    """
    choices = CLASS_METRICS if labels.dtype.kind == "i" else REAL_METRICS
    if metric not in choices:
        raise UsageError(f"unknown metric {metric!r} of these labels; choose from: {', '.join(choices)}")
    return metric


def score_of(labels: NDArray[Any], answer: Answer, metric: str = PRIMARY) -> float:
    """Return the score of an answer; of real labels `accuracy` is the share on the right side of 0."""
    real = labels.dtype.kind == "f"
    return score_of_predictions(labels, answer.predictions(real=real), metric, answer.logits.shape[1])


def score_of_predictions(labels: NDArray[Any], predictions: NDArray[Any], metric: str, outputs: int) -> float:
    """Return the score of class indices (N,), or of predicted numbers (N,)."""
    if metric == PRIMARY:
        return float(agree(labels, predictions).mean())
    if labels.dtype.kind == "f":
        return float(sentiment_metrics(labels, predictions)[metric] or 0.0)
    return classification_metrics(labels, predictions, max(2, outputs))[metric]


def score_without_any(train: NDArray[Any], labels: NDArray[Any], metric: str, outputs: int) -> float:
    """Return the score of who knows no modality: the most frequent training class, or the training median, always."""
    if labels.dtype.kind == "f":
        constant = np.full(len(labels), np.median(train), np.float32)
    else:
        constant = np.full(len(labels), np.bincount(as_classes(train)).argmax(), np.int64)
    return score_of_predictions(labels, constant, metric, outputs)
