"""Input of the estimators: modalities by name in all accepted forms, and their conversion to a split.

NaN marks what is missing: a row that is None or NaN throughout is absent, a step that is NaN throughout is padding;
NaN anywhere else is refused. Sequences of different lengths are padded to the longest.
Axis letters: N instances, M modalities, T steps; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from concordant.data.split import Bools, Floats, Split
from concordant.errors import ConcordantError, UsageError
from concordant.modalities import BY_AXES, check_sizes

# Layout in X -> layout in which it is encoded.
ENCODED = {layout: layout for layout in BY_AXES.values()} | {"bdt": "btd", "bhwc": "bchw", "bthwc": "bcthw"}
_SHOWN = 3  # rows that an error lists


class InputError(UsageError, ValueError):
    """X, y or a parameter is wrong; the message names all faults at once. A ValueError, as scikit-learn expects."""


@contextmanager
def foreign_errors(fault: str = "") -> Iterator[None]:
    """Turn errors of NumPy and scikit-learn in a block into one sentence.

    Args:
        fault: the beginning of the sentence; "" = the message alone, of a ValueError. scikit-learn's own checks expect
            a TypeError to stay one.

    Raises:
        InputError: the message is on one line.
    """
    try:
        yield
    except ConcordantError:
        raise
    except (TypeError, ValueError) as error:
        if not fault and type(error) is TypeError:  # NumPy has kinds of its own
            raise
        line = " ".join(str(error).split())
        raise InputError(f"{fault} ({line})" if fault else line) from error


def refuse(faults: Sequence[str]) -> None:
    """Raise an error for all faults, if there are any.

    Raises:
        InputError: the faults, separated by semicolons.
    """
    if faults:
        raise InputError("; ".join(faults))


class Modalities:
    """Modalities by name that have rows, which scikit-learn can cut into folds; a dictionary has none.

    `cross_val_score`, `GridSearchCV` and `train_test_split` need no more of X than `shape` and `X[rows, ...]`.

    Args:
        arrays: modality -> array or tensor (N, ...), table, sparse matrix (N, D), which is filled with zeros, or list
            of N arrays, None where an instance has none.

    Raises:
        InputError: there is no modality, or their numbers of rows differ.

    >>> x = Modalities({"text": np.zeros((4, 2)), "audio": [np.zeros((3, 5)), None, np.zeros((7, 5)), None]})
    >>> len(x), x.shape, len(x[[0, 2]]), x["text"].shape
    (4, (4, 2), 2, (4, 2))
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        if not isinstance(arrays, Mapping) or not arrays:
            found = "an empty one" if isinstance(arrays, Mapping) else type(arrays).__name__
            raise InputError(f"X must be a dictionary from modality to rows with at least one modality; found {found}")
        faults = [f"{name!r} cannot name a modality: use a string" for name in arrays if not isinstance(name, str)]
        self.arrays: dict[str, NDArray[Any]] = {}
        #: The column names of each modality that is a DataFrame with words for names.
        self.columns: dict[str, tuple[str, ...]] = {}
        for name, values in arrays.items():
            if len(names := tuple(getattr(values, "columns", ()))) and all(isinstance(one, str) for one in names):
                self.columns[name] = names
            try:
                self.arrays[name] = _as_rows(values.toarray() if hasattr(values, "tocsr") else values)
            except (TypeError, ValueError) as error:
                faults.append(f"X[{name!r}] must be an array or a list with one entry per instance ({error})")
        counts = {name: len(values) for name, values in self.arrays.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            faults.append(f"all modalities of X need the same number of rows; found {listed}")
        refuse(faults)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and modalities, (N, M)."""
        return len(self), len(self.arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, key: Any) -> Any:
        """Return one modality by its name, or some rows of all: an index, indices, a mask or a slice."""
        if isinstance(key, str):
            if key not in self.arrays:
                raise KeyError(f"no modality {key!r}; choose from: {', '.join(self.arrays)}")
            return self.arrays[key]
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:  # how scikit-learn takes rows
            key = key[0]
        if not isinstance(key, slice):
            key = np.asarray(key)
            key = key if key.size else key.astype(np.intp)  # an empty list makes an array of floats
        rows = np.arange(len(self))[key]
        found = Modalities({name: values[np.atleast_1d(rows)] for name, values in self.arrays.items()})
        found.columns = self.columns
        return found

    def __iter__(self) -> Iterator[Modalities]:
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        raise InputError(f"Modalities is no single array; take one modality, such as X[{next(iter(self.arrays))!r}]")

    def keys(self) -> list[str]:
        """Return the modalities."""
        return list(self.arrays)

    def __repr__(self) -> str:
        return f"Modalities({len(self)} rows of {', '.join(self.arrays)})"


def plain(values: Any) -> Any:
    """Return a tensor, masked array or pandas data as an array in which NaN is missing; anything else as it is."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, np.ma.MaskedArray):
        numbers: Any = values if values.dtype == object else values.astype(np.result_type(values.dtype, np.float32))
        return numbers.filled(None if values.dtype == object else np.nan)
    if hasattr(values, "isna"):
        array, missing = np.asarray(values), np.asarray(values.isna())
        return np.where(missing, np.nan, array) if array.dtype == object and missing.any() else array  # pd.NA
    return values


def _as_rows(values: Any) -> NDArray[Any]:
    """Return values as an array whose first axis is instances; of objects where rows differ or are None."""
    values = plain(values)
    if isinstance(values, (list, tuple)):
        rows = [plain(row) for row in values]
        if all(row is not None for row in rows) and len({np.shape(row) for row in rows}) <= 1:
            return np.asarray(rows)
        out = np.empty(len(rows), dtype=object)
        for number, row in enumerate(rows):
            out[number] = None if row is None else np.asarray(row)
        return out
    found = np.asarray(values)
    if found.ndim == 0:
        raise TypeError(f"found {type(values).__name__}")
    return found


@dataclass(frozen=True)
class Form:
    """Form of a modality's rows.

    Args:
        given: layout in X, of `ENCODED`.
        shape: of an instance in `layout`; None stands for any number of steps.
        columns: names of the columns of a DataFrame; None = it was none.
    """

    given: str
    shape: tuple[int | None, ...]
    columns: tuple[str, ...] | None = None

    @property
    def layout(self) -> str:
        """Layout in which they are encoded."""
        return ENCODED[self.given]

    @property
    def given_shape(self) -> tuple[int | None, ...]:
        """Shape of an instance in X."""
        return tuple(self.shape[self.layout.index(axis) - 1] for axis in self.given[1:])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Shape of an instance with a single step."""
        return tuple(1 if size is None else size for size in self.shape)

    @property
    def features(self) -> int:
        """Features of one position, D."""
        return self.sizes[self.layout.replace("c", "d").index("d") - 1]


@dataclass(frozen=True)
class _Rows:
    x: Floats
    mask: Bools | None
    present: Bools


def read_first(x: Modalities, layouts: Mapping[str, str] | None = None) -> tuple[dict[str, Form], Split]:
    """Return the forms of the modalities of a fit, and the instances.

    Args:
        x: modalities by name.
        layouts: modality -> layout; None = by the number of axes.

    Raises:
        InputError: all faults at once, by modality.
    """
    layouts = {} if layouts is None else layouts
    if not isinstance(layouts, Mapping):
        raise InputError(f"layouts must be a dictionary from modality to layout; found {layouts!r:.60}")
    faults = [
        f"layouts names {name!r}, which is not among the modalities {x.keys()}"
        for name in layouts
        if name not in x.arrays
    ]
    try:
        check_sizes(dict.fromkeys(x.arrays, 1), "auto", fewest=1)
    except UsageError as error:
        faults.append(str(error))
    forms: dict[str, Form] = {}
    rows: dict[str, _Rows] = {}
    for name, values in x.arrays.items():
        dense = _dense(name, values, layouts.get(name), faults)
        if dense is None:
            continue
        layout = layouts.get(name) or BY_AXES.get(dense.ndim, "")
        if layout not in ENCODED or len(layout) != dense.ndim:
            faults.append(
                f"layouts[{name!r}] must be one of {', '.join(ENCODED)} with the {dense.ndim} axes of X[{name!r}]; "
                f"found {layout or None!r}"
            )
            continue
        found = rows[name] = _rows(name, dense, layout, faults)
        sizes = zip(ENCODED[layout], found.x.shape, strict=True)
        shape = tuple(None if axis == "t" else size for axis, size in sizes)
        forms[name] = Form(layout, shape[1:], x.columns.get(name))
        if 0 in found.x.shape[1:]:
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
    return forms, _split(len(x), rows)


def read_again(x: Modalities, forms: Mapping[str, Form]) -> Split:
    """Return instances in the forms of the fit; a modality that X lacks is absent from all of them.

    Raises:
        InputError: all faults at once, by modality.
    """
    if not len(x):
        raise InputError("X has no rows; give it one instance or more")
    faults: list[str] = []
    unknown = [repr(name) for name in x.arrays if name not in forms]
    if unknown:
        faults.append(f"X has the unknown modality {', '.join(unknown)}; it was fitted on {', '.join(forms)}")
    rows: dict[str, _Rows] = {}
    for name, form in forms.items():
        if name not in x.arrays:
            steps = np.zeros((len(x), *form.sizes), np.float32)
            rows[name] = _Rows(steps, None, np.zeros(len(x), np.bool_))
            continue
        dense = _dense(name, x.arrays[name], form.given, faults, form)
        if dense is None:
            continue
        wanted = form.given_shape
        if dense.ndim != len(form.given) or any(
            size not in (None, found) for size, found in zip(wanted, dense.shape[1:], strict=True)
        ):
            listed = ", ".join("any" if size is None else str(size) for size in (None, *wanted))
            faults.append(f"X[{name!r}] must have shape ({listed}), as in the fit; found {dense.shape}")
            continue
        if form.columns is not None and name in x.columns and x.columns[name] != form.columns:
            pairs = enumerate(zip(form.columns, x.columns[name], strict=True))
            place, (before, now) = next(one for one in pairs if one[1][0] != one[1][1])
            faults.append(
                f"X[{name!r}] must have the columns of the fit in their order; column {place} was {before!r}, "
                f"found {now!r}"
            )
            continue
        rows[name] = _rows(name, dense, form.given, faults)
    refuse(faults)
    return _split(len(x), rows)


def _split(count: int, rows: Mapping[str, _Rows]) -> Split:
    return Split(
        inputs={name: one.x for name, one in rows.items()},
        labels=np.zeros(count, np.int64),
        ids=np.arange(count).astype(str),
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
        dense = _floats(values)
        if form is not None and dense.ndim > 1 and not dense.shape[1] and "t" in (layout or "")[1:2]:
            dense = np.full((len(dense), 1, *dense.shape[2:]), np.nan, np.float32)  # without a step: absent
        return dense[:, None] if dense.ndim == 1 else dense
    rows: list[Floats | None] = []
    for row in values:
        try:
            one = None if row is None else _floats(np.asarray(row, dtype=np.float64))
        except (TypeError, ValueError):
            faults.append(f"X[{name!r}] must hold numbers, or None where an instance has none; found {row!r:.60}")
            return None
        if one is not None and one.ndim == 0:
            one = None if np.isnan(one) else one[None]
        rows.append(one)
    shapes = [row.shape for row in rows if row is not None]
    if not shapes:
        if form is None:
            faults.append(f"X[{name!r}] is absent in every instance; leave the modality out")
            return None
        return np.full((len(rows), *(size or 1 for size in form.given_shape)), np.nan, np.float32)
    axes = layout or BY_AXES.get(len(shapes[0]) + 1, "")
    steps = axes.index("t") - 1 if "t" in axes else None

    def fixed(shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(size for axis, size in enumerate(shape) if axis != steps)

    others = sorted({shape for shape in shapes if fixed(shape) != fixed(shapes[0])})
    if others:
        faults.append(
            f"X[{name!r}] must have instances of one shape{' but for their steps' if steps is not None else ''}; "
            f"found {shapes[0]} and {others[0]}"
        )
        return None
    sizes = list(shapes[0])
    if steps is not None:
        sizes[steps] = max(1, *(shape[steps] for shape in shapes), 1)
    dense = np.full((len(rows), *sizes), np.nan, np.float64)
    for number, row in enumerate(rows):
        if row is not None:
            place: tuple[int | slice, ...] = (number, *(slice(size) for size in row.shape))
            dense[place] = row
    return dense


def _floats(values: NDArray[Any]) -> Floats:
    """Return float32, or float64 of types with more digits than float32, which scaling may need."""
    wide = values.dtype.itemsize >= 4 and values.dtype != np.float32
    return values.astype(np.float64 if wide else np.float32)


def _rows(name: str, dense: Floats, layout: str, faults: list[str]) -> _Rows:
    """Return values without NaN, the mask of steps and presence; appends what is wrong with the values."""
    axes, layout = [layout.index(axis) for axis in ENCODED[layout]], ENCODED[layout]
    dense = np.ascontiguousarray(dense.transpose(axes))
    flat = dense.reshape(len(dense), math.prod(dense.shape[1:]))
    bad = np.flatnonzero((np.abs(flat) > np.finfo(np.float32).max).any(1))
    if len(bad):
        faults.append(f"X[{name!r}] holds infinity, or a value too large for float32: {_which(bad)} it")
    nan = np.isnan(dense)
    if not nan.any():
        return _Rows(dense, None, np.ones(len(dense), np.bool_))
    present = np.asarray(~np.isnan(flat).all(1))
    mask: Bools | None = None
    left = nan
    if "t" in layout:
        others = tuple(axis for axis in range(1, dense.ndim) if layout[axis] != "t")
        padded = nan.all(others, keepdims=True)
        left = nan & ~padded
        steps: Bools = ~padded.reshape(len(dense), dense.shape[layout.index("t")])  # (N, T)
        mask = None if steps[present].all() else steps
    partly = np.flatnonzero(left.reshape(flat.shape).any(1) & present)
    if len(partly):
        what = "steps" if "t" in layout else "instances"
        faults.append(
            f"X[{name!r}] holds NaN in part of its {what}: {_which(partly)} it; fill such values in, or set the whole "
            "instance to NaN or None where the modality is absent"
        )
    return _Rows(np.where(nan, dense.dtype.type(0), dense), mask, present)


def _which(rows: NDArray[np.intp]) -> str:
    """Return a phrase that lists a few row numbers and ends in "have" or "has"."""
    listed = ", ".join(map(str, rows[:_SHOWN].tolist())) + (", ..." if len(rows) > _SHOWN else "")
    return f"row {listed} has" if len(rows) == 1 else f"{len(rows)} rows ({listed}) have"
