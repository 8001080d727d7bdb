"""A user's own tables, CSV or Parquet; docs/own-data.md describes the convention for users.

Columns: optional `label`, `id`, `split` or `fold`, `group`; every other column is `<modality>.<feature>`. One row per
instance gives vectors; with a column `step`, one row per step of an instance gives sequences, sorted by it. Empty
cells: a modality without a number in an instance is absent there, a step without a number is left out, and a single
empty cell among numbers becomes 0 and is counted. A CSV file begins with a line of column names; it is UTF-8 or UTF-16
and separated by commas, semicolons, tabs or bars.
"""

from __future__ import annotations

import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.data.arrays import Array
from concordant.data.card import WHOLE, LabelCard, Layout, ModalityCard, sources
from concordant.data.formats.own import TEXTS, Labels, label_card, label_notes, own_card, splits_of
from concordant.data.formats.parquet import read_parquet
from concordant.data.reading import Findings, Reading, precise
from concordant.data.store import LONGEST_ID, Instance
from concordant.errors import DataError, foreign, quoted
from concordant.files import reading

_INDEX = ("", "Unnamed: 0")  # names of the index that pandas writes as a first column
_LONGEST_LINE = 1 << 20  # characters of the first line, by which the separator is recognised
_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")
_MOST_DIGITS = 18  # of a label that is a whole number; longer ones are text
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf(inity)?|nan|na|", re.IGNORECASE)
_COMMA = re.compile(r"-?[0-9]+,[0-9]+")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf(inity)?)", re.IGNORECASE)


class _Table(NamedTuple):
    """Columns of a file: text by name, numbers by modality (N, D), NaN where a cell is empty, and lines of the rows."""

    texts: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]
    lines: list[int]
    notes: list[str]


def read_csv(
    path: Path, *, name: str | None = None, labels: Labels = "auto", modalities: Mapping[str, Path] | None = None
) -> Reading:
    """Read a table.

    Args:
        path: a CSV or Parquet file.
        name: of the dataset; None = that of the file.
        labels: as for `label_card`.
        modalities: modality -> CSV file of its features, with the instances by `id` or in the order of `path`.

    Raises:
        DataError: a file cannot be read, or columns or cells do not fit the convention; the line is named.
    """
    table = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _table(path)
    for modality, file in (modalities or {}).items():
        _join(table, modality, file, path)
    texts, sequences = table.texts, "step" in table.texts
    if sequences and "id" not in texts:
        raise DataError(f"{path} has a column step and needs id too, which says whose step a row is")
    rows_of = _sequences(table, path) if sequences else _rows(table, path)
    firsts = [rows[0] for rows in rows_of.values()]
    splits = splits_of({key: [cells[row] for row in firsts] for key, cells in texts.items()}, str(path))
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
        splits,
        grouped="group" in texts,
        sources=tuple(
            one for file in (path, *(modalities or {}).values()) for one in sources(file.parent, [file.name])
        ),
        where=str(path),
        notes=[*table.notes, *label_notes(values, label)],
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for place, ((one, rows), value) in enumerate(zip(rows_of.items(), found.tolist(), strict=True)):
            features: dict[str, Array | None] = {}
            for key, numbers in table.numbers.items():
                cells = numbers[rows]
                cells = cells[~np.isnan(cells).all(1)]  # a modality may have fewer steps than another
                known = card.modalities[key].dtype
                clean = findings.clean(key, cells, f"{one}: {key}", known) if len(cells) else None
                features[key] = clean if clean is None or sequences else clean[0]
            group = texts["group"][rows[0]] if "group" in texts else None
            yield Instance(one, WHOLE if splits is None else splits[place], value, features, group)

    return Reading(card, instances(), findings)


@contextmanager
def _rows_of(path: Path) -> Iterator[tuple[Any, str]]:
    """Open a CSV file: yield its reader and its separator, the one that divides the first line into the most cells."""
    with reading(path, "CSV", "save it as UTF-8 text"):
        with path.open("rb") as start:
            wide = start.read(2) in (b"\xff\xfe", b"\xfe\xff")
        with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as opened:
            first = opened.readline(_LONGEST_LINE)
            opened.seek(0)
            cells = {separator: len(next(csv.reader([first], delimiter=separator), [])) for separator in ",;\t|"}
            separator = max(cells, key=cells.__getitem__)
            yield csv.reader(opened, strict=True, delimiter=separator), separator


