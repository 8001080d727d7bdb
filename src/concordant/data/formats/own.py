"""A user's own arrays; docs/own-data.md describes the convention for users. `tables.py` reads tables.

An .npz archive, a folder of .npy files, or a MATLAB file, one array per column. `label` (N,) whole numbers, text or
floating point numbers, or none; optional `split` (N,) train, valid or test, or `fold` (N,) whole numbers; `group` (N,),
`id` (N,), `classes` (C,). Every other array is a modality: (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W), also
with the channels last, with `<modality>_length` (N,) where sequences are padded (0 = absent), or `<modality>_offsets`
(N + 1,) where the steps of all instances are concatenated, and `<modality>_present` (N,). Rows that are entirely NaN
are absent as well. A MATLAB file may have `Y` or `gt` for `label`, a cell array of views, which become `X1`, `X2` and
so on, and views with instances in columns.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from pydantic import ValidationError

from concordant.data.arrays import Array, read_npy, read_npz
from concordant.data.card import WHOLE, Card, LabelCard, Layout, ModalityCard, Source, sources
from concordant.data.formats.matlab import Variable, read_mat
from concordant.data.reading import Findings, Reading, precise
from concordant.data.split import FOLD
from concordant.data.store import Instance
from concordant.errors import DataError, explain
from concordant.files import check_file, check_size

Labels = Literal["auto", "classes", "numbers"]

SPLITS = ("train", "valid", "test")
LAYOUTS: dict[int, Layout] = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}  # by number of axes
LABELS: tuple[Labels, ...] = ("auto", "classes", "numbers")
TEXTS = ("id", "split", "group", "fold")
_MARKS = ("_length", "_offsets", "_present")
_TIME = {"btd": 0, "bcthw": 1}  # axis of T in an instance
_MOST_CHANNELS = 4  # of an image whose channels come last
_MOST_ROWS = 1_000_000  # of an archive with fewer bytes than rows
_ABSENT = ("na", "n/a", "nan", "none", "null")  # what programs write for a missing label
_MATLAB_LABELS = ("label", "labels", "gt", "Y", "y", "gnd", "truth")


def label_card(
    values: Array, where: str, classes: tuple[str, ...] = (), labels: Labels = "auto"
) -> tuple[Array, LabelCard]:
    """Return labels as class indices or numbers, and their description.

    Whole numbers from 0 up, without a gap, are class indices; other whole numbers and text are class names, sorted;
    numbers with a fraction are numbers to predict.

    Args:
        values: (N,).
        where: names them in an error.
        classes: names of the classes, by index, where they are given.
        labels: "classes" or "numbers" where they are not to be told apart by their values.

    Raises:
        DataError: there is one class or number only, an index without a name, a name twice, numbers with names, or a
            number that is not finite.
    """
    values = _decoded(values, where)
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            broken = int((~np.isfinite(values.astype(np.float32))).sum())
        if broken:
            raise DataError(f"{where}: every label must be finite as float32; found {broken} that are not")
        if labels != "numbers" and (values == np.floor(values)).all() and (np.abs(values) < 2**53).all():
            values = values.astype(np.int64)
    if values.dtype.kind not in "iubUf":
        raise DataError(f"{where}: labels must be whole numbers, text, or floating point; found {values.dtype}")
    if values.dtype.kind == "f" or labels == "numbers":
        if classes or labels == "classes" or values.dtype.kind in "bU":
            raise DataError(
                f"{where}: labels are {values.dtype}, which do not go with {'classes' if classes else labels}; make "
                "them whole numbers or text for classes, or numbers without names"
            )
        numbers = values.astype(np.float32)
        if (numbers == numbers[0]).all():
            raise DataError(f"{where}: every label is {numbers[0]}: there is nothing to learn")
        return numbers, LabelCard(kind="real")
    found, index = np.unique(values, return_inverse=True)
    if classes and values.dtype.kind in "iu":
        if found.min() < 0 or found.max() >= len(classes):
            raise DataError(f"{where}: labels must be 0 to {len(classes) - 1}; found {found.min()} to {found.max()}")
        index = values.astype(np.int64)
    elif classes:
        unknown = sorted(set(map(str, found.tolist())) - set(classes))
        if unknown:
            raise DataError(f"{where}: {', '.join(unknown)} is no class; choose from: {', '.join(classes)}")
        index = np.array([classes.index(str(value)) for value in found.tolist()])[index]
    elif len(found) < 2:
        raise DataError(f"{where}: labels must be of two classes at least; found only {found.tolist()}")
    try:
        return index, LabelCard(classes=classes or tuple(map(str, found.tolist())))
    except ValidationError as error:
        raise DataError(f"{where}: classes: {explain(error)}") from None


def splits_of(texts: Mapping[str, Sequence[str] | Array], where: str) -> list[str] | None:
    """Return the split of each instance: those of the column `split`, or `fold K` by the column `fold`; None = neither.

    Raises:
        DataError: both are there, a split is unknown, or folds are no two or more whole numbers.
    """
    if "split" in texts and "fold" in texts:
        raise DataError(f"{where} has split and fold; leave one of them out")
    if "fold" in texts:
        folds = [str(one) for one in texts["fold"]]
        numbers = {fold for fold in folds if fold.isascii() and fold.isdigit() and len(fold) < 10}
        if len(numbers) < 2 or numbers != set(folds):
            found = ", ".join(sorted(set(folds))[:5])
            raise DataError(f"{where}: fold must be whole numbers from 0 up, two of them at least; found {found}")
        return [f"{FOLD}{int(fold)}" for fold in folds]
    if "split" not in texts:
        return None
    splits = [str(one) for one in texts["split"]]
    unknown = sorted(set(splits) - set(SPLITS))
    if unknown:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}")
    return splits


def own_card(
    name: str,
    modalities: Mapping[str, ModalityCard],
    label: LabelCard,
    splits: Sequence[str] | None,
    *,
    grouped: bool,
    sources: tuple[Source, ...],
    where: str,
    notes: Sequence[str] = (),
) -> Card:
    """Return the card of a dataset.

    Raises:
        DataError: it has no modality, or one with a name that cannot be used.
    """
    if not modalities:
        raise DataError(f"{where} has no modality; docs/own-data.md says how columns are named")
    folds = sorted({split for split in splits or () if split.startswith(FOLD)}, key=lambda one: int(one[len(FOLD) :]))
    if label.kind == "none":
        notes = (*notes, "there are no labels: `concordant predict` reads the dataset, `concordant run` cannot")
    elif splits is None:
        notes = (*notes, "the data have no splits: every seed tests on one of five folds")
    elif folds:
        notes = (*notes, f"the data have {len(folds)} folds: seed s tests on the one at place s modulo {len(folds)}")
    try:
        return Card(
            name=name,
            modalities=dict(modalities),
            label=label,
            splits=(WHOLE,) if splits is None else (*(split for split in SPLITS if split in splits), *folds),
            groups="group" if grouped else None,
            sources=sources,
            notes=tuple(notes),
        )
    except ValidationError as error:
        raise DataError(f"{where}: {explain(error)}") from None


class _Column(NamedTuple):
    """The array of a modality and the arrays that qualify it."""

    values: Array
    layout: Layout
    length: Array | None
    offsets: Array | None
    present: Array | None

    @property
    def card(self) -> ModalityCard:
        sizes = zip(self.layout, self.values.shape, strict=True) if self.offsets is None else ()
        shape = tuple(None if axis == "t" else size for axis, size in sizes)[1:] or (None, self.values.shape[1])
        return ModalityCard(
            layout=self.layout, shape=shape, dtype=precise(self.values, self.layout[-self.values.ndim :])
        )

    def at(self, row: int) -> Array | None:
        """Return the values of an instance at their true length; None where the modality is absent."""
        if self.offsets is not None:
            values = self.values[self.offsets[row] : self.offsets[row + 1]]
        else:
            values = self.values[row]
            if self.length is not None:
                values = values[(*(slice(None),) * _TIME[self.layout], slice(int(self.length[row])))]
            elif self.layout in _TIME and values.dtype.kind == "f" and np.isnan(values).any():
                values = _without_padding(values, _TIME[self.layout])
        absent = self.present is not None and not self.present[row]
        if absent or values.size == 0 or (values.dtype.kind == "f" and np.isnan(values).all()):
            return None
        return values


def _without_padding(values: Array, axis: int) -> Array:
    """Return the steps of an instance without the last ones that are entirely NaN."""
    there = ~np.isnan(values).all(tuple(one for one in range(values.ndim) if one != axis))
    steps = int(np.flatnonzero(there)[-1]) + 1 if there.any() else 0
    return values[(*(slice(None),) * axis, slice(steps))]


def read_numpy(path: Path, *, name: str | None = None, labels: Labels = "auto") -> Reading:
    """Read NumPy or MATLAB arrays.

    Args:
        path: an .npz archive, a folder of .npy files, or a .mat file.
        name: of the dataset; None = that of the file.
        labels: as for `label_card`.

    Raises:
        DataError: the file cannot be read, or arrays do not fit the convention or each other.
    """
    notes: list[str] = []
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        arrays = {one.stem: read_npy(one) for one in files}
        most = max([_MOST_ROWS, *(one.stat().st_size for one in files)])
    else:
        files, most = [path], max(_MOST_ROWS, check_file(path, "NumPy arrays"))
        arrays, notes = _from_matlab(path) if path.suffix.lower() == ".mat" else (read_npz(path), notes)
    keys = [key for key in arrays if not any(key.endswith(m) and key.removesuffix(m) in arrays for m in _MARKS)]
    keys = [key for key in keys if key not in ("label", "classes", *TEXTS)]
    rows = next((arrays[key] for key in ("label", "id", *keys) if key in arrays), np.zeros(0))
    if "label" in arrays and (rows.ndim != 1 or not len(rows)):
        raise DataError(f"{path}: label must have shape (N,) with rows; found {rows.shape}")
    count = len(rows) if rows.ndim else 0
    if "label" not in arrays and "id" not in arrays and keys and f"{keys[0]}_offsets" in arrays:
        count = max(0, arrays[f"{keys[0]}_offsets"].size - 1)
    if count > most:
        raise DataError(f"{path} announces {count:,} instances, more than it has bytes; is it damaged?")
    classes = (
        tuple(_decoded(arrays["classes"], f"{path}: classes").astype(str).ravel().tolist())
        if "classes" in arrays
        else ()
    )
    found, label = np.full(count, -1), LabelCard(kind="none")
    if "label" in arrays:
        found, label = label_card(arrays["label"], f"{path}: label", classes, labels)
    texts = {key: _texts(arrays[key], count, f"{path}: {key}") for key in TEXTS if key in arrays}
    splits = splits_of(texts, str(path))
    columns = {key: _column(key, arrays, count, path) for key in keys}
    card = own_card(
        name or path.stem,
        {key: one.card for key, one in columns.items()},
        label,
        splits,
        grouped="group" in texts,
        sources=sources(path if path.is_dir() else path.parent, [one.name for one in files]),
        where=str(path),
        notes=[*notes, *label_notes(arrays.get("label"), label), *_last_notes(columns, arrays)],
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for row in range(count):
            features: dict[str, Array | None] = {}
            for key, column in columns.items():
                values = column.at(row)
                known = card.modalities[key].dtype
                features[key] = None if values is None else findings.clean(key, values, f"row {row}: {key}", known)
            text = {key: str(values[row]) for key, values in texts.items()}
            split = WHOLE if splits is None else splits[row]
            yield Instance(text.get("id", str(row)), split, found[row].item(), features, text.get("group"))

    return Reading(card, instances(), findings)


def _is_vector(values: Variable) -> bool:
    return isinstance(values, np.ndarray) and (values.ndim < 2 or 1 in values.shape)


def _from_matlab(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the variables of a MATLAB file by the convention, and notes on what was changed or left out."""
    found, left = read_mat(path)
    arrays: dict[str, Array] = {}
    labels = [name for name in _MATLAB_LABELS if name in found and _is_vector(found[name])]
    if len(labels) > 1:
        raise DataError(
            f"{path} has {' and '.join(labels)}, each of which may be the labels; keep one, or rename the others"
        )
    named = next((name for name in _MATLAB_LABELS if name in found), None)
    for name, values in found.items():
        if isinstance(values, list):
            arrays |= {f"{name}{place}": cell for place, cell in enumerate(values, 1)}
        else:
            arrays["label" if name == named else name] = values
    for name, values in arrays.items():
        mark = next((mark for mark in _MARKS if name.endswith(mark) and name.removesuffix(mark) in arrays), "")
        if values.ndim == 2 and 1 in values.shape and (mark or name in ("label", "classes", *TEXTS)):
            arrays[name] = values.ravel()
        if mark and values.dtype.kind in "fiu" and (values == np.floor(values)).all():  # MATLAB's numbers are doubles
            arrays[name] = arrays[name].astype(np.bool_ if mark == "_present" else np.int64)
    views = {name: one for name, one in arrays.items() if one.ndim == 2}
    sizes = [{one.shape[axis] for one in views.values()} for axis in (0, 1)]
    known = next((arrays[name].size for name in ("label", *TEXTS) if name in arrays), None)
    if known is None and len(sizes[0]) > len(sizes[1]) == 1:  # no label, and one number of columns
        (known,) = sizes[1]
    turned = [name for name, one in views.items() if one.shape[1] == known != one.shape[0]]
    notes = [f"{', '.join(turned)} had instances in columns, as {known} labels show; transposed"] if turned else []
    notes += [
        f"{name} ({kind}) was left out; real matrices, text and cell arrays of them are read"
        for name, kind in left.items()
    ]
    return arrays | {name: arrays[name].T for name in turned}, notes


