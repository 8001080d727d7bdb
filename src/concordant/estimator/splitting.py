"""Which instances are held out of the fit to choose its state: stratified by class, or whole groups.

Shapes: labels (N,), groups (N,) -> two arrays of row numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from concordant import seeding
from concordant.data.split import Integers, by_group
from concordant.estimator.faults import InputError

FEWEST = 10  # fewer held-out instances than this tell nothing
STREAM = ("estimator", "validation")


def hold_out(
    count: int,
    labels: Integers | None,
    groups: Any,  # noqa: ANN401
    share: float,
    seed: int,
) -> tuple[Integers, Integers]:
    """Return the rows to train on and those held out, which are none where they would be fewer than 10.

    Every class keeps an instance to train on, where no groups are given.

    Args:
        count: N.
        labels: class indices; None of a regression.
        groups: what each instance belongs to; whole groups are held out.
        share: how many are held out; 0 for none.
        seed: of the draws.

    Raises:
        InputError: there is but one group, or groups have another shape.
    """
    groups = None if groups is None else np.asarray(groups)
    if groups is not None and groups.shape != (count,):
        raise InputError(f"groups must name one group an instance, shape ({count},); found {groups.shape}")
    everyone = np.arange(count)
    wanted = round(share * count)
    if wanted < FEWEST:
        return everyone, everyone[:0]
    if groups is not None:
        names = np.asarray([str(one) for one in groups.tolist()])
        if len(np.unique(names)) < 2:
            raise InputError("groups must name two groups or more, so that one can be held out; or set validation=0")
        return by_group(everyone, names, share, seed, *STREAM)
    order = np.random.default_rng(seeding.derive_seed(seed, *STREAM)).permutation(count)
    if labels is None:
        return np.sort(order[wanted:]), np.sort(order[:wanted])
    # Turn by turn one of each class, in proportion: the k-th of n members comes at the time (k + 1/2) / n.
    shuffled = labels[order]
    times = np.empty(count)
    for label in np.unique(labels):
        members = np.flatnonzero(shuffled == label)
        times[members] = (np.arange(len(members)) + 0.5) / len(members)
        times[members[-1]] = np.inf  # stays in training
    held = order[np.argsort(times, kind="stable")[:wanted]]
    held = held[np.isin(held, order[np.isfinite(times)])]
    return np.setdiff1d(everyone, held), np.sort(held)
