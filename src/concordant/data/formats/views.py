"""Multi-view descriptors as published: MATLAB files of RCML (Xu et al., AAAI 2024), tables of UCI's multiple features.

A MATLAB file has a cell array `X`, one view per cell, and labels `gt` or `Y`. UCI's tables `mfeat-pix` and others have
one line per digit, 200 of each class in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from concordant.data.arrays import Array
from concordant.data.formats.matlab import read_mat
from concordant.errors import DataError
from concordant.files import reading

TABLES = ("pix", "fou", "fac", "zer", "kar", "mor")  # of UCI, in the order of the views of handwritten.mat
_LABELS = ("gt", "Y")


def read_views(source: Path, file: str, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return `label` and the views of a MATLAB file; for handwritten digits, of UCI's tables where they are there.

    Args:
        source: the file, or its folder.
        file: its published name.
        sizes: view -> number of features D, in the order of the cells; instances may be rows or columns.

    Raises:
        DataError: the file is absent or damaged, or its views have other sizes.
    """
    if source.is_dir() and len(sizes) == len(TABLES) and all((source / f"mfeat-{one}").is_file() for one in TABLES):
        views = [_table(source / f"mfeat-{one}") for one in TABLES]
        return _checked(source, views, np.arange(len(views[0])) // 200, sizes)
    path = source / file if source.is_dir() else source
    if not path.is_file():
        tables = f", nor {', '.join(f'mfeat-{one}' for one in TABLES)}" if len(sizes) == len(TABLES) else ""
        raise DataError(f"{source} has no {file}{tables}; name the published file or its folder")
    found, _ = read_mat(path)
    cells, label = found.get("X"), next((found[name] for name in _LABELS if name in found), None)
    if not isinstance(cells, list) or not isinstance(label, np.ndarray):
        raise DataError(f"{path} must have a cell array X and labels gt or Y; found {', '.join(found) or 'none'}")
    return _checked(path, cells, label.ravel(), sizes)


def _table(path: Path) -> Array:
    with reading(path, "a table of numbers"):
        return np.loadtxt(path, ndmin=2)


def _checked(path: Path, views: list[Array], label: Array, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Return the arrays of the archive: labels count from 0, views have one row per instance."""
    whole = label.dtype.kind in "iuf" and label.size and (label == np.floor(label)).all()
    if not whole:
        raise DataError(f"{path}: labels must be whole numbers; found {label.dtype} {label.shape}")
    turned = [view.T if view.shape == (size, len(label)) else view for view, size in zip(views, sizes.values())]  # noqa: B905
    wanted = [(len(label), size) for size in sizes.values()]
    if len(views) != len(sizes) or [view.shape for view in turned] != wanted:
        raise DataError(f"{path} must hold views of shapes {wanted}; found {[view.shape for view in views]}")
    label = label.astype(np.int64) - int(label.min())
    return {"label": label, **{name: view.astype(np.float32) for name, view in zip(sizes, turned, strict=True)}}