def label_notes(values: Array | None, label: LabelCard) -> list[str]:
    """Return notes on floating point labels that were taken for classes, and on names that may be mistakes."""
    notes, alike = [], dict[str, list[str]]()
    if values is not None and values.dtype.kind == "f" and label.kind == "class":
        notes.append("the labels are whole numbers and count as classes; --labels numbers makes them numbers")
    for name in label.classes:
        seen = "".join(one for one in unicodedata.normalize("NFKC", name) if one.isprintable() and one != " ")
        alike.setdefault(seen.casefold(), []).append(ascii(name))
    found = [" and ".join(names) for names in alike.values() if len(names) > 1]
    if found:
        notes.append(f"the classes {'; '.join(found[:5])} look alike; if they are one, give them one name")
    if absent := [name for name in label.classes if name.casefold() in _ABSENT]:
        notes.append(f"{', '.join(absent)} counts as a class; if labels are missing there, drop these rows")
    return notes


def _last_notes(columns: Mapping[str, _Column], arrays: Mapping[str, Array]) -> list[str]:
    moved = [key for key, one in columns.items() if one.values.shape != arrays[key].shape]
    return [f"{key} has its channels last, by its shape {arrays[key].shape}; they were moved" for key in moved]


def _decoded(values: Array, where: str) -> Array:
    """Return an array with bytes as text, and texts without blanks around them.

    Raises:
        DataError: the bytes are not UTF-8.
    """
    if values.dtype.kind not in "SU":
        return values
    check_size(where, (4 if values.dtype.kind == "S" else 1) * values.nbytes, values.nbytes)
    try:
        return np.char.strip(np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values)
    except UnicodeDecodeError:
        raise DataError(f"{where} holds bytes that are no UTF-8 text; decode them before saving") from None


