"""What each instance counts: the weights that a caller gives, and those of classes. Shapes: (N,), and (C,)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Floats
from concordant.estimator.faults import InputError


def sample_weights(given: Any, count: int) -> Floats:  # noqa: ANN401
    """Return one weight an instance, float32 (N,).

    Raises:
        InputError: another shape, a weight that is negative or not finite, or nothing but zeros.
    """
    if given is None:
        return np.ones(count, np.float32)
    weights = np.asarray(given, dtype=np.float32)
    if weights.ndim == 0:
        weights = np.full(count, weights, np.float32)
    if weights.shape != (count,):
        raise InputError(f"sample_weight must have shape ({count},); found {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise InputError("sample_weight must be finite and not negative; leave instances with other weights out")
    if not weights.any():
        raise InputError("sample_weight holds nothing but zeros (all sample weights are zero); give some instance more")
    return weights


def class_weights(given: Any, classes: NDArray[Any], y: NDArray[Any]) -> Floats:  # noqa: ANN401
    """Return the weight of each class (C,); classes that y lacks weigh 1.

    Args:
        given: "balanced", or class -> weight, 1 where it has none.
        classes: all of them (C,).
        y: the classes of the instances (N,).

    Raises:
        InputError: it is something else, or names classes that there are not.
    """
    from sklearn.utils.class_weight import compute_class_weight

    found = np.ones(len(classes), np.float32)
    here = np.isin(classes, y)
    if isinstance(given, Mapping):
        unknown = [str(name) for name in given if name not in classes.tolist()]
        if unknown:
            raise InputError(f"class_weight names classes that y has not: {', '.join(unknown)}")
        given = {name: weight for name, weight in given.items() if name in classes[here].tolist()}
    elif given != "balanced":
        raise InputError(f"class_weight must be None, 'balanced' or a dictionary; found {given!r}")
    found[here] = compute_class_weight(given, classes=classes[here], y=y)
    return found
