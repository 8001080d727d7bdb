"""Steps, lengths and shares: what the kinds of corruption have in common, whatever the layout.

Axis letters: n instances, T steps, K whatever is chosen from; the rest is the modality's layout, batch first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.robustness.corruptions.kind import Bools, Floats, Integers, Site, size


def steps_first(x: NDArray[Any], layout: str) -> NDArray[Any]:
    """View (n, ...) as (n, T, ...)."""
    return np.moveaxis(x, layout.index("t"), 1)


def steps_back(x: NDArray[Any], layout: str) -> NDArray[Any]:
    """View (n, T, ...) in its layout again."""
    return np.moveaxis(x, 1, layout.index("t"))


def over_steps(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Bring one value a step, (n, T), into a shape that broadcasts over the layout."""
    count, steps = values.shape
    return values.reshape([{"b": count, "t": steps}.get(letter, 1) for letter in layout])


def over_instances(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Bring one value an instance, (n,), into a shape that broadcasts over the layout."""
    return values.reshape(-1, *(1 for _ in layout[1:]))


def lengths_of(x: Floats, site: Site) -> Integers:
    """Return the valid steps of the instances of `x`, (n,)."""
    if site.lengths is not None:
        return site.lengths
    return np.full(len(x), size(site.layout, x.shape, "t"), np.int64)


def valid_steps(lengths: Integers, steps: int) -> Bools:
    """Return a mask (n, T), True at the leading `lengths`."""
    mask: Bools = np.arange(steps) < lengths[:, None]
    return mask


def finished(changed: NDArray[Any], x: Floats, site: Site) -> Floats:
    """Return what was changed as float32, with the steps beyond each instance's length as they were in `x`."""
    result: Floats = np.broadcast_to(changed, x.shape).astype(np.float32)
    if site.lengths is not None:
        mask = valid_steps(site.lengths, size(site.layout, x.shape, "t"))
        result = np.where(over_steps(mask, site.layout), result, x.astype(np.float32, copy=False))
    return result


def how_many(share: float, of: Integers, least: int = 1) -> Integers:
    """Return `share` of each count, rounded: at least one, at most all."""
    counts: Integers = np.rint(share * of).astype(np.int64)
    return np.minimum(np.maximum(counts, least), of)


def lowest(drawn: NDArray[np.float64], counts: Integers) -> Bools:
    """Return a mask (n, K), True at the `counts` (n,) lowest draws of each row: with higher counts a superset."""
    chosen: Bools = drawn.argsort(axis=1).argsort(axis=1) < counts[:, None]
    return chosen


def stretch(drawn: NDArray[np.float64], counts: Integers, of: Integers) -> Integers:
    """Return where a stretch of `counts` among `of` places begins, from uniform draws (n,).

    A longer stretch of the same draw contains the shorter one.
    """
    begin: Integers = np.floor(drawn * (of - counts + 1)).astype(np.int64)
    return begin
