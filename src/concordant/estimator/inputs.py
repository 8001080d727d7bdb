"""From modalities by name, in all accepted forms, to a part: float32 arrays, masks of valid steps, presence.

NaN says what is not there: a row that is None or NaN throughout is absent, a step that is NaN throughout is padding;
NaN anywhere else is refused. Sequences of different lengths are padded to the longest.
Axis letters: N instances, T steps; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Bools, Floats, Split
from concordant.errors import UsageError
from concordant.estimator.container import Modalities
from concordant.estimator.faults import refuse
from concordant.modalities import check_sizes

LAYOUTS = ("bd", "btd", "bdt", "bchw", "bcthw")
_BY_AXES = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}
_SHOWN = 3  # rows that an error lists


@dataclass(frozen=True)
class Form:
    """What the rows of a modality look like.

    Args:
        given: layout in which they come: "bd", "btd", "bdt", "bchw" or "bcthw".
        shape: of an instance in `layout`; None stands for any number of steps.
    """

    given: str
    shape: tuple[int | None, ...]

    @property
    def layout(self) -> str:
        """Layout in which they are encoded."""
        return "btd" if self.given == "bdt" else self.given

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of an instance with a single step."""
        return tuple(1 if size is None else size for size in self.shape)


@dataclass(frozen=True)
class _Rows:
    x: Floats
    mask: Bools | None
    present: Bools


def read_first(x: Modalities, layouts: Mapping[str, str] | None = None) -> tuple[dict[str, Form], Split]:
    """Return the forms of the modalities that are trained on, and the instances.

    Args:
        x: modalities by name.
        layouts: modality -> layout; None = read off the number of axes.

    Raises:
        InputError: all faults at once, by modality.
    """
    layouts = {} if layouts is None else layouts
    faults = [
        f"layouts names {name!r}, which is not among the modalities {x.keys()}"
        for name in layouts
        if name not in x.keys()  # noqa: SIM118 - iterating goes through rows
    ]
    try:
        check_sizes(dict.fromkeys(x.keys(), 1), "auto", fewest=1)
    except UsageError as error:
        faults.append(str(error))
    forms: dict[str, Form] = {}
    rows: dict[str, _Rows] = {}
    for name, values in x.arrays.items():
        dense = _dense(name, values, layouts.get(name), faults)
        if dense is None:
            continue
        layout = layouts.get(name) or _BY_AXES.get(dense.ndim, "")
        if layout not in LAYOUTS or len(layout) != dense.ndim:
            faults.append(
                f"layouts[{name!r}] must be one of {', '.join(LAYOUTS)} with the {dense.ndim} axes of X[{name!r}]; "
                f"found {layout or None!r}"
            )
            continue
        found = _rows(name, dense, layout, faults)
        shape = tuple(None if axis == "t" else size for axis, size in zip(_kept(layout), found.x.shape, strict=True))
        forms[name], rows[name] = Form(layout, shape[1:]), found
        if 0 in forms[name].sizes:
            faults.append(f"X[{name!r}] has no features: its shape is {dense.shape}")
        elif len(x) and not found.present.any():
            faults.append(f"X[{name!r}] is absent in every instance; leave the modality out")
    if len(x) < 2:
        faults.append(f"X needs 2 instances or more to be fitted; found {len(x)}")
    elif len(rows) == len(x.arrays):
        empty = np.flatnonzero(~np.stack([one.present for one in rows.values()], 1).any(1))
        if len(empty):
            faults.append(f"{_which(empty)} no modality at all; leave such instances out of the fit")
    refuse(faults)
    return forms, _part(len(x), rows)


def read_again(x: Modalities, forms: Mapping[str, Form]) -> Split:
    """Return instances as a part of the known forms; a modality that X lacks is absent from all of them.

    Raises:
        InputError: all faults at once, by modality.
    """
    faults: list[str] = []
    unknown = [name for name in x.keys() if name not in forms]  # noqa: SIM118
    if unknown:
        faults.append(
            f"X has the unknown modality {', '.join(map(repr, unknown))}; it was fitted on {', '.join(forms)}"
        )
    rows: dict[str, _Rows] = {}
    for name, form in forms.items():
        if name not in x.arrays:
            steps = np.zeros((len(x), *form.sizes), np.float32)
            rows[name] = _Rows(steps, None, np.zeros(len(x), np.bool_))
            continue
        dense = _dense(name, x.arrays[name], form.given, faults, form)
        if dense is None:
            continue
        shape = dense.shape[1:] if form.given != "bdt" else dense.shape[:0:-1]
        if len(shape) != len(form.shape) or any(
            size not in (None, found) for size, found in zip(form.shape, shape, strict=True)
        ):
            wanted = form.shape if form.given != "bdt" else form.shape[::-1]
            faults.append(
                f"X[{name!r}] must have shape {_written((None, *wanted))}, as in the fit; found {dense.shape}"
            )
            continue
        rows[name] = _rows(name, dense, form.given, faults)
    refuse(faults)
    return _part(len(x), rows)


