"""MATLAB files of versions 5 to 7.3 (HDF5): matrices of numbers and text, and cell arrays of them.

Other kinds (structures, objects, functions) are left out. What a file unpacks to is limited by CONCORDANT_LIMIT.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np

from concordant.data.arrays import Array
from concordant.data.formats.hdf5 import checked
from concordant.errors import DataError
from concordant.files import check_size, reading

Variable = Array | list[Array]  # a matrix of at least two axes (a vector for text), or a cell array
_NUMBERS = ("double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_COMPRESSED = 15  # type of an element of a file


def read_mat(path: Path, wanted: str | None = None) -> tuple[dict[str, Variable], dict[str, str]]:
    """Return the variables of a file, or the one `wanted`, and those that were left out with the kind of each.

    Raises:
        DataError: it is damaged, lacks the variable, or unpacks to more than CONCORDANT_LIMIT allows.
    """
    with reading(path, "a MATLAB file") as size:
        with path.open("rb") as opened:
            start = opened.read(516)
        read = _level_73 if b"\x89HDF" in (start[:4], start[512:]) else _level_5
        found, names = read(path, size, wanted)
    if wanted is not None and wanted not in found:
        if wanted in names:
            raise DataError(f"{path}: {wanted} must be numbers; found {names[wanted]}")
        raise DataError(f"{path} has no {wanted}; found {', '.join(names) or 'none'}")
    return found, {name: kind for name, kind in names.items() if wanted is None and name not in found}


def read_matrix(path: Path, name: str) -> Array:
    """Return a matrix of numbers of a file.

    Raises:
        DataError: as for `read_mat`, or it is no matrix of numbers.
    """
    values = read_mat(path, name)[0][name]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise DataError(f"{path}: {name} must be numbers; found {'text' if isinstance(values, np.ndarray) else 'cell'}")
    return values


def _level_5(path: Path, size: int, wanted: str | None) -> tuple[dict[str, Variable], dict[str, str]]:
    """Return the variables of a file up to version 7.2, and the kind of each."""
    from scipy.io import loadmat, whosmat

    _check_packed(path, size)
    kinds = {name: kind for name, _, kind in whosmat(path)}
    chosen = [name for name, kind in kinds.items() if kind in (*_NUMBERS, "char", "cell", "sparse")]
    read = loadmat(path, variable_names=[name for name in chosen if wanted in (None, name)])
    found = {name: _variable(read[name], f"{path}: {name}") for name in chosen if name in read}
    return {name: values for name, values in found.items() if values is not None}, kinds


def _variable(values: Any, where: str) -> Variable | None:  # noqa: ANN401 - what SciPy makes of a variable
    """Return a variable as SciPy reads it; None for a cell array that holds anything but matrices."""
    _refuse_complex(values.dtype, where)
    if hasattr(values, "toarray"):
        check_size(where, math.prod(values.shape) * values.dtype.itemsize)
        return np.asarray(values.toarray())
    if values.dtype != object:
        return np.asarray(values) if values.dtype.kind in "fiubU" else None
    cells = [_variable(cell, where) if cell.dtype != object else None for cell in values.ravel("F")]
    return _cells([cell for cell in cells if isinstance(cell, np.ndarray)], len(cells))


def _cells(cells: list[Array], count: int) -> Variable | None:
    """Return a cell array; one that holds a text in each cell is a vector of text."""
    if len(cells) < count or not count:
        return None
    if all(cell.dtype.kind == "U" and cell.size <= 1 for cell in cells):
        return np.array(["".join(cell.ravel().tolist()) for cell in cells])
    return cells


def _level_73(path: Path, size: int, wanted: str | None) -> tuple[dict[str, Variable], dict[str, str]]:
    """Return the variables of a file of version 7.3, and the kind of each; MATLAB counts the first axis fastest."""
    import h5py

    found: dict[str, Variable] = {}
    kinds: dict[str, str] = {}
    with h5py.File(path, "r") as file:
        for name in file:
            link = isinstance(file.get(name, getlink=True), h5py.HardLink)
            if name.startswith("#") or not link:
                continue
            if not isinstance(file[name], h5py.Dataset):  # a structure, or a sparse matrix
                kinds[name] = "sparse" if "MATLAB_sparse" in file[name].attrs else "struct"
                continue
            dataset, values = file[name], None
            kinds[name] = _kind(dataset)
            if wanted not in (None, name):
                continue
            if kinds[name] == "cell":
                check_size(f"{path}: {name}", 16 * dataset.size, dataset.id.get_storage_size())
                cells = [file[reference] for reference in np.ravel(dataset[()]) if reference]
                cells = [one for one in cells if _kind(one) in (*_NUMBERS, "char")]
                # Two cells may be one matrix, which would be unpacked twice.
                check_size(f"{path}: {name}", sum(one.size * one.dtype.itemsize for one in cells), size)
                values = _cells([_numbers(path, name, one) for one in cells], dataset.size)
            elif kinds[name] in (*_NUMBERS, "char"):
                values = _numbers(path, name, dataset)
            if values is not None:
                found[name] = values
    return found, kinds


def _kind(dataset: Any) -> str:  # noqa: ANN401 - a dataset of h5py
    """Return the kind of a variable; files that h5py wrote do not name it."""
    kind = dataset.attrs.get("MATLAB_class", b"double" if dataset.dtype.kind in "fiu" else b"unknown")
    return kind.decode("latin1") if isinstance(kind, bytes) else str(kind)


def _numbers(path: Path, name: str, dataset: Any) -> Array:  # noqa: ANN401 - a dataset of h5py
    _refuse_complex(dataset.dtype, f"{path}: {name}")
    values = np.asarray(checked(path, name, dataset)[()]).T
    if dataset.attrs.get("MATLAB_empty"):  # it holds the sizes, one of which is 0
        values = np.zeros((0, 0), values.dtype)
    if _kind(dataset) == "char":
        rows = np.atleast_2d(values).tolist()
        return np.array(["".join(map(chr, row)).rstrip() for row in rows] or [""])
    return values.astype(np.bool_) if _kind(dataset) == "logical" else values


def _refuse_complex(dtype: np.dtype[Any], where: str) -> None:
    if dtype.kind == "c" or dtype.names == ("real", "imag"):  # the latter in HDF5
        raise DataError(f"{where} is complex; save its real and imaginary parts, or its magnitude, as variables")


def _check_packed(path: Path, size: int) -> None:
    """Unpack the compressed elements of a file without keeping them, up to what CONCORDANT_LIMIT allows."""
    total = 0
    with path.open("rb") as opened:
        order: Literal["little", "big"] = "little" if opened.read(128)[126:] == b"IM" else "big"
        while tag := opened.read(8):
            count, place = int.from_bytes(tag[4:], order), opened.tell()
            if int.from_bytes(tag[:4], order) == _COMPRESSED:
                unpacker = zlib.decompressobj()
                rest = opened.read(min(count, size))
                while rest and not unpacker.eof:
                    total += len(unpacker.decompress(rest, 1 << 20))
                    rest = unpacker.unconsumed_tail
                    check_size(f"{path}", total, size)
            opened.seek(place + count)
