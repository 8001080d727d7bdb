"""The record of a kind of corruption, and the axes, shares and donors that kinds have in common.

A kind changes the values of some instances of a modality, (n, ...) in the modality's layout. Its draws depend on
shapes alone: with one seed, a severe corruption is the mild one taken further (the same noise, louder; the same
stretch, longer), which makes severities comparable.
Axis letters: N instances of the split, n those that are changed, T steps, K choices; the rest is the modality's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Floats, Integers
from concordant.errors import UsageError

SEVERITIES = 5
GROUPS = ("values", "time", "instances", "image", "audio")
NO_DONOR = -1


@dataclass(frozen=True)
class Context:
    """The data that a kind may use beside the values it changes.

    Args:
        layout: batch first, with the axis letters of `concordant.modalities`; "bt" is a waveform.
        everything: the modality's values in the whole split (N, ...).
        rows: the instances of the split that are changed (n,).
        donors: bool (N,), True where an instance has the modality.
        labels: classes of the whole split (N,).
        lengths: valid steps of the whole split (N,), the leading ones; None = all are valid.
        rate: samples per second of a waveform; None for all else.
        nested: nest the draws: a severe corruption contains the mild one. False for the conditions of `concordant run`,
            which have one strength: donors are independent draws and give their steps unchanged.

    Raises:
        UsageError: shapes that do not belong together, rows or lengths out of range; all faults at once.
    """

    layout: str
    everything: Floats
    rows: Integers
    donors: Bools
    labels: Integers
    lengths: Integers | None = None
    rate: float | None = None
    nested: bool = True

    def __post_init__(self) -> None:
        count = len(self.everything)
        faults = []
        if not self.layout.startswith("b") or len(self.layout) != self.everything.ndim:
            faults.append(
                f"layout must start with b and name the {self.everything.ndim} axes of everything; "
                f"found {self.layout!r} for shape {self.everything.shape}"
            )
        for name in ("donors", "labels", "lengths"):
            given = getattr(self, name)
            if given is not None and given.shape != (count,):
                faults.append(f"{name} must have shape ({count},); found {given.shape}")
        if self.lengths is not None and "t" not in self.layout:
            faults.append(f"lengths is given, but layout {self.layout!r} has no steps; leave it out")
        if not faults:
            for name, values, most in (("rows", self.rows, count - 1), ("lengths", self.lengths, self.steps)):
                beyond = None if values is None else values[(values < 0) | (values > most)]
                if beyond is not None and len(beyond):
                    faults.append(f"{name} must lie between 0 and {most}; found {beyond[0]}")
        if faults:
            raise UsageError("; ".join(faults))

    @property
    def steps(self) -> int:
        """The number of steps T; 0 in a layout without steps."""
        return size(self.layout, self.everything.shape, "t")

    def lengths_of(self, rows: Any = slice(None)) -> Integers:  # noqa: ANN401 - whatever indexes an array
        """Return the valid steps of instances of the split; of all without `rows`."""
        lengths = np.full(len(self.everything), self.steps) if self.lengths is None else self.lengths
        return np.asarray(lengths[rows], dtype=np.int64)

    def able(self) -> Bools:
        """Return bool (N,): the instance has the modality, and a valid step of it."""
        return self.donors if self.lengths is None else self.donors & (self.lengths > 0)


Fits = Callable[[str, tuple[int, ...]], bool]
Function = Callable[[Floats, float, Context, np.random.Generator], NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Args:
        name: as users write it.
        summary: one line.
        group: one of `GROUPS`.
        unit: of the severities.
        severities: five numbers, from mild to severe.
        fits: from layout and shape (N, ...), batch first, whether it can change such a modality.
        function: from values (n, ...), a severity, a context and a generator to new values that broadcast to (n, ...).
        seen: whether training perturbs by this kind (`concordant.calibration.perturbation`), at other strengths.

    Raises:
        UsageError: the number of severities or the group is wrong.
    """

    name: str
    summary: str
    group: str
    unit: str
    severities: tuple[float, ...]
    fits: Fits
    function: Function
    seen: bool = False

    def __post_init__(self) -> None:
        if len(self.severities) != SEVERITIES:
            raise UsageError(f"corruption {self.name!r} needs {SEVERITIES} severities; found {list(self.severities)}")
        if self.group not in GROUPS:
            raise UsageError(f"corruption {self.name!r} must be of one of {', '.join(GROUPS)}; found {self.group!r}")

    def apply(self, x: Floats, severity: float, context: Context, draws: np.random.Generator) -> Floats:
        """Return corrupted values, float32 (n, ...); steps beyond an instance's length stay as they are in `x`."""
        changed = np.broadcast_to(self.function(x, severity, context, draws), x.shape).astype(np.float32, copy=False)
        if context.lengths is None:
            return changed
        valid = valid_steps(context.lengths[context.rows], context.steps)
        if valid.all():
            return changed
        return np.where(over_steps(valid, context.layout), changed, x.astype(np.float32, copy=False))


ENTERED: list[Kind] = []  # by `corruption`, in the order in which the files of kinds are imported


