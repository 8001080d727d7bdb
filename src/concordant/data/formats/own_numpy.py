"""A user's own data from NumPy: an .npz archive, or a folder of .npy files, one array a column.

`label` (N,) whole numbers, text or floating point numbers; optional `split` (N,) train, valid or test, `group` (N,),
`id` (N,), `classes` (C,). Every other array is a modality: (N, D), (N, T, D), (N, C, H, W) or (N, C, T, H, W), with
`<modality>_length` (N,) where sequences are padded (0 = absent), or `<modality>_offsets` (N + 1,) where steps lie
one instance behind the other, and `<modality>_present` (N,). Rows that are NaN throughout are absent as well.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
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

LAYOUTS: dict[int, Layout] = {2: "bd", 3: "btd", 4: "bchw", 5: "bcthw"}
_NAMED = ("label", "split", "group", "id", "classes")
_MARKS = ("_length", "_offsets", "_present")
_TIME = {"btd": 0, "bcthw": 1}  # place of T in an instance

Array = NDArray[Any]


class _Column(NamedTuple):
    """A modality's array and what belongs to it."""

    values: Array
    layout: Layout
    length: Array | None
    offsets: Array | None
    present: Array | None


def read_numpy(path: Path, *, name: str | None = None) -> Reading:
    """Read arrays in the convention above.

    Args:
        path: an .npz archive, or a folder of .npy files.
        name: of the dataset; None = the file's.

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
    texts: dict[str, NDArray[np.str_]] = {}
    texts |= {key: _texts(arrays[key], count, f"{path}: {key}") for key in ("split", "group", "id") if key in arrays}
    columns = {
        key: _column(key, arrays, count, path)
        for key in arrays
        if key not in _NAMED and not any(key.endswith(mark) and key.removesuffix(mark) in arrays for mark in _MARKS)
    }
    modalities = {key: ModalityCard(layout=one.layout, shape=_shape(one)) for key, one in columns.items()}
    base = path.parent if path.is_file() else path
    card = own_card(
        name or path.stem,
        modalities,
        label,
        texts.get("split"),
        grouped="group" in texts,
        sources=sources(base, files),
        where=str(path),
    )
    findings = Findings()
    return Reading(card, _instances(columns, labels, texts, findings), findings)


def _load(path: Path) -> tuple[dict[str, Array], list[str]]:
    """Return the arrays by name, and the files they are in."""
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
    marks = {mark: arrays.get(f"{key}{mark}") for mark in _MARKS}
    offsets, length, present = marks["_offsets"], marks["_length"], marks["_present"]
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


def _shape(column: _Column) -> tuple[int | None, ...]:
    """Return the shape of an instance, None for T."""
    if column.offsets is not None:
        return (None, column.values.shape[1])
    shape: list[int | None] = [*column.values.shape[1:]]
    if column.layout in _TIME:
        shape[_TIME[column.layout]] = None
    return tuple(shape)


def _instances(
    columns: Mapping[str, _Column], labels: Array, texts: Mapping[str, NDArray[np.str_]], findings: Findings
) -> Iterator[Instance]:
    for row in range(len(labels)):
        features = {key: _values(key, column, row, findings) for key, column in columns.items()}
        label = float(labels[row]) if labels.dtype.kind == "f" else int(labels[row])
        plain = {key: str(values[row]) for key, values in texts.items()}
        yield Instance(plain.get("id", str(row)), plain.get("split", "all"), label, features, plain.get("group"))


def _values(key: str, column: _Column, row: int, findings: Findings) -> Array | None:
    """Return a modality of an instance at its true length; None where it is absent."""
    if column.offsets is not None:
        values = column.values[column.offsets[row] : column.offsets[row + 1]]
    else:
        values = column.values[row]
        if column.length is not None:
            axis = _TIME[column.layout]
            values = values[(*(slice(None),) * axis, slice(int(column.length[row])))]
    gone = column.present is not None and not column.present[row]
    if gone or values.size == 0 or (values.dtype.kind == "f" and np.isnan(values).all()):
        return None
    return findings.clean(key, values, f"row {row}: {key}")
