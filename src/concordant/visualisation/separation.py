"""How well classes lie apart in features: the silhouette, and the accuracy of a linear probe.

Shapes: features (n, D), labels (n,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Floats

FOLDS = 5


def silhouette(features: Floats, labels: NDArray[Any]) -> float | None:
    """Return the mean silhouette in [-1, 1] (Rousseeuw, 1987); None with one class, or one instance a class.

    1: every instance is much nearer to its own class than to the next. Features are standardised.
    """
    count = len(np.unique(labels))
    if not 2 <= count <= len(labels) - 1:
        return None

    from sklearn.metrics import silhouette_score

    return float(silhouette_score(_standard(features, features), labels))


def probe(features: Floats, labels: NDArray[Any], test: Floats, truth: NDArray[Any]) -> float | None:
    """Return the accuracy on `test` of a logistic regression fitted on `features`; None with one class.

    Features are standardised by those that it is fitted on.
    """
    if len(np.unique(labels)) < 2 or not len(truth):
        return None

    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, C=1.0).fit(_standard(features, features), labels)
    return float((model.predict(_standard(test, features)) == truth).mean())


def probe_within(features: Floats, labels: NDArray[Any], *, seed: int) -> float | None:
    """Return the accuracy of a linear probe on the same instances, cross-validated; None where classes are too small.

    Args:
        features: (n, D).
        labels: (n,).
        seed: of the folds.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        return None

    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed % 2**32)
    hits = 0.0
    for fit, held in folds.split(features, labels):
        hits += len(held) * (probe(features[fit], labels[fit], features[held], labels[held]) or 0.0)
    return hits / len(labels)


def _standard(x: Floats, reference: Floats) -> NDArray[np.float64]:
    mean, std = reference.mean(0, dtype=np.float64), reference.std(0, dtype=np.float64)
    return np.asarray((x - mean) / np.where(std > 1e-9, std, 1.0))