def corruption(
    name: str, summary: str, group: str, unit: str, severities: tuple[float, ...], fits: Fits, *, seen: bool = False
) -> Callable[[Function], Function]:
    """Return a decorator that enters a function as a kind of corruption; arguments as for `Kind`."""

    def enter(function: Function) -> Function:
        ENTERED.append(Kind(name, summary, group, unit, severities, fits, function, seen))
        return function

    return enter


# What a kind fits.


def has_features(layout: str, shape: tuple[int, ...]) -> bool:
    """Return whether there is an axis of features; a waveform has none."""
    return size(layout, shape, "d") > 0 or size(layout, shape, "c") > 0


def has_steps(layout: str, shape: tuple[int, ...]) -> bool:
    """Return whether there is more than one step."""
    return size(layout, shape, "t") > 1


def has_pixels(layout: str, shape: tuple[int, ...]) -> bool:
    """Return whether there are two axes of places, with more than one place each."""
    return size(layout, shape, "h") > 1 and size(layout, shape, "w") > 1


def is_wave(layout: str, shape: tuple[int, ...]) -> bool:
    """Return whether it is a waveform (N, S)."""
    return layout == "bt" and has_steps(layout, shape)


def always(layout: str, shape: tuple[int, ...]) -> bool:
    """Return True where an instance has any value."""
    size(layout, shape, "b")
    return 0 not in shape[1:]


def size(layout: str, shape: tuple[int, ...], letter: str) -> int:
    """Return the size of the axis with this letter, 0 where the layout has no such axis.

    Raises:
        UsageError: the layout has another number of axes than the shape.
    """
    if len(layout) != len(shape):
        raise UsageError(f"layout {layout!r} has {len(layout)} axes, batch first; found shape {tuple(shape)}")
    return shape[layout.index(letter)] if letter in layout else 0


# Axes.


def steps_first(x: NDArray[Any], layout: str) -> NDArray[Any]:
    """View (n, ...) as (n, T, ...)."""
    return np.moveaxis(x, layout.index("t"), 1)


def steps_back(x: NDArray[Any], layout: str) -> NDArray[Any]:
    """View (n, T, ...) in its layout again."""
    return np.moveaxis(x, 1, layout.index("t"))


def over_steps(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Bring one value per step, (n, T), into a shape that broadcasts over the layout."""
    count, steps = values.shape
    return values.reshape([{"b": count, "t": steps}.get(letter, 1) for letter in layout])


def over_instances(values: NDArray[Any], layout: str) -> NDArray[Any]:
    """Bring one value per instance, (n,), into a shape that broadcasts over the layout."""
    return values.reshape(-1, *(1 for _ in layout[1:]))


def valid_steps(lengths: Integers, steps: int) -> Bools:
    """Return a mask (n, T), True at the leading `lengths`."""
    return np.asarray(np.arange(steps) < lengths[:, None])


# Shares.


def how_many(share: float, of: Integers, least: int = 1) -> Integers:
    """Return `share` of each count, rounded: at least `least`, at most all."""
    return np.asarray(np.minimum(np.maximum(np.rint(share * of).astype(np.int64), least), of))


def lowest(drawn: NDArray[np.float64], counts: Integers) -> Bools:
    """Return a mask (n, K), True at the `counts` (n,) lowest draws of each row: with higher counts a superset."""
    return np.asarray(drawn.argsort(axis=1).argsort(axis=1) < counts[:, None])


def stretch(drawn: NDArray[np.float64], counts: Integers, of: Integers) -> Integers:
    """Return where a stretch of `counts` among `of` places begins, from uniform draws (n,).

    A longer stretch of the same draw contains the shorter one.
    """
    return np.asarray(np.floor(drawn * (of - counts + 1)).astype(np.int64))


# Donors: the other instances whose values are taken.


def choose(pool: Integers, rows: Integers, drawn: NDArray[np.float64]) -> Integers:
    """Return a donor for every draw, never the receiver itself; `NO_DONOR` where there is no other.

    The pool are rows that may give, ascending (K,); `rows` are the receivers (n,); draws are uniform in [0, 1), (n,) or
    (n, T).
    """
    if len(pool) == 0:
        return np.full(drawn.shape, NO_DONOR, np.int64)
    place = np.searchsorted(pool, rows)  # the receiver's own place in the pool, if it is in it
    own = pool[np.minimum(place, len(pool) - 1)] == rows
    over = (slice(None), *(None,) * (drawn.ndim - 1))
    others = (len(pool) - own)[over]
    index = (drawn * others).astype(np.int64)
    index += own[over] & (index >= place[over])  # step over the receiver
    return np.asarray(np.where(others > 0, pool[np.minimum(index, len(pool) - 1)], NO_DONOR))


def filled(donors: Integers, context: Context) -> Floats:
    """Return the donors' values (n, ...): valid steps in order, from the start again when they run out."""
    if "t" not in context.layout or not context.nested:
        return context.everything[donors]
    index = np.arange(context.steps) % np.maximum(context.lengths_of(donors), 1)[:, None]  # (n, T)
    taken = steps_first(context.everything, context.layout)[donors[:, None], index]
    return steps_back(taken, context.layout)
