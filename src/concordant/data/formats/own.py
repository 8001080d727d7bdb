"""A user's own data, from NumPy arrays or a CSV file; docs/own-data.md describes both conventions for users.

NumPy: an .npz archive, or a folder of .npy files, one array per column. `label` (N,) whole numbers, text or floating
point numbers; optional `split` (N,) train, valid or test, `group` (N,), `id` (N,), `classes` (C,). Every other array is
a modality: (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W), with `<modality>_length` (N,) where sequences are padded
(0 = absent), or `<modality>_offsets` (N + 1,) where the steps of all instances are concatenated, and
`<modality>_present` (N,). Rows that are entirely NaN are absent as well.

CSV: a first line of column names; `label`, optional `id`, `split`, `group`. Every other column is
`<modality>.<feature>`. One row per instance gives vectors; with a column `step`, one row per step of an instance gives
sequences, sorted by it. Empty cells: a modality without a number in an instance is absent there, a step without a
number is left out, and a single empty cell among numbers becomes 0 and is counted.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from concordant.data.card import WHOLE, Card, LabelCard, Layout, ModalityCard, Source, sources
from concordant.data.reading import Findings, Reading
from concordant.data.store import BARE, Instance
from concordant.errors import DataError, explain

SPLITS = ("train", "valid", "test")
LAYOUTS: dict[int, Layout] = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}  # by number of axes
_ARRAYS = ("label", "split", "group", "id", "classes")
_MARKS = ("_length", "_offsets", "_present")
_TIME = {"btd": 0, "bcthw": 1}  # axis of T in an instance
_COLUMNS = ("id", "label", "split", "group", "step")
_MISSING = ("", "nan", "NaN", "NA")

Array = NDArray[Any]


def label_card(values: Array, where: str, classes: tuple[str, ...] = ()) -> tuple[Array, LabelCard]:
    """Return labels as class indices or numbers, and their description.

    Whole numbers from 0 up, without a gap, are class indices; other whole numbers and text are class names, sorted;
    floating point numbers are numbers to predict.

    Args:
        values: (N,).
        where: names them in an error.
        classes: names of the classes, by index, where they are given.

    Raises:
        DataError: there is one class only, an index without a name, a name twice, numbers with names, or a number
            that is not finite.
    """
    if values.dtype.kind == "f":
        if classes:
            raise DataError(
                f"{where}: labels are {values.dtype}, so they are numbers to predict and have no classes; make them "
                "whole numbers or text, or leave classes out"
            )
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        broken = int((~np.isfinite(numbers)).sum())
        if broken:
            raise DataError(f"{where}: every label must be finite as float32; found {broken} that are not")
        return numbers, LabelCard(kind="real")
    if values.dtype.kind not in "iubU":
        raise DataError(f"{where}: labels must be whole numbers, text, or floating point; found {values.dtype}")
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


def own_card(
    name: str,
    modalities: Mapping[str, ModalityCard],
    label: LabelCard,
    splits: NDArray[np.str_] | None,
    *,
    grouped: bool,
    sources: tuple[Source, ...],
    where: str,
) -> Card:
    """Return the card of a dataset.

    Raises:
        DataError: it has no modality, one with a reserved name, or an unknown split.
    """
    if not modalities:
        raise DataError(f"{where} has no modality; docs/own-data.md says how columns are named")
    clash = [modality for modality in modalities if modality in BARE]
    if clash:
        raise DataError(f"{where}: a modality cannot be called {clash[0]!r}; these names are taken: {', '.join(BARE)}")
    unknown = [] if splits is None else sorted(set(splits.tolist()) - set(SPLITS))
    if unknown:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}; found {', '.join(unknown)}")
    return Card(
        name=name,
        modalities=dict(modalities),
        label=label,
        splits=(WHOLE,) if splits is None else tuple(part for part in SPLITS if part in splits),
        groups="group" if grouped else None,
        sources=sources,
        notes=("the data have no splits: every seed tests on one of five folds",) if splits is None else (),
    )


class _Column(NamedTuple):
    """The array of a modality and the arrays that qualify it."""

    values: Array
    layout: Layout
    length: Array | None
    offsets: Array | None
    present: Array | None

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of an instance, None for T."""
        if self.offsets is not None:
            return (None, self.values.shape[1])
        return tuple(None if axis == "t" else size for axis, size in zip(self.layout, self.values.shape, strict=True))[
            1:
        ]

    def at(self, row: int) -> Array | None:
        """Return the values of an instance at their true length; None where the modality is absent."""
        if self.offsets is not None:
            values = self.values[self.offsets[row] : self.offsets[row + 1]]
        else:
            values = self.values[row]
            if self.length is not None:
                values = values[(*(slice(None),) * _TIME[self.layout], slice(int(self.length[row])))]
        absent = self.present is not None and not self.present[row]
        if absent or values.size == 0 or (values.dtype.kind == "f" and np.isnan(values).all()):
            return None
        return values


