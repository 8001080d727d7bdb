"""Scaling, fitted on the training part only: every feature to mean 0 and standard deviation 1, cut at ±6.

Statistics are per feature: a column of a vector, a channel of a sequence (over its steps) or of a map (over
its places). Padded steps and absent instances do not count, and are 0 afterwards.
Axis letters: N instances; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Floats, Split

CLIP = 6.0  # standard deviations beyond which a value tells no more
_LEAST = 1e-6  # relative to the size of the values, a standard deviation below this is rounding


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each feature, shaped to broadcast over (N, ...).

    Args:
        mean: of each feature.
        std: 0 where a feature is constant; it is 0 after scaling.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]


def fit(x: Floats, layout: str, valid: Bools | None = None) -> Scale:
    """Return the scale of one modality's training inputs.

    Args:
        x: (N, ...).
        layout: "bd", "btd", "bchw" or "bcthw".
        valid: (N, T) or (N,), True where values count; None = everywhere.
    """
    return _scale(_moments(x, layout, valid))


class _Moments(NamedTuple):
    """Of each feature: how many values count, their mean, the sum of squares around it, the largest size."""

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    largest: NDArray[np.float64]


def _moments(x: Floats, layout: str, valid: Bools | None) -> _Moments:
    axes = _others(layout)
    keep = np.ones(1, np.bool_) if valid is None else _broadcast(valid, layout)
    keep = np.broadcast_to(keep.reshape(keep.shape + (1,) * (x.ndim - keep.ndim)), x.shape)
    count = keep.sum(axes, keepdims=True)
    values = x.astype(np.float64)
    mean = np.where(keep, values, 0).sum(axes, keepdims=True) / np.maximum(count, 1)
    squares = np.where(keep, (values - mean) ** 2, 0).sum(axes, keepdims=True)
    return _Moments(count, mean, squares, np.where(keep, np.abs(values), 0).max(axes, keepdims=True))


def _join(one: _Moments, other: _Moments) -> _Moments:
    number = one.number + other.number
    gap, share = other.mean - one.mean, other.number / np.maximum(number, 1)
    squares = one.squares + other.squares + gap**2 * one.number * share
    return _Moments(number, one.mean + gap * share, squares, np.maximum(one.largest, other.largest))


def _scale(moments: _Moments) -> Scale:
    std = np.sqrt(moments.squares / np.maximum(moments.number, 1))
    return Scale(moments.mean, np.where(std > _LEAST * moments.largest, std, 0.0))


def fit_chunks(pieces: Iterable[Split], layouts: Mapping[str, str]) -> dict[str, Scale]:
    """Return modality -> the scale of its inputs over all pieces, each looked at once.

    Means and squares of the pieces are joined as in Chan, Golub and LeVeque (1979), so that nothing cancels.
    """
    joined: dict[str, _Moments] = {}
    for piece in pieces:
        for name, x in piece.inputs.items():
            found = _moments(x, layouts[name], _valid(piece, name))
            joined[name] = _join(joined[name], found) if name in joined else found
    return {name: _scale(moments) for name, moments in joined.items()}


def apply(scale: Scale, x: Floats, layout: str, valid: Bools | None = None) -> Floats:
    """Return scaled inputs, float32, within ±6, 0 where a feature is constant or a value does not count."""
    scaled = (x - scale.mean) / np.where(scale.std > 0, scale.std, 1.0)
    scaled = np.where(scale.std > 0, np.clip(scaled, -CLIP, CLIP), 0.0)
    if valid is not None:
        scaled = np.where(_broadcast(valid, layout), scaled, 0.0)
    return scaled.astype(np.float32)


def scale_splits(parts: tuple[Split, Split, Split], layouts: Mapping[str, str]) -> tuple[Split, Split, Split]:
    """Return training, validation and test parts, all scaled by the training part."""
    train = parts[0]
    scales = {name: fit(x, layouts[name], _valid(train, name)) for name, x in train.inputs.items()}
    scaled = [
        part.with_inputs(
            {name: apply(scales[name], x, layouts[name], _valid(part, name)) for name, x in part.inputs.items()}
        )
        for part in parts
    ]
    return scaled[0], scaled[1], scaled[2]


def _others(layout: str) -> tuple[int, ...]:
    """Return the axes over which statistics run: all but the feature axis."""
    feature = layout.index("c" if "c" in layout else "d")
    return tuple(axis for axis in range(len(layout)) if axis != feature)


def _broadcast(valid: Bools, layout: str) -> Bools:
    """Bring (N,) or (N, T) into a shape that broadcasts over the layout."""
    shape = [1] * len(layout)
    shape[0] = len(valid)
    if valid.ndim == 2:
        shape[layout.index("t")] = valid.shape[1]
    return valid.reshape(shape)


def _valid(part: Split, name: str) -> Bools | None:
    """Return where a modality's values count, (N, T) or (N,); None = everywhere."""
    mask, here = part.masks.get(name), part.present.get(name)
    if mask is None:
        return here
    return mask if here is None else mask & here[:, None]
