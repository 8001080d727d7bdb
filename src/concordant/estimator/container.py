"""Modalities by name that have rows, so that scikit-learn can cut them into folds; a plain dictionary has none.

scikit-learn counts rows by `shape` and takes rows by `X[rows, ...]`; that is all `cross_val_score`, `GridSearchCV`
and `train_test_split` ask of X.
Axis letters: N instances, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.estimator.faults import InputError, refuse


class Modalities:
    """Modality -> rows of any kind, with a common number of rows.

    Args:
        arrays: modality -> array or tensor (N, ...), table, or list of N arrays, None where an instance has none.

    Raises:
        InputError: there is no modality, or their numbers of rows differ.

    >>> x = Modalities({"text": np.zeros((4, 2)), "audio": [np.zeros((3, 5)), None, np.zeros((7, 5)), None]})
    >>> len(x), x.shape, len(x[[0, 2]]), x["text"].shape
    (4, (4, 2), 2, (4, 2))
    """

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        if not isinstance(arrays, Mapping) or not arrays:
            found = "an empty one" if isinstance(arrays, Mapping) else type(arrays).__name__
            raise InputError(f"X must be a dictionary from modality to rows with at least one modality; found {found}")
        faults = [f"{name!r} cannot name a modality: use a string" for name in arrays if not isinstance(name, str)]
        self.arrays: dict[str, NDArray[Any]] = {}
        for name, values in arrays.items():
            try:
                self.arrays[name] = as_rows(values)
            except (TypeError, ValueError) as error:
                faults.append(f"X[{name!r}] must be an array or a list with one entry an instance ({error})")
        counts = {name: len(values) for name, values in self.arrays.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            faults.append(f"all modalities of X need the same number of rows; found {listed}")
        refuse(faults)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and modalities, (N, M)."""
        return len(self), len(self.arrays)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - an array for a name, else modalities
        """Return one modality by its name, or some rows of all: an index, indices, a mask or a slice."""
        if isinstance(key, str):
            if key not in self.arrays:
                raise KeyError(f"no modality {key!r}; choose from: {', '.join(self.arrays)}")
            return self.arrays[key]
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:  # as scikit-learn asks
            key = key[0]
        rows = np.arange(len(self))[key if isinstance(key, slice) else np.asarray(key)]
        return Modalities({name: values[np.atleast_1d(rows)] for name, values in self.arrays.items()})

    def __iter__(self) -> Iterator[Modalities]:
        return (self[row] for row in range(len(self)))

    def keys(self) -> list[str]:
        """Return the modalities."""
        return list(self.arrays)

    def __repr__(self) -> str:
        return f"Modalities({len(self)} rows of {', '.join(self.arrays)})"


def as_rows(values: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return values as an array whose first axis is instances; of objects where rows differ or are None.

    Raises:
        TypeError, ValueError: there are no rows.
    """
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu().numpy()
    if isinstance(values, (list, tuple)):
        rows = [row.detach().cpu().numpy() if hasattr(row, "detach") else row for row in values]
        same = {np.shape(row) for row in rows if row is not None}
        if len(same) <= 1 and not any(row is None for row in rows):
            return np.asarray(rows)
        out = np.empty(len(rows), dtype=object)
        for number, row in enumerate(rows):
            out[number] = None if row is None else np.asarray(row)
        return out
    found = np.asarray(values)
    if found.ndim == 0:
        raise TypeError(f"found {type(values).__name__}")
    return found
