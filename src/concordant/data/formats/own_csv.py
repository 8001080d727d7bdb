"""A user's own data from a CSV file, with a first line of column names.

`label` is whole numbers, text, or numbers with a decimal point; optional `id`, `split` (train, valid, test), `group`.
Every other column is `<modality>.<feature>`. One row an instance gives vectors; with a column `step`, one row a step
of an instance gives sequences, sorted by it. Empty cells: a modality without a number in an instance is absent
there, at a step it has none; a single one among numbers is replaced by 0 and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Layout, ModalityCard
from concordant.data.digest import sources
from concordant.data.formats.own import label_card, own_card
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError

_NAMED = ("id", "label", "split", "group", "step")
_MISSING = ("", "nan", "NaN", "NA")

Array = NDArray[Any]


class _Table(NamedTuple):
    """A file's columns: text by name, and numbers by modality (N, D), NaN where a cell is empty."""

    texts: dict[str, list[str]]
    numbers: dict[str, NDArray[np.float64]]


def read_csv(path: Path, *, name: str | None = None) -> Reading:
    """Read a table in the convention above.

    Args:
        path: the file, UTF-8, separated by commas.
        name: of the dataset; None = the file's.

    Raises:
        DataError: the file cannot be read, or columns or cells do not fit the convention; the line is said.
    """
    table = _read(path)
    count = len(table.texts["label"])
    layout: Layout = "btd" if "step" in table.texts else "bd"
    ids = table.texts.get("id", [str(row) for row in range(count)])
    if layout == "btd":
        if "id" not in table.texts:
            raise DataError(f"{path} has a column step and needs id too, which says whose step a row is")
        rows_of = _sequences(table, path)
    else:
        rows_of = {one: [row] for row, one in enumerate(ids)}
        if len(rows_of) < count:
            twice = [one for one in rows_of if ids.count(one) > 1][:3] if count < 10_000 else []
            raise DataError(
                f"{path}: every id may occur once, but {count - len(rows_of)} rows repeat one"
                f"{' (' + ', '.join(twice) + ')' if twice else ''}; a column step makes them steps of a sequence"
            )
    firsts = [rows[0] for rows in rows_of.values()]
    labels, label = label_card(_labels([table.texts["label"][row] for row in firsts]), f"{path}: label")
    splits = np.array([table.texts["split"][row] for row in firsts]) if "split" in table.texts else None
    modalities = {
        key: ModalityCard(layout=layout, shape=(None, values.shape[1]) if layout == "btd" else (values.shape[1],))
        for key, values in table.numbers.items()
    }
    card = own_card(
        name or path.stem,
        modalities,
        label,
        splits,
        grouped="group" in table.texts,
        sources=sources(path.parent, [path.name]),
        where=str(path),
    )
    findings = Findings()
    return Reading(card, _instances(table, rows_of, labels, findings, steps=layout == "btd"), findings)


def _read(path: Path) -> _Table:
    """Return the columns of a file, all as text, with the features as numbers."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        with path.open("rb") as opened:
            names = opened.readline().decode("utf-8-sig").strip()
        columns = [] if not names else next(iter(_split_line(names)))
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise DataError(f"{path}: every column may occur once; found {', '.join(twice)} again")
        text = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)
        table = csv.read_csv(path, convert_options=text)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as CSV ({error})") from None
    if "label" not in columns or not table.num_rows:
        raise DataError(
            f"{path} must have a column label, and rows; found {', '.join(columns) or 'no column'} and "
            f"{table.num_rows} rows (docs/own-data.md)"
        )
    strange = [column for column in columns if column not in _NAMED and not all(column.partition("."))]
    if strange:
        raise DataError(
            f"{path}: {', '.join(strange)} is no column that is known: features are named <modality>.<feature>, "
            f"the others {', '.join(_NAMED)}"
        )
    texts = {column: table.column(column).to_pylist() for column in columns if column in _NAMED}
    empty = [row for row, value in enumerate(texts["label"]) if not value]
    if empty:
        raise DataError(f"{path}, line {empty[0] + 2}: label is empty, as in {len(empty)} lines; give it or drop them")
    members: dict[str, list[str]] = {}
    for column in columns:
        if column not in _NAMED:
            members.setdefault(column.partition(".")[0], []).append(column)
    numbers = {
        modality: np.stack([_numbers(table.column(column).to_pylist(), column, path) for column in parts], 1)
        for modality, parts in members.items()
    }
    return _Table(texts, numbers)


def _split_line(line: str) -> Iterator[list[str]]:
    import csv

    return csv.reader([line])


def _numbers(cells: Sequence[str], column: str, path: Path) -> NDArray[np.float64]:
    """Return a column of cells as numbers, NaN where one is empty."""
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if cell in _MISSING:
            found[row] = np.nan
            continue
        try:
            found[row] = float(cell)
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


def _sequences(table: _Table, path: Path) -> dict[str, list[int]]:
    """Return id -> its rows, by step; what an instance has once must be the same on all of them."""
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


def _instances(
    table: _Table, rows_of: dict[str, list[int]], labels: Array, findings: Findings, *, steps: bool
) -> Iterator[Instance]:
    for (one, rows), label in zip(rows_of.items(), labels.tolist(), strict=True):
        features: dict[str, Array | None] = {}
        for modality, numbers in table.numbers.items():
            values = numbers[rows]
            values = values[~np.isnan(values).all(1)]  # a modality may have fewer steps than another
            clean = findings.clean(modality, values, f"{one}: {modality}") if len(values) else None
            features[modality] = clean if clean is None or steps else clean[0]
        extra = {column: table.texts[column][rows[0]] for column in ("split", "group") if column in table.texts}
        yield Instance(one, extra.get("split", "all"), label, features, extra.get("group"))
