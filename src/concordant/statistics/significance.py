"""Tests of significance beside the bootstrap: Holm's correction over a table, Wilcoxon's test over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

# With fewer pairs even the clearest result is hardly significant: 8 values give 2 / 2**8 at the least.
_FEWEST = 8
# Differences that agree to this many decimals (the largest scaled to 1) are tied but for rounding.
_DECIMALS = 12


def holm(p_values: Sequence[float] | NDArray[Any]) -> list[float]:
    """Adjust the p-values of one table for their number, in the given order.

    Step-down: the i-th smallest of n (i from 0) is multiplied by n - i, is no smaller than any
    adjusted before it, and is capped at 1. Rejecting at or below a level keeps the chance of
    even one false rejection at that level, however the tests depend on each other (Holm 1979, A Simple
    Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6(2), pp. 65-70).

    Args:
        p_values: (n,) each in [0, 1]; n may be 0.

    Raises:
        UsageError: `p_values` is not one-dimensional, or a value lies outside [0, 1] or is not a number.

    >>> holm([0.5, 0.125, 0.25])
    [0.5, 0.375, 0.5]
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1:
        raise UsageError(f"p_values must have shape (n,), got {raw.shape}")
    wrong = raw[~((raw >= 0) & (raw <= 1))]  # NaN is wrong too
    if len(wrong):
        raise UsageError(f"p_values must lie in [0, 1], got {wrong[0]}")
    order = np.argsort(raw, kind="stable")
    stepped = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(p) for p in adjusted]


def wilcoxon(differences: Sequence[float] | NDArray[Any]) -> float | None:
    """Return the two-sided p-value of Wilcoxon's signed-rank test, or None for fewer than 8 differences.

    The null hypothesis is that the paired differences (one per seed) lie symmetrically about 0. Zeros are
    left out, as Wilcoxon did (1945, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1(6),
    pp. 80-83); nothing but zeros gives 1. Differences that agree but for rounding count as tied. SciPy
    computes exactly up to 50 differences (with ties, as a rule up to 13), and by the normal
    approximation above.

    Args:
        differences: (S,) finite, one per seed.

    Raises:
        UsageError: `differences` is not one-dimensional or holds a value that is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1:
        raise UsageError(f"differences must have shape (S,), got {values.shape}")
    if not np.isfinite(values).all():
        raise UsageError(f"differences must be finite, got {values[~np.isfinite(values)][0]}")
    if len(values) < _FEWEST:
        return None
    largest = np.abs(values).max()
    if largest == 0:
        return 1.0
    rounded = np.round(values / largest, _DECIMALS)

    from scipy import stats

    return float(stats.wilcoxon(rounded[rounded != 0], alternative="two-sided", method="auto").pvalue)