def _part(count: int, rows: Mapping[str, _Rows]) -> Split:
    return Split(
        inputs={name: one.x for name, one in rows.items()},
        labels=np.zeros(count, np.int64),
        ids=np.array([str(row) for row in range(count)]),
        masks={name: one.mask for name, one in rows.items() if one.mask is not None},
        present={name: one.present for name, one in rows.items() if not one.present.all()},
    )


def _dense(
    name: str, values: NDArray[Any], layout: str | None, faults: list[str], form: Form | None = None
) -> Floats | None:
    """Return rows as one float32 array, NaN where there is nothing; None after a fault."""
    if values.dtype != object:
        if values.dtype.kind not in "fiub":
            faults.append(f"X[{name!r}] must hold numbers; found {values.dtype}")
            return None
        dense = _float32(values)
        return dense[:, None] if dense.ndim == 1 else dense
    rows: list[Floats | None] = []
    for row in values:
        try:
            one = None if row is None else np.asarray(row, dtype=np.float64).astype(np.float32)
        except (TypeError, ValueError):
            faults.append(f"X[{name!r}] must hold numbers, or None where an instance has none; found {row!r:.60}")
            return None
        if one is not None and one.ndim == 0:
            one = None if np.isnan(one) else one[None]
        rows.append(one)
    known = [row for row in rows if row is not None]
    if not known:
        if form is None:
            faults.append(f"X[{name!r}] is absent in every instance; leave the modality out")
            return None
        shape = form.sizes if form.given != "bdt" else form.sizes[::-1]
        return np.full((len(rows), *shape), np.nan, np.float32)
    axes = layout or _BY_AXES.get(known[0].ndim + 1, "")
    steps = axes.index("t") - 1 if "t" in axes else None
    first = _fixed(known[0], steps)
    others = sorted({row.shape for row in known if _fixed(row, steps) != first})
    if others:
        faults.append(
            f"X[{name!r}] must have instances of one shape{' but for their steps' if steps is not None else ''}; "
            f"found {known[0].shape} and {others[0]}"
        )
        return None
    sizes = list(known[0].shape)
    if steps is not None:
        sizes[steps] = max(1, *(row.shape[steps] for row in known), 1)
    dense = np.full((len(rows), *sizes), np.nan, np.float32)
    for number, row in enumerate(rows):
        if row is not None:
            place: tuple[int | slice, ...] = (number, *(slice(size) for size in row.shape))
            dense[place] = row
    return dense


def _rows(name: str, dense: Floats, layout: str, faults: list[str]) -> _Rows:
    """Return values without NaN, the mask of steps and presence; appends what is wrong with the values."""
    if layout == "bdt":
        dense, layout = np.ascontiguousarray(dense.transpose(0, 2, 1)), "btd"
    bad = np.flatnonzero(np.isinf(dense).reshape(len(dense), -1).any(1))
    if len(bad):
        faults.append(f"X[{name!r}] holds infinity, or a value too large for float32: {_which(bad)} it")
    nan = np.isnan(dense)
    if not nan.any():
        return _Rows(dense, None, np.ones(len(dense), np.bool_))
    present = ~np.asarray(nan.reshape(len(dense), -1).all(1))
    mask: Bools | None = None
    left = nan
    if "t" in layout:
        place = layout.index("t")
        others = tuple(axis for axis in range(1, dense.ndim) if axis != place)
        padded: Bools = np.asarray(nan.all(others))  # (N, T)
        shape = [len(dense) if axis == 0 else dense.shape[place] if axis == place else 1 for axis in range(dense.ndim)]
        left = nan & ~padded.reshape(shape)
        mask = None if not padded[present].any() else ~padded
    partly = np.flatnonzero(left.reshape(len(dense), -1).any(1) & present)
    if len(partly):
        what = "steps" if "t" in layout else "instances"
        faults.append(
            f"X[{name!r}] holds NaN in part of its {what}: {_which(partly)} it; fill such values in, or set the whole "
            "instance to NaN or None where the modality is absent"
        )
    return _Rows(np.where(nan, np.float32(0), dense), mask, present)


def _float32(values: NDArray[Any]) -> Floats:
    with np.errstate(over="ignore"):  # a value too large becomes infinity, which is refused by name
        return values.astype(np.float32)


def _fixed(row: Floats, steps: int | None) -> tuple[int, ...]:
    """Return a row's shape without the axis that may differ; -1 axes mark another number of axes."""
    return tuple(size for axis, size in enumerate(row.shape) if axis != steps)


def _kept(layout: str) -> str:
    return "btd" if layout == "bdt" else layout


def _written(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _which(rows: NDArray[np.intp]) -> str:
    """Return a few row numbers in words that end in "have" or "has"."""
    listed = ", ".join(map(str, rows[:_SHOWN].tolist())) + (", ..." if len(rows) > _SHOWN else "")
    return f"row {listed} has" if len(rows) == 1 else f"{len(rows)} rows ({listed}) have"
