"""What a kind of corruption is: a function of values, a severity and a generator, with five severities.

A function gets the values of the instances that it changes, (n, ...) in the modality's layout, and returns new
ones of the same shape. What it draws depends on shapes alone: with the same seed a severe corruption is the mild
one taken further (the same noise, louder; the same stretch, longer), so that severities compare.
Axis letters: N instances of the part, n those that are changed; the rest is the modality's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]

SEVERITIES = 5
GROUPS = ("values", "time", "instances", "image", "audio")


@dataclass(frozen=True)
class Site:
    """What a kind may look at beside the values it changes.

    Args:
        layout: batch first, with the axis letters of `concordant.modalities`; "bt" is a waveform.
        everything: the same modality of the whole part (N, ...).
        rows: which instances of the part are changed (n,).
        donors: bool (N,), True where an instance has the modality.
        labels: classes of the whole part (N,).
        lengths: valid steps of the changed instances (n,), the leading ones; None = all are valid.
        all_lengths: valid steps of the whole part (N,); None = all are valid.
        rate: samples a second of a waveform; None where it is no waveform.

    Raises:
        UsageError: shapes that do not belong together, rows or lengths that are not there; all faults at once.
    """

    layout: str
    everything: Floats
    rows: Integers
    donors: Bools
    labels: Integers
    lengths: Integers | None = None
    all_lengths: Integers | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        count, rows = len(self.everything), len(self.rows)
        faults = []
        if not self.layout.startswith("b") or len(self.layout) != self.everything.ndim:
            faults.append(
                f"layout must start with b and name the {self.everything.ndim} axes of everything; "
                f"found {self.layout!r} for shape {self.everything.shape}"
            )
        expected = {"donors": count, "labels": count, "lengths": rows, "all_lengths": count}
        for name, many in expected.items():
            given = getattr(self, name)
            if given is not None and given.shape != (many,):
                faults.append(f"{name} must have shape ({many},); found {given.shape}")
        for name in ("lengths", "all_lengths"):
            if getattr(self, name) is not None and "t" not in self.layout:
                faults.append(f"{name} is given, but layout {self.layout!r} has no steps; leave it out")
        if not faults:
            faults = self._beyond()
        if faults:
            raise UsageError("; ".join(faults))

    def _beyond(self) -> list[str]:
        """Return what is said of values that point beyond the part."""
        most = {"rows": len(self.everything) - 1}
        if "t" in self.layout:
            most |= dict.fromkeys(("lengths", "all_lengths"), size(self.layout, self.everything.shape, "t"))
        faults = []
        for name, last in most.items():
            given = getattr(self, name)
            beyond = [] if given is None else given[(given < 0) | (given > last)]
            if len(beyond):
                faults.append(f"{name} must lie between 0 and {last}; found {beyond[0]}")
        return faults


Fits = Callable[[str, tuple[int, ...]], bool]
Apply = Callable[[Floats, float, Site, np.random.Generator], Floats]


@dataclass(frozen=True)
class Kind:
    """A kind of corruption.

    Args:
        name: as users write it.
        summary: one line.
        group: one of `GROUPS`.
        unit: what a severity is measured in.
        severities: five numbers, from mild to severe.
        fits: from layout and shape (N, ...), batch first, whether it can change such a modality.
        apply: from values (n, ...), a severity, a site and a generator to new values, float32, of the same shape.
            Steps beyond an instance's length stay as they are.
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
    apply: Apply
    seen: bool = False

    def __post_init__(self) -> None:
        if len(self.severities) != SEVERITIES:
            raise UsageError(f"corruption {self.name!r} needs {SEVERITIES} severities; found {list(self.severities)}")
        if self.group not in GROUPS:
            raise UsageError(f"corruption {self.name!r} must be of one of {', '.join(GROUPS)}; found {self.group!r}")


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
    return layout == "bt" and size(layout, shape, "t") > 1


def always(layout: str, shape: tuple[int, ...]) -> bool:
    """Return True where there is anything at all in an instance."""
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