def _table(path: Path) -> _Table:
    """Return the columns of a CSV file, checked."""
    with _rows_of(path) as (lines, separator):
        columns = [column.strip() for column in next(lines, [])]
        if not columns:
            raise ValueError("Empty CSV file")
        index = columns[0] in _INDEX
        features = _check_columns(columns[1:] if index else columns, path)
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
                    texts[column].append(_text(cell, f"{path}, line {lines.line_num}: {column}"))
                else:
                    numbers.append(_number(cell, f"{path}, line {lines.line_num}: {column}"))
    if not places:
        raise DataError(f"{path} must have rows; found {', '.join(columns)} and 0 rows (docs/own-data.md)")
    notes = [] if separator == "," else [f"the cells of {path.name} are separated by {separator!r}"]
    if index:
        notes.append(_check_index(texts.pop(columns[0]), f"the first column of {path.name}, which has no name,"))
    for column, cells in texts.items():
        empty = [row for row, cell in enumerate(cells) if not cell]
        if empty:
            text = f"{column} is empty, as in {len(empty)} lines; give it or drop them"
            raise DataError(f"{path}, line {places[empty[0]]}: {text}")
    table = np.array(numbers).reshape(len(places), -1) if features else np.zeros((len(places), 0))
    members: dict[str, list[int]] = {}
    for place, column in enumerate(features):
        members.setdefault(column.partition(".")[0], []).append(place)
    return _Table(texts, {modality: table[:, columns] for modality, columns in members.items()}, places, notes)


def _check_index(cells: Sequence[str], column: str) -> str:
    """Return a note on a column that pandas writes as an index; it must count the rows, or it is no index."""
    if list(cells) != [str(row) for row in range(len(cells))]:
        raise DataError(f"{column} is an index that does not count the rows; name it id, or save with index=False")
    return f"{column} counts the rows and was left out"


def _parquet(path: Path) -> _Table:
    """Return the columns of a Parquet file, checked: `<modality>.<feature>`, or `<modality>` with a list per row."""
    table = read_parquet(path)
    notes = list[str]()
    if not len(table):
        raise DataError(f"{path} must have rows; found {', '.join(table.column_names)} and 0 rows (docs/own-data.md)")
    for column in (one for one in table.column_names if one.startswith("__index_level_")):
        notes.append(
            _check_index([str(one) for one in table.column(column).to_pylist()], f"the column {column} of {path.name}")
        )
        table = table.drop_columns([column])
    lists = {column for column in table.column_names if _is_list(table.column(column).type)}
    features = _check_columns([one for one in table.column_names if one not in lists], path)
    texts = {
        one: [_text(cell, f"{path}: {one}") for cell in table.column(one).to_pylist()]
        for one in table.column_names
        if one not in {*lists, *features}
    }
    for column, cells in texts.items():
        if any(len(cell) > LONGEST_ID or not cell for cell in cells):
            raise DataError(
                f"{path}: {column} must be in every row, with up to {LONGEST_ID} characters; fill or drop them"
            )
    parts: dict[str, list[NDArray[np.float64]]] = {}
    for column in [*features, *sorted(lists)]:
        parts.setdefault(column.partition(".")[0], []).append(_numbers(table.column(column), f"{path}: {column}"))
    numbers = {modality: np.concatenate(columns, 1) for modality, columns in parts.items()}
    return _Table(texts, numbers, list(range(1, len(table) + 1)), notes)


def _is_list(kind: Any) -> bool:  # noqa: ANN401 - a type of pyarrow
    import pyarrow.types as types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _text(cell: object, where: str) -> str:
    """Return a cell of a label, an id or a group as text without blanks around it, "" where it is absent."""
    if isinstance(cell, str):
        if "\0" in cell:  # which NumPy drops at the end of a text
            raise DataError(f"{where} holds a NUL character; is the file text, and UTF-8?")
        return cell.strip()
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, bytes):
        try:
            return _text(cell.decode(), where)
        except UnicodeDecodeError:
            raise DataError(f"{where} holds bytes that are no UTF-8 text; decode them before saving") from None
    if isinstance(cell, float):  # never with an exponent, which is no plain decimal
        return np.format_float_positional(cell, trim="0")
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)


def _numbers(column: Any, where: str) -> NDArray[np.float64]:  # noqa: ANN401 - a column of pyarrow
    """Return a column of numbers (N, 1), or of lists of one length (N, D); absent ones are NaN."""
    import pyarrow as pa

    rows = len(column)
    if _is_list(column.type):
        lengths = {len(one) for one in column.to_pylist() if one is not None}
        if len(lengths) != 1 or 0 in lengths or column.null_count:
            raise DataError(f"{where} must be lists of one length, in every row; found lengths {sorted(lengths)[:5]}")
        column = pa.chunked_array([chunk.flatten() for chunk in column.chunks])
    kind = column.type
    types = pa.types
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)):
        raise DataError(f"{where} must be numbers; found {kind}")
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where} holds whole numbers beyond 2**53, which floating point cannot tell apart; subtract the least, or "
            f"leave the column out ({foreign(error)})"
        ) from None
    values = np.asarray(numbers.to_numpy(zero_copy_only=False), np.float64)
    return values.reshape(rows, -1)