def _texts(values: Array, count: int, where: str) -> Array:
    """Return names of instances or groups: text, or whole numbers."""
    found = _decoded(values, where)
    if found.dtype.kind == "f" and np.isfinite(found).all() and (np.abs(found) < 2**53).all():
        found = found.astype(np.int64) if (found == np.floor(found)).all() else found
    if found.shape != (count,) or found.dtype.kind not in "Uiu":
        raise DataError(
            f"{where} must be text or whole numbers ({count},), as label has rows; found {values.dtype} {values.shape}"
        )
    empty = int((found == "").sum()) if found.dtype.kind == "U" else 0
    if empty:
        raise DataError(f"{where} is empty in {empty} rows; give it, or leave the array out")
    return found


def _column(key: str, arrays: Mapping[str, Array], count: int, path: Path) -> _Column:
    """Return a modality, checked."""
    values, where = arrays[key], f"{path}: {key}"
    length, offsets, present = (arrays.get(f"{key}{mark}") for mark in _MARKS)
    layout: Layout | None = "btd" if offsets is not None and values.ndim == 2 else LAYOUTS.get(values.ndim)
    if layout is None or values.dtype.kind not in "fiu" or 0 in values.shape[1:]:
        raise DataError(
            f"{where} must be numbers (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W); "
            f"found {values.dtype} {values.shape}"
        )
    if layout in ("bchw", "bcthw") and values.shape[-1] <= _MOST_CHANNELS < min(values.shape[-3:-1]):
        values = np.moveaxis(values, -1, 1)
    if offsets is not None:
        whole = offsets.shape == (count + 1,) and offsets.dtype.kind in "iu"
        if not whole or offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
            raise DataError(
                f"{where}_offsets must rise from 0 to {len(values)}, the steps of {key}, in {count + 1} numbers; "
                f"found {offsets.shape}"
            )
    elif len(values) != count:
        turn = "; transpose it?" if count in values.shape[1:] else ""
        raise DataError(f"{where} must have {count} rows, as label has; found {len(values)}{turn}")
    if length is not None:
        steps = values.shape[1 + _TIME[layout]] if layout in _TIME else 0
        fits = length.shape == (count,) and length.dtype.kind in "iu" and layout in _TIME and offsets is None
        if not fits or length.min(initial=0) < 0 or length.max(initial=0) > steps:
            raise DataError(f"{where}_length must be {count} whole numbers from 0 to {steps}, the steps of {key}")
    if present is not None and (present.shape != (count,) or present.dtype.kind != "b"):
        raise DataError(f"{where}_present must be {count} truth values; found {present.dtype} {present.shape}")
    return _Column(values, layout, length, offsets, present)
