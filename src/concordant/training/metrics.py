"""Metrics of classification and of sentiment regression, each by the definition that its name states.

Accuracies, F1 and calibration errors are fractions from 0 to 1. Axis letters: N instances, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

#: The metric that selects and compares models by default.
PRIMARY = "accuracy"


def classification_metrics(
    labels: NDArray[Any] | Sequence[int], predictions: NDArray[Any] | Sequence[int], classes: int
) -> dict[str, float]:
    """Score predicted classes, as scikit-learn does.

    - `accuracy`: the share of instances whose class is predicted.
    - `balanced_accuracy`: the mean recall over the classes that occur among `labels`.
    - `f1_macro`: the mean F1 over the classes that occur among `labels` or `predictions`.
    - `f1_weighted`: the mean F1 over these classes, weighted by how often each occurs in `labels`.

    F1 = 2 TP / (2 TP + FP + FN). Classes that occur on neither side are left out, so all values are defined.

    Args:
        labels: (N,) true classes, integers in 0..C-1.
        predictions: (N,) predicted classes, integers in 0..C-1.
        classes: C, 2 or more.

    Returns:
        metric -> value in [0, 1].

    Raises:
        UsageError: there are no instances, the lengths differ, or a class is not an integer in 0..C-1.

    >>> classification_metrics([0, 0, 0, 1], [0, 0, 0, 0], classes=2)["balanced_accuracy"]
    0.5
    """
    if classes < 2:
        raise UsageError(f"classes must be 2 or more, got {classes}")
    truth, guess = _classes("labels", labels, classes), _classes("predictions", predictions, classes)
    if truth.shape != guess.shape:
        raise UsageError(f"labels and predictions must be of one length, got {len(truth)} and {len(guess)}")

    true, guessed, hits = (np.bincount(x, minlength=classes) for x in (truth, guess, truth[truth == guess]))
    occurring = true + guessed > 0
    f1 = 2 * hits[occurring] / (true + guessed)[occurring]
    return {
        "accuracy": float(np.mean(truth == guess)),
        "balanced_accuracy": float(np.mean(hits[true > 0] / true[true > 0])),
        "f1_macro": float(np.mean(f1)),
        "f1_weighted": float(np.average(f1, weights=true[occurring])),
    }


def sentiment_metrics(
    labels: NDArray[Any] | Sequence[float], predictions: NDArray[Any] | Sequence[float]
) -> dict[str, float | None]:
    """Score predicted sentiment, real numbers around 0, as the MMSA benchmark does.

    - `has0_accuracy`, `has0_f1_weighted`: of the two classes "0 or more" and "less than 0".
    - `non0_accuracy`, `non0_f1_weighted`: of the two classes "more than 0" and "0 or less", over the instances
      whose label is not exactly 0; None without such instances.
    - `accuracy7`, `accuracy5`, `accuracy3`: the share of equal values after clipping both sides to plus or minus 3,
      2 or 1 and rounding them (halves to even, as NumPy does).
    - `mae`: the mean absolute error of unclipped predictions.
    - `correlation`: Pearson's; None where either side is constant.

    F1 is weighted by how often each class is true. Papers that swap truth and prediction report other numbers.

    Args:
        labels: (N,) true sentiment.
        predictions: (N,) predicted sentiment.

    Raises:
        UsageError: there are no instances, the lengths differ, or a value is not finite.

    >>> found = sentiment_metrics([-2.0, 0.0, 1.0], [-1.0, 0.4, 2.0])
    >>> found["has0_accuracy"], found["non0_accuracy"], round(found["mae"], 2)
    (1.0, 1.0, 0.8)
    """
    truth, guess = _real("labels", labels), _real("predictions", predictions)
    if truth.shape != guess.shape:
        raise UsageError(f"labels and predictions must be of one length, got {len(truth)} and {len(guess)}")
    decided = truth != 0
    constant = np.ptp(truth) == 0 or np.ptp(guess) == 0
    found: dict[str, float | None] = {}
    sides = {"has0": (truth >= 0, guess >= 0), "non0": (truth[decided] > 0, guess[decided] > 0)}
    for name, (true, guessed) in sides.items():
        scores = classification_metrics(true.astype(int), guessed.astype(int), 2) if len(true) else {}
        for metric in ("accuracy", "f1_weighted"):
            found[f"{name}_{metric}"] = scores.get(metric)
    for most in (3, 2, 1):
        equal = np.round(np.clip(truth, -most, most)) == np.round(np.clip(guess, -most, most))
        found[f"accuracy{2 * most + 1}"] = float(np.mean(equal))
    found["mae"] = float(np.mean(np.abs(guess - truth)))
    found["correlation"] = None if constant else float(np.corrcoef(guess, truth)[0, 1])
    return found


def calibration_error(correct: NDArray[Any], confidence: NDArray[Any], *, bins: int = 15) -> float:
    """Return the expected calibration error: the distance of confidence from accuracy.

    It is the mean over bins of equal width, weighted by their instances, of the distance between mean confidence and
    accuracy (Naeini et al., AAAI 2015; 15 bins as in Guo et al., ICML 2017). A bin includes its upper end.

    Args:
        correct: bool (N,), whether the predicted class is the true one.
        confidence: (N,) probability of the predicted class, in [0, 1].
        bins: how many, 1 or more.

    Raises:
        UsageError: there are no instances, the lengths differ, or a confidence lies outside [0, 1].

    >>> calibration_error(np.array([True, False]), np.array([0.9, 0.9]))
    0.4
    """
    if bins < 1:
        raise UsageError(f"bins must be 1 or more, got {bins}")
    sure, right = _real("confidence", confidence), np.asarray(correct, dtype=np.float64)
    if right.shape != sure.shape:
        raise UsageError(f"correct and confidence must be of one length, got {right.shape} and {sure.shape}")
    if sure.min() < 0 or sure.max() > 1:
        raise UsageError(f"confidence must lie in [0, 1], got {sure.min()}..{sure.max()}")
    which = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(which, weights=right - sure, minlength=bins)
    return round(float(np.abs(gaps).sum() / len(sure)), 12)


def _vector(name: str, values: NDArray[Any] | Sequence[float]) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0:
        raise UsageError(f"{name} must have shape (N,) with N of 1 or more, got {array.shape}")
    return array


def _real(name: str, values: NDArray[Any] | Sequence[float]) -> NDArray[np.float64]:
    array = _vector(name, values).astype(np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"{name} must be finite, got {int((~np.isfinite(array)).sum())} values that are not")
    return array


def _classes(name: str, values: NDArray[Any] | Sequence[int], classes: int) -> NDArray[np.int64]:
    array = _vector(name, values)
    if not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"{name} must be integers (class indices), got {array.dtype}")
    if array.min() < 0 or array.max() >= classes:
        raise UsageError(f"{name} must lie in 0..{classes - 1} (classes={classes}), got {array.min()}..{array.max()}")
    return array.astype(np.int64)
