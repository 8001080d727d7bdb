"""Maps of features before and after calibration, and how far classes lie apart in them.

One fit serves both sides of a map, which makes them comparable. Separation is the silhouette, and the accuracy of a
linear probe.
Shapes: before and after (n, D) of the same instances -> two maps (n, 2); features (n, D), labels (n,).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Floats

FEWEST = 5  # instances below which a map shows nothing
PERPLEXITY = 30.0  # of t-SNE, or a third of the points if that is less
COMPONENTS = 30  # principal components that t-SNE starts from
FOLDS = 5  # of the cross-validated probe

Maps = tuple[Floats, Floats]


def project(before: Floats, after: Floats, *, seed: int) -> dict[str, Maps]:
    """Return both sides on "pca", the two leading principal components, and on "tsne"; nothing for too few instances.

    Features are divided by their standard deviation before calibration. t-SNE (van der Maaten and Hinton, JMLR 2008)
    starts from up to 30 principal components, and takes the seed.
    """
    if len(before) < FEWEST:
        return {}
    spread = before.std(0)
    alive = spread > 1e-6 * max(1.0, float(np.abs(before).max()))
    if alive.sum() < 2:
        return {}

    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    both = np.asarray(np.concatenate([before, after])[:, alive] / spread[alive], dtype=np.float32)  # (2n, D)
    components = PCA(min(COMPONENTS, *both.shape), svd_solver="full").fit_transform(both)
    tsne = TSNE(2, perplexity=min(PERPLEXITY, (len(both) - 1) / 3), init="pca", random_state=seed % 2**32, n_jobs=1)
    places = {"pca": components[:, :2], "tsne": tsne.fit_transform(components)}
    count = len(before)
    return {name: (x[:count].astype(np.float32), x[count:].astype(np.float32)) for name, x in places.items()}


def silhouette(features: Floats, labels: NDArray[Any]) -> float | None:
    """Return the mean silhouette in [-1, 1] (Rousseeuw, 1987); None for one class, or one instance per class.

    1: every instance is much nearer to its own class than to the next. Features are standardised.
    """
    count = len(np.unique(labels))
    if not 2 <= count <= len(labels) - 1:
        return None

    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    return float(silhouette_score(StandardScaler().fit_transform(features.astype(np.float64)), labels))


def probe(features: Floats, labels: NDArray[Any], test: Floats, truth: NDArray[Any]) -> float | None:
    """Return the accuracy on `test` of a logistic regression fitted on `features`; None for one class.

    All features are standardised by those of the fit.
    """
    if len(np.unique(labels)) < 2 or not len(truth):
        return None

    return float(_classifier().fit(features.astype(np.float64), labels).score(test.astype(np.float64), truth))


def probe_within(features: Floats, labels: NDArray[Any], *, seed: int) -> float | None:
    """Return the accuracy of a linear probe on the same instances, cross-validated; None if classes are too small."""
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < 2:
        return None

    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(min(FOLDS, int(counts.min())), shuffle=True, random_state=seed % 2**32)
    predicted = cross_val_predict(_classifier(), features.astype(np.float64), labels, cv=folds)
    return float((predicted == labels).mean())


def _classifier() -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
