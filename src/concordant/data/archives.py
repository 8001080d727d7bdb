"""The data folder and its NumPy archives, with every fault of a file as one sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concordant.data.arrays import Array, has_shape, read_npz
from concordant.errors import DataError, UsageError, foreign
from concordant.files import write_atomically

VARIABLE = "CONCORDANT_DATA"
PAGE = "docs/benchmarks.md says where the files are published"


@dataclass(frozen=True)
class Column:
    """Expected properties of an array of an archive.

    Args:
        rows: what its first axis counts; columns with the same word must have the same length.
        shape: of a row; None stands for any size.
        kinds: accepted kind letters of NumPy: "f" floating point, "i" and "u" integers, "U" text.
        classes: for a column of class indices, their number, or the column that names them; else None.
    """

    rows: str
    shape: tuple[int | None, ...] = ()
    kinds: str = "f"
    classes: int | str | None = None


def named_data(option: Path | str | None) -> Path | str | None:
    """Return the data folder that is named: the option, else CONCORDANT_DATA; None without either."""
    return option if option is not None else os.environ.get(VARIABLE) or None


def is_url(text: Path | str | None) -> bool:
    """Return whether a data folder is named by a URL.

    >>> is_url("s3://bucket/data"), is_url("data"), is_url(None)
    (True, False, False)
    """
    return isinstance(text, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def default_folder() -> Path:
    """Return the data folder where none is named: `concordant` in the user's data directory."""
    from platformdirs import user_data_path

    return user_data_path("concordant", appauthor=False)


def find_data_folder(option: Path | str | None = None, *, files: Sequence[str] = ()) -> Path:
    """Return the data folder: the one given, else the one in CONCORDANT_DATA, else the user's.

    Raises:
        DataError: it does not exist; names the files that would be read from it.
    """
    named = named_data(option)
    folder = Path(named) if named is not None else default_folder()
    if not folder.is_dir():
        source = "--data" if option is not None else VARIABLE if named is not None else "neither --data nor " + VARIABLE
        raise DataError(
            f"the data folder {folder} is not there (named by {source}); name the folder that holds "
            f"{' and '.join(files) or 'the .npz files'} with --data or {VARIABLE}; {PAGE}"
        )
    return folder


def read_archive(folder: Path, file: str, columns: Mapping[str, Column]) -> dict[str, Array]:
    """Read arrays of `folder/file` and check each.

    Raises:
        DataError: the file is absent, truncated or not a NumPy archive; arrays are missing or have a wrong
            shape or type; rows do not match; values are not finite; labels are out of range.
    """
    path = folder / file
    if not path.is_file():
        raise DataError(
            f"{file} is expected in {folder}, and is not there; name another folder with --data or {VARIABLE}; {PAGE}"
        )
    arrays = read_npz(path, "a NumPy archive", columns)
    first: dict[str, str] = {}
    for name, column in columns.items():
        count = arrays[column.classes].size if isinstance(column.classes, str) else column.classes
        _check(f"{path}: {name}", arrays[name], column, count)
        other = first.setdefault(column.rows, name)
        if len(arrays[name]) != len(arrays[other]):
            raise DataError(
                f"{path}: {name} and {other} must have as many rows; found {len(arrays[name])} and {len(arrays[other])}"
            )
    return arrays


def write_archive(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an archive that `read_archive` reads, atomically.

    Raises:
        UsageError: the file is there already, or cannot be written.
    """
    if path.exists():
        raise UsageError(f"{path} is there already; name another folder with --out, or remove it")
    try:
        named: dict[str, Any] = dict(arrays)
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, **named))
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({foreign(error)}); name another folder with --out") from None


def _check(where: str, array: Array, column: Column, classes: int | None) -> None:
    """Raise DataError on the first fault of one array."""
    if not has_shape(array.shape, (None, *column.shape)):
        expected = ", ".join([column.rows, *("any" if size is None else str(size) for size in column.shape)])
        raise DataError(f"{where} must have shape ({expected}) with rows; found {array.shape}")
    if array.dtype.kind not in column.kinds:
        raise DataError(f"{where} must be of NumPy kind {' or '.join(column.kinds)}; found {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise DataError(
            f"{where} must be finite; found NaN or infinity in {len(np.unique(bad[:, 0]))} rows, "
            f"first at {tuple(int(i) for i in bad[0])}; mend or drop those rows"
        )
    if classes is not None and (array.min() < 0 or array.max() >= classes):
        raise DataError(f"{where} must be class indices 0 to {classes - 1}; found {array.min()} to {array.max()}")
