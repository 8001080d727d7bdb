"""What testing inflicts on inputs: one random modality of every instance is corrupted, by one kind.

Inputs are standardised on the training part, so severities are in standard deviations of each feature, and
zero is a feature's mean. Training perturbs features, not inputs, and leaves these strengths out
(`concordant.calibration.Perturbation`).
Axis letters: N instances, M modalities; the rest is the modality's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from concordant import seeding
from concordant.data.split import Floats, Split
from concordant.errors import UsageError

NOISE = 1.5  # standard deviation of the added noise
SHARE = 0.5  # share of the features that `dimensions` replaces
REPLACEMENT = 3.0  # standard deviation of what it replaces them with

Corrupt = Callable[[Floats, "Context", np.random.Generator], Floats]


@dataclass(frozen=True)
class Context:
    """What a kind of corruption may look at beside the values it changes.

    Args:
        layout: of the inputs.
        everything: the inputs of the whole part (N, ...).
        labels: of the whole part (N,); of real labels, whether they are 0 or more.
        rows: which of the part's instances are to be corrupted.
        donors: bool (N,), the instances that have the modality.
    """

    layout: str
    everything: Floats
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    donors: NDArray[np.bool_]


@dataclass(frozen=True)
class Corrupted:
    """A corrupted part.

    Args:
        part: the same instances, with other inputs.
        hit: bool (N, M), True at the modality that was corrupted; columns as `names`.
        names: the modalities.
    """

    part: Split
    hit: NDArray[np.bool_]
    names: tuple[str, ...]


def add_noise(x: Floats, context: Context, draws: np.random.Generator) -> Floats:
    """Add white noise with standard deviation 1.5."""
    return x + NOISE * draws.standard_normal(x.shape, dtype=np.float32)


def replace_dimensions(x: Floats, context: Context, draws: np.random.Generator) -> Floats:
    """Replace a random half of an instance's features by noise with standard deviation 3.

    Features are columns, or channels at all positions; where there is a single channel, its places
    (an image's pixels, the same in every frame).
    """
    shape = feature_shape(x.shape, context.layout)
    count = int(np.prod(shape[1:]))
    order = draws.random((len(x), count)).argsort(axis=1)  # (n, features)
    replaced = (order < max(1, round(SHARE * count))).reshape(shape)
    return np.where(replaced, REPLACEMENT * draws.standard_normal(x.shape, dtype=np.float32), x)


def swap(x: Floats, context: Context, draws: np.random.Generator) -> Floats:
    """Take the modality from a random other instance of another class."""
    result = x.copy()
    labels = context.labels[context.rows]
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        donors = np.flatnonzero(context.donors & (context.labels != label))
        if len(donors) == 0:
            raise UsageError("a swap needs test instances of two classes at least; found one class")
        result[mine] = context.everything[draws.choice(donors, len(mine))]
    return result


def zero(x: Floats, context: Context, draws: np.random.Generator) -> Floats:
    """Replace every feature by zero, its mean over the training part."""
    return np.zeros_like(x)


CORRUPTIONS: dict[str, Corrupt] = {
    "noise": add_noise,
    "dimensions": replace_dimensions,
    "swap": swap,
    "zero": zero,
}


def corrupt(part: Split, kind: str, *, layouts: Mapping[str, str], seed: int, piece: int | None = None) -> Corrupted:
    """Corrupt one random present modality of every instance.

    What is drawn depends on the seed and the kind alone, so that every method meets the same corruption.
    Swapped sequences keep the receiver's mask, as equal lengths make harmless here.

    Args:
        part: what to corrupt; standardised.
        kind: one of `CORRUPTIONS`.
        layouts: modality -> layout of its inputs, batch first.
        seed: of the draws.
        piece: which piece of a part this is that is too large for memory; None = the whole part.

    Raises:
        UsageError: the kind is unknown, or a swap finds no other class.
    """
    if kind not in CORRUPTIONS:
        raise UsageError(f"unknown corruption {kind!r}; choose from: {', '.join(CORRUPTIONS)}")
    names, more = tuple(part.inputs), () if piece is None else (f"piece {piece}",)
    labels = part.labels if part.labels.dtype.kind == "i" else (part.labels >= 0).astype(np.int64)
    here = np.stack([part.present.get(name, np.ones(len(part), np.bool_)) for name in names], 1)  # (N, M)
    which = np.random.default_rng(seeding.derive_seed(seed, "stress", kind, *more))
    victim = (which.random(here.shape) + here).argmax(1)  # a random present modality
    inputs, hit = {}, np.zeros_like(here)
    for column, name in enumerate(names):
        rows = np.flatnonzero((victim == column) & here[:, column])
        hit[rows, column] = True
        whole = part.inputs[name]
        context = Context(layouts[name], whole, labels, rows, here[:, column])
        draws = np.random.default_rng(seeding.derive_seed(seed, "stress", kind, name, *more))
        changed = whole.copy()
        changed[rows] = CORRUPTIONS[kind](whole[rows], context, draws)
        if name in part.masks:
            changed = np.where(_over_steps(part.masks[name], layouts[name]), changed, np.float32(0))
        inputs[name] = changed
    return Corrupted(part.with_inputs(inputs), hit, names)


def remove(part: Split, name: str) -> Split:
    """Return the part without one modality: absent in every instance, its values gone."""
    present = {**part.present, name: np.zeros(len(part), np.bool_)}
    inputs = {**part.inputs, name: np.zeros_like(part.inputs[name])}
    return Split(inputs, part.labels, part.ids, part.groups, part.masks, present)


def _over_steps(mask: NDArray[np.bool_], layout: str) -> NDArray[np.bool_]:
    """Bring a mask (N, T) into a shape that broadcasts over the layout."""
    count, steps = mask.shape
    return mask.reshape([{"b": count, "t": steps}.get(letter, 1) for letter in layout])


def feature_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Return the shape of one draw a feature: 1 on the axes over which features repeat."""
    feature = layout.index("c" if "c" in layout else "d")
    if shape[feature] == 1:  # one channel: its places are the features
        return tuple(1 if letter in "ct" else size for letter, size in zip(layout, shape, strict=True))
    return tuple(size if i in (0, feature) else 1 for i, size in enumerate(shape))
