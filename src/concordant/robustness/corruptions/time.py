"""Corruptions over time, in every layout with more than one step: steps go missing, move, stand still or are foreign.

They change the valid steps of an instance alone, and shares are shares of these.
Shapes: values (n, ...) in their layout; inside, steps second, (n, T, ...).
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
    choose,
    corruption,
    has_steps,
    how_many,
    lowest,
    over_steps,
    steps_back,
    steps_first,
    stretch,
    valid_steps,
)

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)

_time = partial(corruption, group="time", unit="share of the steps", fits=has_steps)


@_time("time-masking", "one stretch of the steps is set to 0", severities=SHARES)
def mask(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Set one stretch of this share of the steps, at least one, to 0."""
    gone, _ = _one_stretch(severity, context, draws)
    return np.where(over_steps(gone, context.layout), 0, x)


@_time(
    "misalignment",
    "the steps are moved against the other modalities, circularly",
    severities=(0.05, 0.1, 0.2, 0.35, 0.5),
)
def move(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Move all steps by this share of them, at least one, earlier or later, in a circle."""
    lengths = context.lengths_of(context.rows)
    later = np.where(draws.random(len(x)) < 0.5, 1, -1)
    shift = (later * how_many(severity, lengths))[:, None]
    source = (np.arange(context.steps) - shift) % np.maximum(lengths, 1)[:, None]  # (n, T)
    return _taken(x, source, context)


@_time("freeze", "a stretch of the steps repeats its first one", severities=SHARES)
def freeze(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Let a stretch of this share of the steps, at least two, repeat its first step."""
    frozen, begin = _one_stretch(severity, context, draws, least=2)
    return _taken(x, np.where(frozen, begin, np.arange(context.steps)), context)


@_time("token-replacement", "random steps are replaced by steps of other instances", severities=SHARES)
def replace_tokens(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Replace this share of the steps, at least one, by random valid steps of random other instances.

    Raises:
        UsageError: no other instance has the modality.
    """
    steps, lengths = context.steps, context.lengths_of(context.rows)
    drawn, donor, which = (draws.random((len(x), steps)) for _ in range(3))
    foreign = lowest(np.where(valid_steps(lengths, steps), drawn, 2), how_many(severity, lengths))  # (n, T)
    donors = choose(np.flatnonzero(context.able()), context.rows, donor)  # (n, T)
    if (donors == NO_DONOR).any():
        raise UsageError("token-replacement needs two test instances that have the modality; found no other one")
    source = (which * context.lengths_of(donors)).astype(np.int64)
    taken = steps_first(context.everything, context.layout)[donors, source]
    return np.where(over_steps(foreign, context.layout), steps_back(taken, context.layout), x)


def _one_stretch(
    share: float, context: Context, draws: np.random.Generator, *, least: int = 1
) -> tuple[Bools, Integers]:
    """Return bool (n, T), True in one random stretch of this share of the valid steps, and its beginning (n, 1)."""
    lengths = context.lengths_of(context.rows)
    counts = how_many(share, lengths, least)
    begin = stretch(draws.random(len(lengths)), counts, lengths)[:, None]
    step = np.arange(context.steps)
    return (step >= begin) & (step < begin + counts[:, None]), begin


def _taken(x: Floats, source: Integers, context: Context) -> Floats:
    """Return the values with step `source[i, t]` of instance i at its step t."""
    return steps_back(steps_first(x, context.layout)[np.arange(len(x))[:, None], source], context.layout)
