"""Corruptions over time, in every layout with more than one step: steps go missing, move, stand still or are foreign.

They touch the valid steps of an instance alone, and shares are shares of these.
Shapes: values (n, ...) in their layout; inside, steps second, (n, T, ...).
"""

from __future__ import annotations

import numpy as np

from concordant.errors import UsageError
from concordant.robustness.corruptions.axes import (
    finished,
    how_many,
    lengths_of,
    lowest,
    over_steps,
    steps_back,
    steps_first,
    stretch,
    valid_steps,
)
from concordant.robustness.corruptions.donors import NOBODY, able, choose
from concordant.robustness.corruptions.kind import Floats, Integers, Kind, Site, has_steps, size

SHARE = "share of the steps"


def mask(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Set one stretch of this share of the steps, at least one, to 0."""
    lengths = lengths_of(x, site)
    counts = how_many(severity, lengths)
    begin = stretch(draws.random(len(x)), counts, lengths)[:, None]
    step = np.arange(size(site.layout, x.shape, "t"))
    gone = (step >= begin) & (step < begin + counts[:, None])  # (n, T)
    return finished(np.where(over_steps(gone, site.layout), 0, x), x, site)


def move(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Move all steps by this share of them, at least one, earlier or later, in a circle."""
    lengths = lengths_of(x, site)
    later = np.where(draws.random(len(x)) < 0.5, 1, -1)
    shift = (later * how_many(severity, lengths))[:, None]
    source = (np.arange(size(site.layout, x.shape, "t")) - shift) % np.maximum(lengths, 1)[:, None]  # (n, T)
    return finished(_taken(x, source, site), x, site)


def freeze(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Let a stretch of this share of the steps, at least two, repeat its first step."""
    lengths = lengths_of(x, site)
    counts = how_many(severity, lengths, least=2)
    begin = stretch(draws.random(len(x)), counts, lengths)[:, None]
    step = np.arange(size(site.layout, x.shape, "t"))
    frozen = (step >= begin) & (step < begin + counts[:, None])
    return finished(_taken(x, np.where(frozen, begin, step), site), x, site)


def replace_tokens(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Replace this share of the steps, at least one, by random valid steps of random other instances.

    Raises:
        UsageError: no other instance has the modality.
    """
    steps, lengths = size(site.layout, x.shape, "t"), lengths_of(x, site)
    drawn, who, which = (draws.random((len(x), steps)) for _ in range(3))
    foreign = lowest(np.where(valid_steps(lengths, steps), drawn, 2), how_many(severity, lengths))  # (n, T)
    donors = choose(np.flatnonzero(able(site)), site.rows, who)  # (n, T)
    if (donors == NOBODY).any():
        raise UsageError("token-replacement needs two test instances that have the modality; found no other one")
    available = np.full(donors.shape, steps) if site.all_lengths is None else site.all_lengths[donors]
    taken = steps_first(site.everything, site.layout)[donors, (which * available).astype(np.int64)]
    changed = np.where(over_steps(foreign, site.layout), steps_back(taken, site.layout), x)
    return finished(changed, x, site)


def _taken(x: Floats, source: Integers, site: Site) -> Floats:
    """Return the values with step `source[i, t]` of instance i at its step t."""
    return steps_back(steps_first(x, site.layout)[np.arange(len(x))[:, None], source], site.layout)


STEPS = (
    Kind(
        "time-masking",
        "one stretch of the steps is set to 0",
        "time",
        SHARE,
        (0.1, 0.25, 0.5, 0.75, 0.9),
        has_steps,
        mask,
    ),
    Kind(
        "misalignment",
        "the steps are moved against the other modalities, circularly",
        "time",
        SHARE,
        (0.05, 0.1, 0.2, 0.35, 0.5),
        has_steps,
        move,
    ),
    Kind(
        "freeze",
        "a stretch of the steps repeats its first one",
        "time",
        SHARE,
        (0.1, 0.25, 0.5, 0.75, 0.9),
        has_steps,
        freeze,
    ),
    Kind(
        "token-replacement",
        "random steps are replaced by steps of other instances",
        "time",
        SHARE,
        (0.1, 0.25, 0.5, 0.75, 0.9),
        has_steps,
        replace_tokens,
    ),
)
