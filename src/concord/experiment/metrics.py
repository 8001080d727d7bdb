"""The metrics of classification, as fractions from 0 to 1, larger being better.

Axis letters: N instances, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concord.errors import UsageError

#: What models are chosen by and compared on unless the user says otherwise.
PRIMARY = "accuracy"


def classification_metrics(
    labels: NDArray[Any] | Sequence[int], predictions: NDArray[Any] | Sequence[int], classes: int
) -> dict[str, float]:
    """Score predicted classes against true ones; scikit-learn does the computing.

    - `accuracy`: the share of instances whose class is predicted.
    - `balanced_accuracy`: the mean recall over the classes that occur among `labels`.
    - `f1_macro`: the mean F1 over the classes that occur among `labels` or `predictions`.
    - `f1_weighted`: the mean F1 over the same classes, weighted by how often each occurs in `labels`.

    F1 = 2 TP / (2 TP + FP + FN); a class that is never hit has an F1 of 0. A class of the C that
    occurs on neither side counts nowhere, so no value is ever undefined.

    Args:
        labels: (N,) true classes, integers in 0..C-1.
        predictions: (N,) predicted classes, integers in 0..C-1.
        classes: C, 2 or more.

    Returns:
        metric -> value in [0, 1].

    Raises:
        UsageError: there are no instances, the lengths differ, or a class is no integer in 0..C-1.

    >>> classification_metrics([0, 0, 0, 1], [0, 0, 0, 0], classes=2)["balanced_accuracy"]
    0.5
    """
    if classes < 2:
        raise UsageError(f"classes must be 2 or more, got {classes}")
    truth = _checked("labels", labels, classes)
    guess = _checked("predictions", predictions, classes)
    if truth.shape != guess.shape:
        raise UsageError(f"labels and predictions must be of one length, got {len(truth)} and {len(guess)}")

    from sklearn.metrics import accuracy_score, f1_score, recall_score

    true_classes = np.unique(truth)
    seen_classes = np.union1d(truth, guess)
    # What balanced_accuracy_score computes, without its warning when a class is predicted that is never true.
    recall = recall_score(truth, guess, labels=true_classes, average="macro", zero_division=0)
    macro = f1_score(truth, guess, labels=seen_classes, average="macro", zero_division=0)
    weighted = f1_score(truth, guess, labels=seen_classes, average="weighted", zero_division=0)
    return {
        "accuracy": float(accuracy_score(truth, guess)),
        "balanced_accuracy": float(recall),
        "f1_macro": float(macro),
        "f1_weighted": float(weighted),
    }


def _checked(name: str, values: NDArray[Any] | Sequence[int], classes: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0:
        raise UsageError(f"{name} must have shape (N,) with N of 1 or more, got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"{name} must be integers (class indices), got {array.dtype}")
    if array.min() < 0 or array.max() >= classes:
        raise UsageError(f"{name} must lie in 0..{classes - 1} (classes={classes}), got {array.min()}..{array.max()}")
    return array.astype(np.int64)
