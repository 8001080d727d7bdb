"""Corruptions by other instances, in every layout: a modality tells of something else than the other ones do.

A donor has the modality; a donor's valid steps fill those of the instance that takes them, which keeps its length.
Shapes: values (n, ...) in their layout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError
from concordant.robustness.corruptions.axes import (
    finished,
    how_many,
    lengths_of,
    over_instances,
    over_steps,
    valid_steps,
)
from concordant.robustness.corruptions.donors import NOBODY, able, choose, filled
from concordant.robustness.corruptions.kind import Bools, Floats, Integers, Kind, Site, always, has_features, size
from concordant.robustness.corruptions.values import some_features

WEIGHT = "weight of the other instance"
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)


def swap(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Mix with a random instance of another class, which gets this weight.

    Raises:
        UsageError: no instance of another class has the modality.
    """
    donors = _by_class(site, draws.random(len(x)), same=False)
    if (donors == NOBODY).any():
        label = site.labels[site.rows[donors == NOBODY][0]]
        raise UsageError(
            "a swap needs test instances of two classes at least; "
            f"found none that has the modality and another class than {label}"
        )
    return _mixed(x, donors, severity, site)


def swap_within(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Mix with a random other instance of the same class; where there is none the instance stays as it is."""
    return _mixed(x, _by_class(site, draws.random(len(x)), same=True), severity, site)


def lag(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Leave the previous instance's signal in this share of the steps, the first ones; without steps, of the features.

    The previous one is the last before it in the part's order that has the modality; the first has the last one's.
    """
    pool = np.flatnonzero(able(site))
    if len(pool) == 0:
        return finished(x, x, site)
    previous = pool[np.searchsorted(pool, site.rows) - 1]  # -1 is the last
    return finished(np.where(_still(x, severity, site, draws), filled(previous, site), x), x, site)


def _by_class(site: Site, drawn: NDArray[np.float64], *, same: bool) -> Integers:
    """Return a donor for each changed instance, of the same class or of another one; `NOBODY` where there is none."""
    labels, giving = site.labels[site.rows], able(site)
    donors = np.full(len(labels), NOBODY, np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        pool = np.flatnonzero(giving & ((site.labels == label) == same))
        donors[mine] = choose(pool, site.rows[mine], drawn[mine])
    return donors


def _mixed(x: Floats, donors: Integers, weight: float, site: Site) -> Floats:
    """Return the values with the donors' at this weight; the values themselves where there is no donor."""
    taken = filled(np.maximum(donors, 0), site)
    mixed = taken if weight == 1 else x + np.float32(weight) * (taken - x)  # a weight of 1 is exact
    return finished(np.where(over_instances(donors != NOBODY, site.layout), mixed, x), x, site)


def _still(x: Floats, share: float, site: Site, draws: np.random.Generator) -> Bools:
    """Return a mask that broadcasts over `x`, True at what is still the previous instance's."""
    steps = size(site.layout, x.shape, "t")
    if steps > 1 or not has_features(site.layout, x.shape):
        return over_steps(valid_steps(how_many(share, lengths_of(x, site)), steps), site.layout)
    return some_features(x, share, site, draws)


INSTANCES = (
    Kind(
        "swap",
        "an instance of another class is mixed in, up to a full swap",
        "instances",
        WEIGHT,
        SHARES,
        always,
        swap,
        seen=True,
    ),
    Kind(
        "same-class-swap",
        "a control: another instance of the same class is mixed in",
        "instances",
        WEIGHT,
        SHARES,
        always,
        swap_within,
        seen=True,  # training takes any other instance
    ),
    Kind(
        "stale",
        "the first part of the signal is still the previous instance's",
        "instances",
        "share of the steps, or of the features",
        SHARES,
        always,
        lag,
    ),
)