def read_numpy(path: Path, *, name: str | None = None) -> Reading:
    """Read NumPy arrays.

    Args:
        path: an .npz archive, or a folder of .npy files.
        name: of the dataset; None = that of the file.

    Raises:
        DataError: the file cannot be read, or arrays do not fit the convention or each other.
    """
    arrays, files = _load(path)
    if "label" not in arrays:
        raise DataError(f"{path} has no array label; found {', '.join(arrays) or 'none'} (docs/own-data.md)")
    classes = tuple(str(one) for one in arrays["classes"].tolist()) if "classes" in arrays else ()
    if arrays["label"].ndim != 1 or not len(arrays["label"]):
        raise DataError(f"{path}: label must have shape (N,) with rows; found {arrays['label'].shape}")
    count = len(arrays["label"])
    labels, label = label_card(arrays["label"], f"{path}: label", classes)
    texts = {key: _texts(arrays[key], count, f"{path}: {key}") for key in ("split", "group", "id") if key in arrays}
    columns = {
        key: _column(key, arrays, count, path)
        for key in arrays
        if key not in _ARRAYS and not any(key.endswith(mark) and key.removesuffix(mark) in arrays for mark in _MARKS)
    }
    card = own_card(
        name or path.stem,
        {key: ModalityCard(layout=one.layout, shape=one.shape) for key, one in columns.items()},
        label,
        texts.get("split"),
        grouped="group" in texts,
        sources=sources(path.parent if path.is_file() else path, files),
        where=str(path),
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for row, one in enumerate(labels.tolist()):
            features: dict[str, Array | None] = {}
            for key, column in columns.items():
                values = column.at(row)
                features[key] = None if values is None else findings.clean(key, values, f"row {row}: {key}")
            text = {key: str(values[row]) for key, values in texts.items()}
            yield Instance(text.get("id", str(row)), text.get("split", WHOLE), one, features, text.get("group"))

    return Reading(card, instances(), findings)


def _load(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays by name, and the names of their files."""
    try:
        if path.is_dir():
            files = sorted(path.glob("*.npy"))
            return {one.stem: np.load(one, mmap_mode="r", allow_pickle=False) for one in files}, [f.name for f in files]
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{path} must be an archive (.npz) or a folder of .npy files; found a single array")
        with opened as archive:
            return {key: np.asarray(archive[key]) for key in archive.files}, [path.name]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as NumPy arrays ({error})") from None


def _texts(values: Array, count: int, where: str) -> NDArray[np.str_]:
    if values.shape != (count,) or values.dtype.kind not in "Uiu":
        raise DataError(f"{where} must be text or whole numbers ({count},), as label has rows; found {values.shape}")
    return values.astype(np.str_)


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
    if offsets is not None:
        whole = offsets.shape == (count + 1,) and offsets.dtype.kind in "iu"
        if not whole or offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
            raise DataError(
                f"{where}_offsets must rise from 0 to {len(values)}, the steps of {key}, in {count + 1} numbers; "
                f"found {offsets.shape}"
            )
    elif len(values) != count:
        raise DataError(f"{where} must have {count} rows, as label has; found {len(values)}")
    if length is not None:
        steps = values.shape[1 + _TIME[layout]] if layout in _TIME else 0
        fits = length.shape == (count,) and length.dtype.kind in "iu" and layout in _TIME and offsets is None
        if not fits or length.min() < 0 or length.max() > steps:
            raise DataError(f"{where}_length must be {count} whole numbers from 0 to {steps}, the steps of {key}")
    if present is not None and (present.shape != (count,) or present.dtype.kind != "b"):
        raise DataError(f"{where}_present must be {count} truth values; found {present.dtype} {present.shape}")
    return _Column(values, layout, length, offsets, present)


class _Table(NamedTuple):
    """Columns of a file: text by name, and numbers by modality (N, D), NaN where a cell is empty."""

    texts: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]


def read_csv(path: Path, *, name: str | None = None) -> Reading:
    """Read a CSV file.

    Args:
        path: the file, UTF-8, separated by commas.
        name: of the dataset; None = that of the file.

    Raises:
        DataError: the file cannot be read, or columns or cells do not fit the convention; the line is named.
    """
    table = _table(path)
    texts, sequences = table.texts, "step" in table.texts
    if sequences and "id" not in texts:
        raise DataError(f"{path} has a column step and needs id too, which says whose step a row is")
    rows_of = _sequences(table, path) if sequences else _rows(table, path)
    firsts = [rows[0] for rows in rows_of.values()]
    labels, label = label_card(_labels([texts["label"][row] for row in firsts]), f"{path}: label")
    layout: Layout = "btd" if sequences else "bd"
    card = own_card(
        name or path.stem,
        {
            key: ModalityCard(layout=layout, shape=(None, values.shape[1]) if sequences else (values.shape[1],))
            for key, values in table.numbers.items()
        },
        label,
        np.array([texts["split"][row] for row in firsts]) if "split" in texts else None,
        grouped="group" in texts,
        sources=sources(path.parent, [path.name]),
        where=str(path),
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for (one, rows), value in zip(rows_of.items(), labels.tolist(), strict=True):
            features: dict[str, Array | None] = {}
            for key, numbers in table.numbers.items():
                values = numbers[rows]
                values = values[~np.isnan(values).all(1)]  # a modality may have fewer steps than another
                clean = findings.clean(key, values, f"{one}: {key}") if len(values) else None
                features[key] = clean if clean is None or sequences else clean[0]
            text = {column: texts[column][rows[0]] for column in ("split", "group") if column in texts}
            yield Instance(one, text.get("split", WHOLE), value, features, text.get("group"))

    return Reading(card, instances(), findings)


def _table(path: Path) -> _Table:
    """Return the columns of a file, checked."""
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions
    from pyarrow.csv import read_csv as read

    try:
        with path.open("rb") as opened:
            names = opened.readline().decode("utf-8-sig").strip()
        columns = next(csv.reader([names]), [])
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise DataError(f"{path}: every column may occur once; found {', '.join(twice)} again")
        # Read as text: Arrow's own conversion names neither the line nor the cell of a fault.
        text = ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)
        table = read(path, convert_options=text)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from None
    if "label" not in columns or not table.num_rows:
        raise DataError(
            f"{path} must have a column label, and rows; found {', '.join(columns) or 'no column'} and "
            f"{table.num_rows} rows (docs/own-data.md)"
        )
    strange = [column for column in columns if column not in _COLUMNS and not all(column.partition("."))]
    if strange:
        raise DataError(
            f"{path}: {', '.join(strange)} is no column that is known: features are named <modality>.<feature>, "
            f"the others {', '.join(_COLUMNS)}"
        )
    texts = {column: table.column(column).to_pylist() for column in columns if column in _COLUMNS}
    empty = [row for row, value in enumerate(texts["label"]) if not value]
    if empty:
        raise DataError(f"{path}, line {empty[0] + 2}: label is empty, as in {len(empty)} lines; give it or drop them")
    members: dict[str, list[NDArray[np.float64]]] = {}
    for column in columns:
        if column not in _COLUMNS:
            numbers = _numbers(table.column(column).to_pylist(), column, path)
            members.setdefault(column.partition(".")[0], []).append(numbers)
    return _Table(texts, {modality: np.stack(parts, 1) for modality, parts in members.items()})


def _numbers(cells: Sequence[str], column: str, path: Path) -> NDArray[np.float64]:
    """Return a column of cells as numbers, NaN where one is empty."""
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = np.nan if cell in _MISSING else float(cell)
        except ValueError:
            raise DataError(f"{path}, line {row + 2}: {column} must be a number; found {cell!r}") from None
    return found


def _labels(cells: Sequence[str]) -> Array:
    """Return labels as whole numbers if all are, else as numbers if all are, else as text."""
    for kind in (int, float):
        try:
            return np.array([kind(cell) for cell in cells])
        except ValueError:
            continue
    return np.array(cells)


def _rows(table: _Table, path: Path) -> dict[str, list[int]]:
    """Return id -> its one row."""
    count = len(table.texts["label"])
    ids = table.texts.get("id", [str(row) for row in range(count)])
    rows_of = {one: [row] for row, one in enumerate(ids)}
    if len(rows_of) < count:
        twice = [one for one in rows_of if ids.count(one) > 1][:3] if count < 10_000 else []
        raise DataError(
            f"{path}: every id may occur once, but {count - len(rows_of)} rows repeat one"
            f"{' (' + ', '.join(twice) + ')' if twice else ''}; a column step makes them steps of a sequence"
        )
    return rows_of


def _sequences(table: _Table, path: Path) -> dict[str, list[int]]:
    """Return id -> its rows, by step; label, split and group must be equal on all of them."""
    steps = _numbers(table.texts["step"], "step", path)
    rows_of: dict[str, list[int]] = {}
    for row, one in enumerate(table.texts["id"]):
        if np.isnan(steps[row]):
            raise DataError(f"{path}, line {row + 2}: step is empty")
        rows_of.setdefault(one, []).append(row)
    for one, rows in rows_of.items():
        rows.sort(key=lambda row: float(steps[row]))
        if len({float(steps[row]) for row in rows}) < len(rows):
            raise DataError(f"{path}: id {one!r} has a step twice")
        for column in ("label", "split", "group"):
            found = {table.texts[column][row] for row in rows} if column in table.texts else set()
            if len(found) > 1:
                raise DataError(f"{path}: id {one!r} must have one {column} on all its lines; found {sorted(found)}")
    return rows_of
