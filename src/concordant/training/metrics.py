"""The metrics of classification and of sentiment regression, each by the definition that its name says.

Accuracies, F1 and calibration errors are fractions from 0 to 1. Axis letters: N instances, C classes, T segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

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


def sentiment_metrics(
    labels: NDArray[Any] | Sequence[float], predictions: NDArray[Any] | Sequence[float]
) -> dict[str, float | None]:
    """Score predicted sentiment against the true one, both real numbers around 0, as the MMSA benchmark does.

    - `has0_accuracy`, `has0_f1_weighted`: of the two classes "0 or more" and "less than 0".
    - `non0_accuracy`, `non0_f1_weighted`: of the two classes "more than 0" and "0 or less", over the instances
      whose label is not exactly 0; None where there are none.
    - `accuracy7`, `accuracy5`, `accuracy3`: both sides clipped to plus or minus 3, 2 or 1 and rounded (halves
      to even, as NumPy does), the share of equal ones.
    - `mae`: the mean absolute error, of predictions as they are, not clipped.
    - `correlation`: Pearson's; None where either side is constant.

    F1 is weighted by how often each class is true, of truth and prediction in this order; papers that report it
    the other way round have other numbers.

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
    constant = bool(np.all(truth == truth[0]) or np.all(guess == guess[0]))
    return {
        **_two_classes("has0", truth >= 0, guess >= 0),
        **_two_classes("non0", truth[decided] > 0, guess[decided] > 0),
        **{f"accuracy{2 * most + 1}": _rounded_accuracy(truth, guess, most) for most in (3, 2, 1)},
        "mae": float(np.mean(np.abs(guess - truth))),
        "correlation": None if constant else float(np.corrcoef(guess, truth)[0, 1]),
    }


def calibration_error(correct: NDArray[Any], confidence: NDArray[Any], *, bins: int = 15) -> float:
    """Return the expected calibration error: how far confidence is from accuracy.

    The mean over bins of equal width, weighted by their instances, of the distance between the mean confidence
    of a bin and its accuracy (Naeini et al., AAAI 2015; 15 bins as in Guo et al., ICML 2017). A bin holds what
    lies above its lower end up to its upper one.

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


def segment_accuracy(labels: NDArray[Any], predictions: NDArray[Any], classes: int) -> float:
    """Return the share of segments whose class is predicted, over all instances, the background like the rest.

    What audio-visual event localisation reports (Tian et al., ECCV 2018: 29 classes a second, ten seconds).

    Args:
        labels: (N, T) true classes, integers in 0..C-1.
        predictions: (N, T) predicted classes.
        classes: C, 2 or more.

    Raises:
        UsageError: the shapes differ or have no segment, or a class is no integer in 0..C-1.
    """
    truth, guess = np.asarray(labels), np.asarray(predictions)
    if truth.ndim != 2 or truth.shape != guess.shape:
        raise UsageError(f"labels and predictions must be of one shape (N, T), got {truth.shape} and {guess.shape}")
    return classification_metrics(truth.ravel(), guess.ravel(), classes)["accuracy"]


def _two_classes(name: str, truth: NDArray[np.bool_], guess: NDArray[np.bool_]) -> dict[str, float | None]:
    if not len(truth):
        return {f"{name}_accuracy": None, f"{name}_f1_weighted": None}
    found = classification_metrics(truth.astype(np.int64), guess.astype(np.int64), 2)
    return {f"{name}_accuracy": found["accuracy"], f"{name}_f1_weighted": found["f1_weighted"]}


def _rounded_accuracy(truth: NDArray[np.float64], guess: NDArray[np.float64], most: int) -> float:
    rounded = [np.round(np.clip(side, -most, most)) for side in (truth, guess)]
    return float(np.mean(rounded[0] == rounded[1]))


def _real(name: str, values: NDArray[Any] | Sequence[float]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise UsageError(f"{name} must have shape (N,) with N of 1 or more, got {array.shape}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} must be finite, got {int((~np.isfinite(array)).sum())} values that are not")
    return array


def _checked(name: str, values: NDArray[Any] | Sequence[int], classes: int) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) == 0:
        raise UsageError(f"{name} must have shape (N,) with N of 1 or more, got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"{name} must be integers (class indices), got {array.dtype}")
    if array.min() < 0 or array.max() >= classes:
        raise UsageError(f"{name} must lie in 0..{classes - 1} (classes={classes}), got {array.min()}..{array.max()}")
    return array.astype(np.int64)
