"""Corruptions of values, in every layout that has features.

Values are standardised: 0 is a feature's mean on the training part, 1 its standard deviation. A feature is a
column, or a channel at all positions; of a map with a single channel it is a place (a pixel, in all frames).
Shapes: values (n, ...) in their layout.
"""

from __future__ import annotations

import numpy as np

from concordant.robustness.corruption import feature_shape
from concordant.robustness.corruptions.axes import (
    finished,
    how_many,
    lengths_of,
    lowest,
    over_steps,
)
from concordant.robustness.corruptions.kind import Bools, Floats, Kind, Site, has_features, size

IMPULSE = 4.0  # standard deviations
REPLACEMENT = 3.0  # standard deviation of what stands in a lost feature's place
LIMIT = 3.0  # of the quantiser, in standard deviations
DEVIATIONS = "standard deviations of the feature on training data"


def add_noise(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Add white Gaussian noise with this standard deviation."""
    return finished(x + severity * draws.standard_normal(x.shape, dtype=np.float32), x, site)


def add_impulses(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Set single values to 4 standard deviations above or below the mean, each with this probability."""
    drawn = draws.random(x.shape, dtype=np.float32)
    above = draws.random(x.shape, dtype=np.float32) < 0.5
    return finished(np.where(drawn < severity, np.where(above, IMPULSE, -IMPULSE), x), x, site)


def drop_dimensions(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Set this share of an instance's features, at least one, to 0."""
    return finished(np.where(some_features(x, severity, site, draws), 0, x), x, site)


def replace_dimensions(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Replace this share of an instance's features, at least one, by noise with standard deviation 3."""
    chosen = some_features(x, severity, site, draws)
    noise = REPLACEMENT * draws.standard_normal(x.shape, dtype=np.float32)
    return finished(np.where(chosen, noise, x), x, site)


def drift(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Multiply by a gain that rises from 1 at the first valid step to this one at the last; constant without steps."""
    if size(site.layout, x.shape, "t") < 2:
        return finished(severity * x, x, site)
    steps, lengths = size(site.layout, x.shape, "t"), lengths_of(x, site)[:, None]  # (n, 1)
    way = np.where(lengths > 1, np.arange(steps) / np.maximum(lengths - 1, 1), 1.0)  # (n, T), 0 to 1
    gain = (1 + (severity - 1) * np.minimum(way, 1)).astype(np.float32)
    return finished(x * over_steps(gain, site.layout), x, site)


def clip(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Clip at this many standard deviations on either side of the mean."""
    return finished(np.clip(x, -severity, severity), x, site)


def quantise(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Round to this many levels: the middles of bins of equal width from -3 to 3 standard deviations."""
    width = 2 * LIMIT / severity
    level = np.clip(np.floor((x + LIMIT) / width), 0, severity - 1)  # 0 to levels - 1
    return finished((level + 0.5) * width - LIMIT, x, site)


def some_features(x: Floats, share: float, site: Site, draws: np.random.Generator) -> Bools:
    """Return a mask that broadcasts over `x`, True at a random share of each instance's features."""
    shape = feature_shape(x.shape, site.layout)
    count = int(np.prod(shape[1:]))
    counts = how_many(share, np.full(len(x), count))
    return lowest(draws.random((len(x), count)), counts).reshape(shape)


VALUES = (
    Kind(
        "gaussian-noise",
        "white Gaussian noise is added",
        "values",
        DEVIATIONS,
        (0.25, 0.45, 1.5, 3.0, 4.0),
        has_features,
        add_noise,
        seen=True,
    ),
    Kind(
        "impulse",
        "single values are set to 4 standard deviations above or below the mean",
        "values",
        "share of the single values",
        (0.02, 0.05, 0.1, 0.2, 0.4),
        has_features,
        add_impulses,
    ),
    Kind(
        "dimension-dropout",
        "random features of an instance are set to 0, their mean",
        "values",
        "share of the features",
        (0.1, 0.25, 0.5, 0.75, 0.9),
        has_features,
        drop_dimensions,
    ),
    Kind(
        "dimension-replacement",
        "random features of an instance are replaced by noise with standard deviation 3",
        "values",
        "share of the features",
        (0.05, 0.09, 0.45, 0.55, 0.9),
        has_features,
        replace_dimensions,
        seen=True,
    ),
    Kind(
        "scale-drift",
        "the gain rises over the steps; without steps it is raised throughout",
        "values",
        "final gain",
        (1.25, 1.5, 2.0, 3.0, 5.0),
        has_features,
        drift,
    ),
    Kind(
        "clipping",
        "values are clipped on both sides of the mean",
        "values",
        DEVIATIONS,
        (2.0, 1.5, 1.0, 0.5, 0.25),
        has_features,
        clip,
    ),
    Kind(
        "quantisation",
        "values are rounded to a few levels",
        "values",
        "levels between -3 and 3 standard deviations",
        (16.0, 8.0, 4.0, 3.0, 2.0),
        has_features,
        quantise,
    ),
)
