"""A user's own data, from NumPy arrays or a CSV file; docs/own-data.md describes both conventions for users.

NumPy: an .npz archive, or a folder of .npy files, one array per column. `label` (N,) whole numbers, text or floating
point numbers, or none; optional `split` (N,) train, valid or test, `group` (N,), `id` (N,), `classes` (C,). Every other
array is a modality: (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W), also with the channels last, with
`<modality>_length` (N,) where sequences are padded (0 = absent), or `<modality>_offsets` (N + 1,) where the steps of
all instances are concatenated, and `<modality>_present` (N,). Rows that are entirely NaN are absent as well.

CSV: a first line of column names; optional `label`, `id`, `split`, `group`. Every other column is
`<modality>.<feature>`. One row per instance gives vectors; with a column `step`, one row per step of an instance gives
sequences, sorted by it. Empty cells: a modality without a number in an instance is absent there, a step without a
number is left out, and a single empty cell among numbers becomes 0 and is counted.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from concordant.data.arrays import Array, read_npy, read_npz
from concordant.data.card import WHOLE, Card, LabelCard, Layout, ModalityCard, Source, sources
from concordant.data.reading import Findings, Reading, precise
from concordant.data.store import LONGEST_ID, Instance
from concordant.errors import DataError, explain, quoted
from concordant.files import check_file, check_size, reading

Labels = Literal["auto", "classes", "numbers"]

SPLITS = ("train", "valid", "test")
LAYOUTS: dict[int, Layout] = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}  # by number of axes
LABELS: tuple[Labels, ...] = ("auto", "classes", "numbers")
_TEXTS = ("id", "split", "group")
_MARKS = ("_length", "_offsets", "_present")
_TIME = {"btd": 0, "bcthw": 1}  # axis of T in an instance
_MOST_CHANNELS = 4  # of an image whose channels come last
_MOST_ROWS = 1_000_000  # of an archive with fewer bytes than rows
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?|nan|na|", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)


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
        DataError: there is one class only, an index without a name, a name twice, numbers with names, or a number
            that is not finite.
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
        return values.astype(np.float32), LabelCard(kind="real")
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
    splits: Sequence[str] | None,
    *,
    grouped: bool,
    sources: tuple[Source, ...],
    where: str,
    notes: Sequence[str] = (),
) -> Card:
    """Return the card of a dataset.

    Raises:
        DataError: it has no modality, one with a name that cannot be used, or an unknown split.
    """
    if not modalities:
        raise DataError(f"{where} has no modality; docs/own-data.md says how columns are named")
    unknown = sorted(set(splits or ()) - set(SPLITS))
    if unknown:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}; found {', '.join(map(repr, unknown))}")
    if label.kind == "none":
        notes = (*notes, "there are no labels: `concordant predict` reads the dataset, `concordant run` cannot")
    elif splits is None:
        notes = (*notes, "the data have no splits: every seed tests on one of five folds")
    try:
        return Card(
            name=name,
            modalities=dict(modalities),
            label=label,
            splits=(WHOLE,) if splits is None else tuple(split for split in SPLITS if split in splits),
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
        absent = self.present is not None and not self.present[row]
        if absent or values.size == 0 or (values.dtype.kind == "f" and np.isnan(values).all()):
            return None
        return values


def read_numpy(path: Path, *, name: str | None = None, labels: Labels = "auto") -> Reading:
    """Read NumPy arrays.

    Args:
        path: an .npz archive, or a folder of .npy files.
        name: of the dataset; None = that of the file.
        labels: as for `label_card`.

    Raises:
        DataError: the file cannot be read, or arrays do not fit the convention or each other.
    """
    if path.is_dir():
        files = sorted(path.glob("*.npy"))
        arrays = {one.stem: read_npy(one) for one in files}
        most = max([_MOST_ROWS, *(one.stat().st_size for one in files)])
    else:
        files, arrays = [path], read_npz(path)
        most = max(_MOST_ROWS, check_file(path, "NumPy arrays"))
    keys = [key for key in arrays if not any(key.endswith(m) and key.removesuffix(m) in arrays for m in _MARKS)]
    keys = [key for key in keys if key not in ("label", "classes", *_TEXTS)]
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
    texts = {key: _texts(arrays[key], count, f"{path}: {key}") for key in _TEXTS if key in arrays}
    columns = {key: _column(key, arrays, count, path) for key in keys}
    card = own_card(
        name or path.stem,
        {key: one.card for key, one in columns.items()},
        label,
        np.unique(texts["split"]).astype(str).tolist() if "split" in texts else None,
        grouped="group" in texts,
        sources=sources(path if path.is_dir() else path.parent, [one.name for one in files]),
        where=str(path),
        notes=[*_whole_note(arrays.get("label"), label), *_last_notes(columns, arrays)],
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
            split, group = text.get("split", WHOLE), text.get("group")
            yield Instance(text.get("id", str(row)), split, found[row].item(), features, group)

    return Reading(card, instances(), findings)


def _whole_note(values: Array | None, label: LabelCard) -> list[str]:
    """Return a note where floating point labels were taken for classes."""
    if values is None or values.dtype.kind != "f" or label.kind != "class":
        return []
    return ["the labels are whole numbers and count as classes; --labels numbers makes them numbers to predict"]


def _last_notes(columns: Mapping[str, _Column], arrays: Mapping[str, Array]) -> list[str]:
    moved = [key for key, one in columns.items() if one.values.shape != arrays[key].shape]
    return [f"{key} has its channels last, by its shape {arrays[key].shape}; they were moved" for key in moved]


def _decoded(values: Array, where: str) -> Array:
    """Return an array with bytes as text.

    Raises:
        DataError: the bytes are not UTF-8.
    """
    if values.dtype.kind != "S":
        return values
    check_size(where, 4 * values.nbytes)
    try:
        return np.asarray(np.strings.decode(values, "utf-8"))
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
    if found.dtype.kind == "U" and (found == "").any():
        raise DataError(f"{where} is empty in {int((found == '').sum())} rows; give it, or leave the array out")
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
        raise DataError(f"{where} must have {count} rows, as label has; found {len(values)}")
    if length is not None:
        steps = values.shape[1 + _TIME[layout]] if layout in _TIME else 0
        fits = length.shape == (count,) and length.dtype.kind in "iu" and layout in _TIME and offsets is None
        if not fits or length.min(initial=0) < 0 or length.max(initial=0) > steps:
            raise DataError(f"{where}_length must be {count} whole numbers from 0 to {steps}, the steps of {key}")
    if present is not None and (present.shape != (count,) or present.dtype.kind != "b"):
        raise DataError(f"{where}_present must be {count} truth values; found {present.dtype} {present.shape}")
    return _Column(values, layout, length, offsets, present)


class _Table(NamedTuple):
    """Columns of a file: text by name, numbers by modality (N, D), NaN where a cell is empty, and lines of the rows."""

    texts: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]
    lines: list[int]


def read_csv(path: Path, *, name: str | None = None, labels: Labels = "auto") -> Reading:
    """Read a CSV file.

    Args:
        path: the file, UTF-8, separated by commas.
        name: of the dataset; None = that of the file.
        labels: as for `label_card`.

    Raises:
        DataError: the file cannot be read, or columns or cells do not fit the convention; the line is named.
    """
    table = _table(path)
    texts, sequences = table.texts, "step" in table.texts
    if sequences and "id" not in texts:
        raise DataError(f"{path} has a column step and needs id too, which says whose step a row is")
    rows_of = _sequences(table, path) if sequences else _rows(table, path)
    firsts = [rows[0] for rows in rows_of.values()]
    values, found, label = None, np.full(len(firsts), -1), LabelCard(kind="none")
    if "label" in texts:
        values = _labels([texts["label"][row] for row in firsts], labels, f"{path}: label")
        found, label = label_card(values, f"{path}: label", labels=labels)
    layout: Layout = "btd" if sequences else "bd"
    card = own_card(
        name or path.stem,
        {
            key: ModalityCard(
                layout=layout,
                shape=(None, numbers.shape[1]) if sequences else (numbers.shape[1],),
                dtype=precise(numbers, "bd"),
            )
            for key, numbers in table.numbers.items()
        },
        label,
        sorted({texts["split"][row] for row in firsts}) if "split" in texts else None,
        grouped="group" in texts,
        sources=sources(path.parent, [path.name]),
        where=str(path),
        notes=_whole_note(values, label),
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for (one, rows), value in zip(rows_of.items(), found.tolist(), strict=True):
            features: dict[str, Array | None] = {}
            for key, numbers in table.numbers.items():
                cells = numbers[rows]
                cells = cells[~np.isnan(cells).all(1)]  # a modality may have fewer steps than another
                known = card.modalities[key].dtype
                clean = findings.clean(key, cells, f"{one}: {key}", known) if len(cells) else None
                features[key] = clean if clean is None or sequences else clean[0]
            text = {column: texts[column][rows[0]] for column in ("split", "group") if column in texts}
            yield Instance(one, text.get("split", WHOLE), value, features, text.get("group"))

    return Reading(card, instances(), findings)


def _table(path: Path) -> _Table:
    """Return the columns of a file, checked."""
    with reading(path, "CSV", "save it as UTF-8 text with commas between the cells"), path.open("rb") as start:
        if start.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it is UTF-16")
        with path.open(encoding="utf-8-sig", newline="") as opened:
            lines = csv.reader(opened, strict=True)
            columns = [column.strip() for column in next(lines, [])]
            if not columns:
                raise ValueError("Empty CSV file")
            if len(columns) == 1 and (other := re.search(r"[;\t|]", columns[0])):
                raise ValueError(f"its first line separates by {other[0]!r}")
            features = _check_columns(columns, path)
            texts: dict[str, list[str]] = {column: [] for column in columns if column not in features}
            numbers, places = array("d"), list[int]()
            for row in lines:
                if not row:
                    continue
                if len(row) != len(columns):
                    raise ValueError(f"line {lines.line_num} has {len(row)} cells, the first line {len(columns)}")
                places.append(lines.line_num)
                for column, cell in zip(columns, row, strict=True):
                    if column in texts:
                        if len(cell) > LONGEST_ID:  # an array of text is as wide as its longest one
                            raise ValueError(f"line {lines.line_num}: {column} has more than {LONGEST_ID} characters")
                        texts[column].append(cell)
                    else:
                        numbers.append(_number(cell, f"{path}, line {lines.line_num}: {column}"))
    if not places:
        raise DataError(f"{path} must have rows; found {', '.join(columns)} and 0 rows (docs/own-data.md)")
    for column, cells in texts.items():
        empty = [row for row, cell in enumerate(cells) if not cell.strip()]
        if empty:
            text = f"{column} is empty, as in {len(empty)} lines; give it or drop them"
            raise DataError(f"{path}, line {places[empty[0]]}: {text}")
    table = np.array(numbers).reshape(len(places), -1) if features else np.zeros((len(places), 0))
    members: dict[str, list[int]] = {}
    for place, column in enumerate(features):
        members.setdefault(column.partition(".")[0], []).append(place)
    return _Table(texts, {modality: table[:, columns] for modality, columns in members.items()}, places)


def _check_columns(columns: Sequence[str], path: Path) -> list[str]:
    """Return the columns of features, in order."""
    twice = sorted(column for column, count in Counter(columns).items() if count > 1)
    if twice:
        raise DataError(f"{path}: every column may occur once; found {', '.join(twice)} again")
    bare = ("label", "step", *_TEXTS)
    strange = [column for column in columns if column not in bare and not all(column.partition("."))]
    if strange:
        raise DataError(
            f"{path}: {', '.join(strange)} is no column that is known: features are named <modality>.<feature>, "
            f"the others {', '.join(bare)}"
        )
    return [column for column in columns if column not in bare]


def _number(cell: str, where: str) -> float:
    """Return the number of a cell, NaN where it is empty; Python alone would take 1_000 and digits of any script."""
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        raise DataError(f"{where} must be a number; found {quoted(cell)}")
    return float(text) if text.upper() not in ("", "NA") else np.nan


def _labels(cells: Sequence[str], labels: Labels, where: str) -> Array:
    """Return labels as whole numbers if all are plain ones, else as numbers if all are, else as text."""
    texts = [cell.strip() for cell in cells]
    numeric = [bool(_DECIMAL.fullmatch(text)) for text in texts]
    if labels == "classes":
        return np.array(cells)
    if all(_WHOLE.fullmatch(text) for text in texts):
        return np.array([int(text) for text in texts])
    if all(numeric) or (labels == "numbers" and all(text and _NUMBER.fullmatch(text) for text in texts)):
        return np.array([float(text) for text in texts])
    if labels == "numbers":
        other = next(text for text in texts if not text or not _NUMBER.fullmatch(text))
        raise DataError(f"{where}: labels must be numbers; found {quoted(other)}")
    others = [text for text, plain in zip(texts, numeric, strict=True) if not plain]
    if any(numeric) and all(_NOT_FINITE.fullmatch(text) for text in others):
        raise DataError(f"{where}: every label must be finite; found {others[0]!r}, as in {len(others)} rows")
    if any("." in text for text, plain in zip(texts, numeric, strict=True) if plain) and all(
        map(_NUMBER.fullmatch, others)
    ):
        raise DataError(
            f"{where}: {others[0]!r} is a number, but not a plain decimal as the others; name what the labels are with "
            "--labels numbers or --labels classes"
        )
    return np.array(cells)


def _rows(table: _Table, path: Path) -> dict[str, list[int]]:
    """Return id -> its one row."""
    ids = table.texts.get("id", [str(row) for row in range(len(table.lines))])
    rows_of = {one: [row] for row, one in enumerate(ids)}
    if len(rows_of) < len(ids):
        twice = ", ".join(one for one, count in Counter(ids).most_common(3) if count > 1)
        raise DataError(
            f"{path}: every id may occur once, but {len(ids) - len(rows_of)} rows repeat one ({twice}); a column step "
            "makes them steps of a sequence"
        )
    return rows_of


def _sequences(table: _Table, path: Path) -> dict[str, list[int]]:
    """Return id -> its rows, by step; label, split and group must be equal on all of them."""
    texts = table.texts
    steps = [_number(cell, f"{path}, line {line}: step") for cell, line in zip(texts["step"], table.lines, strict=True)]
    rows_of: dict[str, list[int]] = {}
    for row, one in enumerate(texts["id"]):
        if not np.isfinite(steps[row]):
            raise DataError(f"{path}, line {table.lines[row]}: step must be a finite number")
        rows_of.setdefault(one, []).append(row)
    for one, rows in rows_of.items():
        rows.sort(key=steps.__getitem__)
        if any(steps[first] == steps[second] for first, second in pairwise(rows)):
            raise DataError(f"{path}: id {one!r} has a step twice")
        for column in ("label", "split", "group"):
            found = {texts[column][row] for row in rows} if column in texts else set()
            if len(found) > 1:
                raise DataError(f"{path}: id {one!r} must have one {column} on all its lines; found {sorted(found)}")
    return rows_of
