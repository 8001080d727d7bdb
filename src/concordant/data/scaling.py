"""Scaling fitted on the training split: every feature to mean 0 and standard deviation 1, clipped to ±6.

Statistics are per feature: a column of a vector, a channel of a sequence (over its steps) or of a map (over its
positions). Padded steps and absent instances do not count, and are 0 after scaling.
Axis letters: N instances; the remaining axes follow the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from concordant.data.split import Bools, Floats, Split

CLIP = 6.0  # standard deviations
BLOCK = 4 << 20  # values that are held in double precision at a time
# Relative to the size of the values, a smaller standard deviation is rounding error.
_LEAST, _LEAST_OF_DOUBLES = 1e-6, 1e-12


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation per feature, shaped to broadcast over (N, ...).

    Args:
        mean: per feature.
        std: per feature; 0 where a feature is constant, which is 0 after scaling.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


class _Moments(NamedTuple):
    """Per feature: number of values, their mean, sum of squares around it, largest rounding error."""

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    error: NDArray[np.float64]

    def __or__(self, other: _Moments) -> _Moments:
        number = self.number + other.number
        gap, share = other.mean - self.mean, other.number / np.maximum(number, 1)
        squares = self.squares + other.squares + gap**2 * self.number * share
        return _Moments(number, self.mean + gap * share, squares, np.maximum(self.error, other.error))

    def scale(self) -> Scale:
        std = np.sqrt(self.squares / np.maximum(self.number, 1))
        return Scale(self.mean, np.where(std > self.error, std, 0.0))


def fit(x: Floats, layout: str, valid: Bools | None = None) -> Scale:
    """Return the scale of training inputs (N, ...), of the values where `valid`, (N, T) or (N,), is True."""
    return _moments(x, layout, valid).scale()


def fit_chunks(chunks: Iterable[Split], layouts: Mapping[str, str]) -> dict[str, Scale]:
    """Return modality -> scale of its inputs over all chunks, each read once.

    Means and squares of the chunks are merged as in Chan, Golub and LeVeque (1979), which avoids cancellation.
    """
    merged: dict[str, _Moments] = {}
    for chunk in chunks:
        for name, x in chunk.inputs.items():
            found = _moments(x, layouts[name], chunk.valid(name))
            merged[name] = merged[name] | found if name in merged else found
    return {name: moments.scale() for name, moments in merged.items()}


def apply(scale: Scale, x: Floats, layout: str, valid: Bools | None = None, *, in_place: bool = False) -> Floats:
    """Return scaled inputs, float32, within ±6; 0 where a feature is constant or a value does not count.

    With `in_place`, float32 inputs are overwritten.
    """
    out = x if in_place and x.dtype == np.float32 else np.empty(x.shape, np.float32)
    for rows in _blocks(x):  # in double precision, of which there is a block at a time
        scaled = (x[rows] - scale.mean) / np.where(scale.std > 0, scale.std, 1.0)
        scaled = np.where(scale.std > 0, np.clip(scaled, -CLIP, CLIP), 0.0)
        if valid is not None:
            scaled = np.where(_broadcast(valid[rows], layout), scaled, 0.0)
        out[rows] = scaled
    return out


def _blocks(x: Floats) -> list[slice]:
    """Return slices of rows that hold `BLOCK` values or fewer, at least one row each."""
    size = max(1, BLOCK * len(x) // max(1, x.size))
    return [slice(start, start + size) for start in range(0, len(x), size)] or [slice(0)]


def _moments(x: Floats, layout: str, valid: Bools | None) -> _Moments:
    blocks = _blocks(x)
    found = _block_moments(x[blocks[0]], layout, None if valid is None else valid[blocks[0]])
    for rows in blocks[1:]:
        found = found | _block_moments(x[rows], layout, None if valid is None else valid[rows])
    return found


def _block_moments(x: Floats, layout: str, valid: Bools | None) -> _Moments:
    feature = layout.index("c" if "c" in layout else "d")
    axes = tuple(axis for axis in range(len(layout)) if axis != feature)
    keep = np.ones(1, np.bool_) if valid is None else _broadcast(valid, layout)
    keep = np.broadcast_to(keep.reshape(keep.shape + (1,) * (x.ndim - keep.ndim)), x.shape)
    count = keep.sum(axes, keepdims=True)
    values = x.astype(np.float64)
    mean = np.where(keep, values, 0).sum(axes, keepdims=True) / np.maximum(count, 1)
    squares = np.where(keep, (values - mean) ** 2, 0).sum(axes, keepdims=True)
    largest = np.where(keep, np.abs(values), 0).max(axes, keepdims=True, initial=0)
    return _Moments(count, mean, squares, (_LEAST_OF_DOUBLES if x.dtype == np.float64 else _LEAST) * largest)


def _broadcast(valid: Bools, layout: str) -> Bools:
    """Reshape (N,) or (N, T) to broadcast over the layout."""
    shape = [1] * len(layout)
    shape[0] = len(valid)
    if valid.ndim == 2:
        shape[layout.index("t")] = valid.shape[1]
    return valid.reshape(shape)
