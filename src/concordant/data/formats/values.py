"""From the numbers of a published file to finite float32, with every repair counted.

Published features hold NaN, infinities, and float64 values that float32 has no number for; a cast turns these into
infinity, and a model into NaN. The rule is one for all files: what is not a finite float32 becomes 0, the value
that published loaders give to what they could not extract, and how often that happened is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import DataError

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Repairs:
    """How many values were replaced by 0.

    Args:
        nan: were not a number.
        infinite: were infinite.
        overflow: were finite, but larger than float32 can hold.
        values: looked at in all.
    """

    nan: int = 0
    infinite: int = 0
    overflow: int = 0
    values: int = 0

    @property
    def total(self) -> int:
        """Number of values replaced."""
        return self.nan + self.infinite + self.overflow

    def __add__(self, other: Repairs) -> Repairs:
        return Repairs(
            self.nan + other.nan,
            self.infinite + other.infinite,
            self.overflow + other.overflow,
            self.values + other.values,
        )

    def __str__(self) -> str:
        """Say what was replaced.

        >>> str(Repairs(nan=2, overflow=1, values=1000))
        '3 of 1,000 values replaced by 0 (2 NaN, 1 too large for float32)'
        >>> str(Repairs(values=10))
        'all 10 values are finite'
        """
        if not self.total:
            return f"all {self.values:,} values are finite"
        kinds = (
            f"{self.nan:,} NaN" if self.nan else "",
            f"{self.infinite:,} infinite" if self.infinite else "",
            f"{self.overflow:,} too large for float32" if self.overflow else "",
        )
        found = ", ".join(kind for kind in kinds if kind)
        return f"{self.total:,} of {self.values:,} values replaced by 0 ({found})"


def finite_float32(values: NDArray[Any], what: str) -> tuple[NDArray[np.float32], Repairs]:
    """Return values as finite float32, and what was replaced by 0.

    Args:
        values: numbers of any shape.
        what: names them in the error, for example a file and a key.

    Raises:
        DataError: they are no real numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what} must hold real numbers; found {array.dtype}")
    if array.dtype.kind != "f":
        return array.astype(np.float32), Repairs(values=array.size)
    nan, infinite = np.isnan(array), np.isinf(array)
    overflow = ~nan & ~infinite & (np.abs(array) > LARGEST) if array.dtype.itemsize > 4 else np.zeros_like(nan)
    repairs = Repairs(int(nan.sum()), int(infinite.sum()), int(overflow.sum()), array.size)
    if not repairs.total:
        return array.astype(np.float32), repairs
    return np.where(nan | infinite | overflow, 0, array).astype(np.float32), repairs
