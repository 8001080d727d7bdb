"""Datasets of HDF5 files, as MATLAB 7.3 and h5py write them: only what lies in the file itself is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import DataError
from concordant.files import check_size, reading


@contextmanager
def open_dataset(path: Path, key: str) -> Iterator[Any]:
    """Open the dataset of numbers `key` at the top of a file.

    Raises:
        DataError: the file is damaged or has no such dataset, or `checked` refuses it.
    """
    import h5py

    with reading(path, "HDF5"), h5py.File(path, "r") as file:
        found = file[key] if isinstance(file.get(key, getlink=True), h5py.HardLink) else None
        if not isinstance(found, h5py.Dataset):
            names = ", ".join(map(str, file)) or "none"
            raise DataError(f"{path} has no dataset {key!r}; found {names} (links are not followed)")
        yield checked(path, key, found)


def checked(path: Path, key: str, found: Any) -> Any:  # noqa: ANN401 - a dataset of h5py
    """Return a dataset that may be read.

    Raises:
        DataError: it is empty, holds no numbers, or lies in other files (external storage, virtual datasets); or it
            announces more bytes than it holds and than CONCORDANT_LIMIT allows.
    """
    if found.is_virtual or found.external:
        raise DataError(f"{path}: {key} lies in other files, which are not read; copy it into one file")
    if found.shape is None or found.dtype.kind not in "fiub":
        raise DataError(f"{path}: {key} must be numbers; found {found.dtype} {found.shape}")
    announced, held = math.prod(found.shape) * found.dtype.itemsize, found.id.get_storage_size()
    check_size(f"{path}: {key}", announced, held)
    # A chunk is decoded as a whole, whatever is read of it.
    check_size(f"{path}: a chunk of {key}", math.prod(found.chunks or ()) * found.dtype.itemsize)
    return found


def read_rows(path: Path, dataset: Any, start: int = 0, stop: int | None = None) -> NDArray[Any]:  # noqa: ANN401
    """Return rows of an open dataset of a file.

    Raises:
        DataError: they are damaged.
    """
    with reading(path, "HDF5"):
        return np.asarray(dataset[start:stop] if dataset.shape else dataset[()])
