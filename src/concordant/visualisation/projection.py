"""Features before and after calibration on one map: one fit for both, so that the two can be compared.

Shapes: before and after (n, D) of the same instances -> two maps (n, 2).
"""

from __future__ import annotations

import numpy as np

from concordant.data.split import Floats

FEWEST = 5  # instances below which a map says nothing
PERPLEXITY = 30.0  # of t-SNE, or a third of the points where there are few
COMPONENTS = 30  # that t-SNE looks at

Maps = tuple[Floats, Floats]


def pca_maps(before: Floats, after: Floats) -> Maps | None:
    """Return both sides on the two leading principal components of all their rows; None of too few.

    Features are divided by their standard deviation before calibration.
    """
    both = _stacked(before, after)
    if both is None:
        return None

    from sklearn.decomposition import PCA

    found = PCA(2, svd_solver="full").fit_transform(both)
    return _halves(found, len(before))


def tsne_maps(before: Floats, after: Floats, *, seed: int) -> Maps | None:
    """Return both sides on one t-SNE map (van der Maaten and Hinton, JMLR 2008); None of too few.

    Args:
        before: (n, D).
        after: (n, D).
        seed: of the fit.
    """
    both = _stacked(before, after)
    if both is None:
        return None

    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(COMPONENTS, *both.shape)
    fewer = PCA(count, svd_solver="full").fit_transform(both)
    perplexity = min(PERPLEXITY, (len(both) - 1) / 3)
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=seed % 2**32, n_jobs=1).fit_transform(fewer)
    return _halves(found, len(before))


def _stacked(before: Floats, after: Floats) -> Floats | None:
    """Return the rows of both sides in units of the spread before calibration, (2n, D); None of too few."""
    if len(before) < FEWEST:
        return None
    spread = before.std(0)
    alive = spread > 1e-6 * max(1.0, float(np.abs(before).max()))
    if alive.sum() < 2:
        return None
    return np.asarray(np.concatenate([before, after])[:, alive] / spread[alive], dtype=np.float32)


def _halves(found: Floats, count: int) -> Maps:
    return np.asarray(found[:count], dtype=np.float32), np.asarray(found[count:], dtype=np.float32)