def _join(table: _Table, modality: str, file: Path, path: Path) -> None:
    """Add the features of a modality from a file of its own; its first line may name columns.

    Raises:
        DataError: the modality is there already, or the rows of the file are not the instances of the table.
    """
    if modality in table.numbers:
        raise DataError(f"{file}: {path} has columns of {modality} already; leave one of them out")
    if "step" in table.texts:
        raise DataError(f"{path} has a column step, which does not go with --modality; put all features into it")
    ids, numbers = list[str](), array("d")
    with _rows_of(file) as (lines, _):
        first: list[str] = next(lines, [])
        names = [] if first and all(map(_NUMBER.fullmatch, map(str.strip, first))) else [one.strip() for one in first]
        skipped = 1 if names and (names[0] == "id" or names[0] in _INDEX) else 0
        width = len(first)
        for row in lines if names else chain([first], lines):
            if len(row) != width and row:
                raise ValueError(f"line {lines.line_num} has {len(row)} cells, the first line {width}")
            ids += [_text(cell, f"{file}, line {lines.line_num}: id") for cell in row[:skipped]]
            for cell in row[skipped:]:
                numbers.append(_number(cell, f"{file}, line {lines.line_num}"))
    if width <= skipped:
        raise DataError(f"{file} must have columns of numbers; found {', '.join(names) or 'nothing'}")
    values = np.array(numbers).reshape(-1, width - skipped)
    if names[:1] == ["id"]:
        wanted, place = table.texts.get("id", []), {one: row for row, one in enumerate(ids)}
        if len(place) < len(ids) or set(place) != set(wanted):
            other = sorted(set(place) ^ set(wanted))
            raise DataError(
                f"{file}: its ids must be those of {path}, each once; found {len(ids)} for {len(wanted)}"
                + (f", such as {other[0]!r} in one of them alone" if other else "")
            )
        values = values[[place[one] for one in wanted]]
    elif skipped:
        table.notes.append(_check_index(ids, f"the first column of {file.name}, which has no name,"))
    if len(values) != len(table.lines):
        turn = "; transpose it?" if values.shape[1] == len(table.lines) else ""
        raise DataError(f"{file} must have {len(table.lines)} rows, as {path} has; found {len(values)}{turn}")
    table.numbers[modality] = values


def _check_columns(columns: Sequence[str], path: Path) -> list[str]:
    """Return the columns of features, in order."""
    twice = sorted(column for column, count in Counter(columns).items() if count > 1)
    if twice:
        raise DataError(f"{path}: every column may occur once; found {', '.join(twice)} again")
    bare = ("label", "step", *TEXTS)
    if not all(columns):
        raise DataError(f"{path}: column {1 + columns.index('')} has no name; name it, or remove it and its separator")
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
        point = "; write decimals with a point" if _COMMA.fullmatch(text) else ""
        raise DataError(f"{where} must be a number; found {quoted(cell)}{point}")
    return float(text) if text.upper() not in ("", "NA") else np.nan


def _labels(texts: Sequence[str], labels: Labels, where: str) -> Array:
    """Return labels as whole numbers if all are plain ones, else as numbers if all are, else as text."""
    numeric = [bool(_DECIMAL.fullmatch(text)) for text in texts]
    if labels == "classes":
        return np.array(texts)
    if labels == "auto" and all(map(_WHOLE.fullmatch, texts)):
        short = all(len(text) <= _MOST_DIGITS for text in texts)
        return np.array([int(text) for text in texts] if short else texts)
    if all(numeric) or (labels == "numbers" and all(text and _NUMBER.fullmatch(text) for text in texts)):
        return np.array([float(text) for text in texts])
    if labels == "numbers":
        other = next(text for text in texts if not text or not _NUMBER.fullmatch(text))
        raise DataError(f"{where}: labels must be numbers; found {quoted(other)}")
    others = [text for text, plain in zip(texts, numeric, strict=True) if not plain]
    if all(map(_COMMA.fullmatch, others)):
        raise DataError(f"{where}: {others[0]!r} has a comma; write decimals with a point, or name --labels classes")
    if any(numeric) and all(_NOT_FINITE.fullmatch(text) for text in others):
        raise DataError(f"{where}: every label must be finite; found {others[0]!r}, as in {len(others)} rows")
    if any("." in text for text, plain in zip(texts, numeric, strict=True) if plain) and all(
        map(_NUMBER.fullmatch, others)
    ):
        raise DataError(
            f"{where}: {others[0]!r} is a number, but not a plain decimal as the others; name what the labels are with "
            "--labels numbers or --labels classes"
        )
    return np.array(texts)


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
        for column in ("label", "split", "group", "fold"):
            found = {texts[column][row] for row in rows} if column in texts else set()
            if len(found) > 1:
                raise DataError(f"{path}: id {one!r} must have one {column} on all its lines; found {sorted(found)}")
    return rows_of
