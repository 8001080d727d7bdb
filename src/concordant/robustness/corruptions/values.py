"""Corruptions of values, in every layout that has features.

Values are standardised: 0 is a feature's mean on the training data, 1 its standard deviation. A feature is a column, or
a channel at all positions; of a map with a single channel it is a place (a pixel, in all frames).
Shapes: values (n, ...) in their layout.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Floats
from concordant.robustness.corruptions.kind import Context, corruption, has_features, how_many, over_steps

IMPULSE = 4.0  # standard deviations
REPLACEMENT = 3.0  # standard deviation of the noise in place of a lost feature
LIMIT = 3.0  # of the quantiser, in standard deviations
DEVIATIONS = "standard deviations of the feature on training data"

_values = partial(corruption, group="values", fits=has_features)


@_values(
    "gaussian-noise",
    "white Gaussian noise is added",
    unit=DEVIATIONS,
    severities=(0.25, 0.45, 1.5, 3.0, 4.0),
    seen=True,
)
def add_noise(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Add white Gaussian noise with this standard deviation."""
    noise = draws.standard_normal(x.shape, dtype=np.float32)
    noise *= severity
    noise += x
    return noise


@_values(
    "impulse",
    "single values are set to 4 standard deviations above or below the mean",
    unit="share of the single values",
    severities=(0.02, 0.05, 0.1, 0.2, 0.4),
)
def add_impulses(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Set single values to 4 standard deviations above or below the mean, each with this probability."""
    drawn = draws.random(x.shape, dtype=np.float32)
    above = draws.random(x.shape, dtype=np.float32) < 0.5
    return np.where(drawn < severity, np.where(above, IMPULSE, -IMPULSE), x)


@_values(
    "dimension-dropout",
    "random features of an instance are set to 0, their mean",
    unit="share of the features",
    severities=(0.1, 0.25, 0.5, 0.75, 0.9),
)
def drop_dimensions(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Set this share of an instance's features, at least one, to 0."""
    return np.where(some_features(x, severity, context, draws), 0, x)


@_values(
    "dimension-replacement",
    "random features of an instance are replaced by noise with standard deviation 3",
    unit="share of the features",
    severities=(0.05, 0.09, 0.45, 0.55, 0.9),
    seen=True,
)
def replace_dimensions(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Replace this share of an instance's features, at least one, by noise with standard deviation 3."""
    chosen = some_features(x, severity, context, draws)
    noise = draws.standard_normal(x.shape, dtype=np.float32)
    noise *= REPLACEMENT
    np.copyto(noise, x, where=~chosen)
    return noise


@_values(
    "scale-drift",
    "the gain rises over the steps; without steps it is raised throughout",
    unit="final gain",
    severities=(1.25, 1.5, 2.0, 3.0, 5.0),
)
def drift(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Multiply by a gain that rises from 1 at the first valid step to this one at the last; constant without steps."""
    if context.steps < 2:
        return severity * x
    lengths = context.lengths_of(context.rows)[:, None]  # (n, 1)
    way = np.where(lengths > 1, np.arange(context.steps) / np.maximum(lengths - 1, 1), 1.0)  # (n, T), 0 to 1
    gain = (1 + (severity - 1) * np.minimum(way, 1)).astype(np.float32)
    return np.asarray(x * over_steps(gain, context.layout))


@_values(
    "clipping", "values are clipped on both sides of the mean", unit=DEVIATIONS, severities=(2.0, 1.5, 1.0, 0.5, 0.25)
)
def clip(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Clip at this many standard deviations on either side of the mean."""
    return np.clip(x, -severity, severity)


@_values(
    "quantisation",
    "values are rounded to a few levels",
    unit="levels between -3 and 3 standard deviations",
    severities=(16.0, 8.0, 4.0, 3.0, 2.0),
)
def quantise(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Round to this many levels: the middles of bins of equal width from -3 to 3 standard deviations."""
    width = 2 * LIMIT / severity
    level = np.clip(np.floor((x + LIMIT) / width), 0, severity - 1)  # 0 to levels - 1
    return np.asarray((level + 0.5) * width - LIMIT)


def some_features(x: Floats, share: float, context: Context, draws: np.random.Generator) -> Bools:
    """Return a mask that broadcasts over `x`, True at a random share of each instance's features."""
    shape = feature_shape(x.shape, context.layout)
    count = int(np.prod(shape[1:]))
    order = draws.random((len(x), count)).argsort(axis=1)
    if context.nested:
        order = order.argsort(axis=1)  # the rank of each feature's draw
    chosen = order < how_many(share, np.full(len(x), count))[:, None]
    return np.asarray(chosen.reshape(shape))


def feature_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the shape of one draw per feature: 1 on the axes over which features repeat."""
    feature = layout.index("c" if "c" in layout else "d")
    if shape[feature] == 1:  # one channel: its places are the features
        return tuple(1 if letter in "ct" else size for letter, size in zip(layout, shape, strict=True))
    return tuple(size if i in (0, feature) else 1 for i, size in enumerate(shape))
