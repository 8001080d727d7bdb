"""Areas under the ROC curve as means over instances, so that they can be compared like accuracies.

DeLong et al. (Biometrics 44, 1988): an area is the mean, over the positives, of the share of negatives that lie below,
and over the negatives, of the share of positives above. What an instance adds to the area, as a positive and with its
negatives, is its component; their mean is the area, and resampling their mean is, to first order, resampling the area.
Axis letters: N test instances, n those that were hit, V validation instances, M modalities.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from concordant.robustness.detection import standardise

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def which_components(reliability: Floats, untouched: Floats, usual: Floats, hit: Bools) -> Floats:
    """Return the components (n,) of telling the modality that was hit from those that were not.

    Their mean is `concordant.robustness.detection.which_auroc`.

    Args:
        reliability: (N, M) of the corrupted instances, NaN where absent.
        untouched: not looked at; as for `whether_components`.
        usual: (V, M) of untouched validation instances.
        hit: bool (N, M), one an instance or none.
    """
    rows = hit.any(1)
    z = _lowness(reliability, usual)[rows]
    positive = hit[rows]
    negative = ~np.isnan(z) & ~positive  # (n, M)
    above, below = placements(z[positive], z[negative])
    area = float(above.mean())
    rest = np.zeros(z.shape)
    rest[negative] = below - area
    return np.asarray(above + rest.sum(1) * (len(above) / len(below)))


def whether_components(reliability: Floats, untouched: Floats, usual: Floats, hit: Bools) -> Floats:
    """Return the components (n,) of telling a corrupted instance from itself before, by its least reliable modality.

    Their mean is `concordant.robustness.detection.whether_auroc`.

    Args:
        reliability: (N, M) of the corrupted instances, NaN where absent.
        untouched: (N, M) of the same instances before.
        usual: (V, M) of untouched validation instances.
        hit: bool (N, M), one an instance or none.
    """
    rows = hit.any(1)
    after, before = (np.nanmax(_lowness(one, usual)[rows], axis=1) for one in (reliability, untouched))
    above, below = placements(after, before)
    return np.asarray(above + below - above.mean())


def placements(positive: Floats, negative: Floats) -> tuple[Floats, Floats]:
    """Return for each positive the share of negatives below it, for each negative that of positives above; ties half.

    >>> placements(np.array([0.5, 2.0]), np.array([0.0, 1.0]))
    (array([0.5, 1. ]), array([1. , 0.5]))
    """
    return _below(positive, negative), 1 - _below(negative, positive)


def _below(values: Floats, others: Floats) -> Floats:
    ordered = np.sort(others)
    low = np.searchsorted(ordered, values, side="left")
    high = np.searchsorted(ordered, values, side="right")
    return np.asarray((low + high) / (2 * len(ordered)))


def _lowness(values: Floats, usual: Floats) -> Floats:
    """Return how far reliabilities lie below what is usual, in standard deviations; NaN where absent."""
    present = ~np.isnan(usual)
    z = standardise(np.nan_to_num(values), np.nan_to_num(usual), reference_present=present)
    return np.where(np.isnan(values), np.nan, -z)
