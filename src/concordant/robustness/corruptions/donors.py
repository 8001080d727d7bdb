"""Which other instance gives its values, and how its steps fill those of the one that takes them.

Axis letters: N instances of the part, n those that take, T steps; the rest is the modality's layout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from concordant.robustness.corruptions.axes import steps_back, steps_first
from concordant.robustness.corruptions.kind import Bools, Floats, Integers, Site, size

NOBODY = -1


def able(site: Site) -> Bools:
    """Return bool (N,): the instance has the modality, and a valid step of it."""
    return site.donors if site.all_lengths is None else site.donors & (site.all_lengths > 0)


def choose(pool: Integers, rows: Integers, drawn: NDArray[np.float64]) -> Integers:
    """Return a donor from the pool for every draw, never the taker itself; `NOBODY` where there is no other.

    Args:
        pool: rows that may give, ascending (K,).
        rows: who takes (n,).
        drawn: uniform in [0, 1), (n,) or (n, T).
    """
    if len(pool) == 0:
        return np.full(drawn.shape, NOBODY, np.int64)
    place = np.searchsorted(pool, rows)  # where the taker itself stands in the pool, if it does
    own = pool[np.minimum(place, len(pool) - 1)] == rows
    over = (slice(None), *(None,) * (drawn.ndim - 1))
    others = (len(pool) - own)[over]
    index = (drawn * others).astype(np.int64)
    index += own[over] & (index >= place[over])  # step over the taker
    chosen: Integers = np.where(others > 0, pool[np.minimum(index, len(pool) - 1)], NOBODY)
    return chosen


def filled(donors: Integers, site: Site) -> Floats:
    """Return the donors' values (n, ...): valid steps in order, from the start again when they run out."""
    if "t" not in site.layout:
        return site.everything[donors]
    steps = size(site.layout, site.everything.shape, "t")
    lengths = np.full(len(donors), steps) if site.all_lengths is None else site.all_lengths[donors]
    index = np.arange(steps) % np.maximum(lengths, 1)[:, None]  # (n, T)
    return steps_back(steps_first(site.everything, site.layout)[donors[:, None], index], site.layout)
