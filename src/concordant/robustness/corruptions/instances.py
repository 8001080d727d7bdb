"""Corruptions by other instances, in every layout: a modality no longer belongs to what the other ones show.

A donor has the modality; its valid steps fill those of the receiver, which keeps its length.
Shapes: values (n, ...) in their layout.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Floats, Integers
from concordant.errors import UsageError
from concordant.robustness.corruptions.kind import (
    NO_DONOR,
    Context,
    always,
    choose,
    corruption,
    filled,
    has_features,
    how_many,
    over_instances,
    over_steps,
    valid_steps,
)
from concordant.robustness.corruptions.values import some_features

_instances = partial(corruption, group="instances", severities=(0.2, 0.4, 0.6, 0.8, 1.0), fits=always)
_mixing = partial(_instances, unit="weight of the other instance", seen=True)


@_mixing("swap", "an instance of another class is mixed in, up to a full swap")
def swap(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Mix with a random instance of another class, which gets this weight.

    Raises:
        UsageError: no instance of another class has the modality.
    """
    donors = _donors(context, draws, same_class=False)
    if (donors == NO_DONOR).any():
        label = context.labels[context.rows[donors == NO_DONOR][0]]
        raise UsageError(
            "a swap needs test instances of two classes at least; "
            f"found none that has the modality and another class than {label}"
        )
    return _mixed(x, donors, severity, context)


@_mixing("same-class-swap", "a control: another instance of the same class is mixed in")
def swap_within(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Mix with a random other instance of the same class; an instance without one stays as it is.

    Training swaps with any other instance, of whichever class, which is why this kind counts as seen.
    """
    return _mixed(x, _donors(context, draws, same_class=True), severity, context)


@_instances(
    "stale",
    "the first part of the signal is still the previous instance's",
    unit="share of the steps, or of the features",
)
def lag(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Leave the previous instance's signal in this share of the steps, the first ones; without steps, of the features.

    The previous one is the last before it in the split's order that has the modality; the first has the last one's.
    """
    pool = np.flatnonzero(context.able())
    if len(pool) == 0:
        return x
    previous = pool[np.searchsorted(pool, context.rows) - 1]  # -1 is the last
    return np.where(_still(x, severity, context, draws), filled(previous, context), x)


def _donors(context: Context, draws: np.random.Generator, *, same_class: bool) -> Integers:
    """Return a donor for each changed instance, of the same class or of another one; `NO_DONOR` where none exists."""
    labels, able = context.labels[context.rows], context.able()
    drawn = draws.random(len(labels)) if context.nested else None
    donors = np.full(len(labels), NO_DONOR, np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        pool = np.flatnonzero(able & ((context.labels == label) == same_class))
        if drawn is not None:
            donors[mine] = choose(pool, context.rows[mine], drawn[mine])
        elif len(pool):
            donors[mine] = draws.choice(pool, len(mine))
    return donors


def _mixed(x: Floats, donors: Integers, weight: float, context: Context) -> NDArray[Any]:
    """Return the values with the donors' at this weight; the values themselves where there is no donor."""
    taken = filled(np.maximum(donors, 0), context)
    mixed = taken if weight == 1 else x + np.float32(weight) * (taken - x)  # a weight of 1 is exact
    return np.where(over_instances(donors != NO_DONOR, context.layout), mixed, x)


def _still(x: Floats, share: float, context: Context, draws: np.random.Generator) -> Bools:
    """Return a mask that broadcasts over `x`, True at what is still the previous instance's."""
    if context.steps > 1 or not has_features(context.layout, x.shape):
        counts = how_many(share, context.lengths_of(context.rows))
        return over_steps(valid_steps(counts, context.steps), context.layout)
    return some_features(x, share, context, draws)
