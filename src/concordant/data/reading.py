"""Result of reading a published dataset: metadata, a lazy iterator of instances, and the faults found on the way.

Readers look at the files once and read the rest instance by instance, which keeps datasets larger than memory
readable; `Findings` are therefore complete only at the end. Published features contain NaN, infinities, and float64
values beyond the range of float32, which a cast turns into infinity. One rule holds for all files: a value that is not
a finite float32 becomes 0, as in published loaders for what they could not extract, and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Card
from concordant.data.store import LARGEST, Instance
from concordant.errors import DataError

_PIECE = 8 << 20  # bytes of an array on disk that are looked at together


@dataclass(frozen=True)
class Repairs:
    """Numbers of values replaced by 0.

    Args:
        nan: not a number.
        infinite: infinities.
        overflow: finite, but beyond the range of float32.
        values: all values examined.

    >>> str(Repairs(nan=2, overflow=1, values=1000))
    '3 of 1,000 values replaced by 0 (2 NaN, 1 too large for float32)'
    >>> str(Repairs(values=10))
    'all 10 values are finite'
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
        return Repairs(*(one + more for one, more in zip(astuple(self), astuple(other), strict=True)))

    def __str__(self) -> str:
        if not self.total:
            return f"all {self.values:,} values are finite"
        kinds = {"NaN": self.nan, "infinite": self.infinite, "too large for float32": self.overflow}
        found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
        return f"{self.total:,} of {self.values:,} values replaced by 0 ({found})"


def finite(values: NDArray[Any], what: str, dtype: str = "float32") -> tuple[NDArray[Any], Repairs]:
    """Return values as finite numbers of a type, and what was replaced by 0.

    Args:
        values: numbers of any shape; masked ones count as NaN.
        what: names them in the error, for example a file and a key.
        dtype: of the result: "float32" or "float64".

    Raises:
        DataError: they are not real numbers.
    """
    masked = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise DataError(f"{what} must hold real numbers; found {array.dtype}")
    if array.dtype.kind != "f" and masked is None:
        return array.astype(dtype), Repairs(values=array.size)
    nan = np.isnan(array) if masked is None else np.isnan(array) | masked
    infinite = np.isinf(array) & ~nan
    overflow = ~nan & ~infinite & (np.abs(array) > LARGEST) if array.dtype.itemsize > 4 else np.zeros_like(nan)
    repairs = Repairs(int(nan.sum()), int(infinite.sum()), int(overflow.sum()), array.size)
    if repairs.total:
        array = np.where(nan | infinite | overflow, 0, array)
    return array.astype(dtype), repairs


def precise(values: NDArray[Any], layout: str) -> Literal["float32", "float64"]:
    """Return the type that the values of all instances need: float64 where float32 could not tell them apart.

    Statistics are per feature, the axis "c" or "d" of the layout.
    """
    if values.dtype.kind not in "fiu" or values.dtype.itemsize < 4 or values.dtype == np.float32 or not values.size:
        return "float32"
    axes = tuple(axis for axis, letter in enumerate(layout) if letter not in "cd")
    rows = max(1, len(values) * _PIECE // values.nbytes)
    least, most = np.inf, -np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(values), rows):
            piece = values[start : start + rows].astype(np.float64)
            piece[~(np.abs(piece) <= LARGEST)] = np.nan
            least, most = np.fmin(least, np.fmin.reduce(piece, axes)), np.fmax(most, np.fmax.reduce(piece, axes))
        largest = np.maximum(np.abs(least), np.abs(most)).astype(np.float32)
        # With fewer than a thousand float32 numbers between the least and the most, rounding would be felt.
        coarse = (most > least) & (np.spacing(largest) * 1000.0 > most - least)
    return "float64" if np.any(coarse) else "float32"


@dataclass
class Findings:
    """Repairs, failures and notes that a reader collects while it reads.

    Args:
        repairs: modality -> values replaced by 0.
        failures: clip -> why it could not be decoded; it is left out of the dataset.
        notes: what a user should know, in sentences; they follow those of the card.
    """

    repairs: dict[str, Repairs] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def clean(self, modality: str, values: NDArray[Any], what: str, dtype: str = "float32") -> NDArray[Any]:
        """Return values of a modality as `finite` does, and count what was replaced."""
        clean, repairs = finite(values, what, dtype)
        self.repairs[modality] = self.repairs.get(modality, Repairs()) + repairs
        return clean

    def add_to(self, card: Card) -> Card:
        """Return the card with the findings."""
        repaired = {name: str(repairs) for name, repairs in self.repairs.items() if repairs.total}
        failed: tuple[str, ...] = ()
        if self.failures:
            failed = (f"{len(self.failures)} clips could not be decoded and are left out; failures.json says why",)
        notes = (*card.notes, *self.notes, *failed)
        return card.model_copy(update={"repairs": {**card.repairs, **repaired}, "notes": notes})


@dataclass(frozen=True)
class Reading:
    """A dataset ready to be read.

    Args:
        card: its metadata; rows are counted when it is written.
        instances: in order; can be iterated once.
        findings: filled during iteration.
    """

    card: Card
    instances: Iterable[Instance]
    findings: Findings = field(default_factory=Findings)
