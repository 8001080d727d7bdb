"""Columns of a table grouped into modalities, with a transformer per modality.

Columns are grouped by a prefix, by lists, slices or masks, by a selector, or by triples as ColumnTransformer has them.
Shapes: table (N, columns) -> modality -> (N, D).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.estimator.inputs import Modalities, plain, refuse


@dataclass(frozen=True)
class Group:
    """The columns of one modality.

    Args:
        places: which columns of the table.
        transformer: fitted; None = the columns as they are.
        single: the transformer takes its one column as (N,), as text vectorisers do.
    """

    places: tuple[int, ...]
    transformer: Any = None
    single: bool = False


def group_columns(table: Any, modalities: Any) -> tuple[dict[str, Group], Modalities]:
    """Return the columns of each modality with their fitted transformers, and the modalities.

    Args:
        table: DataFrame or array (N, columns).
        modalities: of a DataFrame a separator ("_" makes text_0, text_1 the modality text); or modality -> columns;
            or a list of (modality, columns) or (modality, transformer, columns). Columns are names or positions, a
            slice, a mask, of a DataFrame also a prefix, or a callable of the DataFrame. A transformer takes a single
            column, given by its whole name or position, as (N,).

    Raises:
        InputError: all faults at once, by modality.
    """
    names = _names(table)
    width = table.shape[1]
    faults: list[str] = []
    groups: dict[str, Group] = {}
    for name, transformer, selection in _entries(modalities, names, faults):
        places = _places(name, selection, table, names, width, faults)
        if name in groups:
            faults.append(f"modalities names {name!r} more than once; name each once")
        plain = transformer is None or (isinstance(transformer, str) and transformer == "passthrough")
        single = not plain and len(places) == 1 and np.isscalar(selection)
        groups[name] = Group(tuple(places), None if plain else transformer, bool(single))
    used = [place for group in groups.values() for place in group.places]
    twice = sorted({place for place in used if used.count(place) > 1})
    if twice:
        shown = [names[place] if names else place for place in twice[:3]]
        faults.append(f"modalities puts columns {shown} into two modalities; put each into one")
    refuse(faults)
    fitted = {name: replace(group, transformer=_fit(table, group)) for name, group in groups.items()}
    return fitted, apply_groups(table, fitted)


def apply_groups(table: Any, groups: Mapping[str, Group]) -> Modalities:
    """Return the modalities of a table; rows without any value of a modality become NaN.

    Raises:
        InputError: names the modalities whose columns are not numbers.
    """
    faults: list[str] = []
    found: dict[str, NDArray[Any]] = {}
    for name, group in groups.items():
        block = _block(table, group.places)
        gone = _missing(block)
        try:
            if group.transformer is None:
                found[name] = np.asarray(plain(block), dtype=np.float64)
                continue
            values = (
                _apart(group.transformer.transform(_take(block, ~gone, group))) if not gone.all() else np.empty((0, 1))
            )
            found[name] = np.full((len(gone), values.shape[1]), np.nan)
            found[name][~gone] = values
        except (TypeError, ValueError) as error:
            faults.append(
                f"the columns of modality {name!r} must be numbers, or be made so by a transformer, as in "
                f"modalities=[({name!r}, OneHotEncoder(), columns)] ({error})"
            )
    refuse(faults)
    return Modalities(found)


def with_absent(table: Any, groups: Mapping[str, Group], names: Sequence[str]) -> Any:
    """Return a later DataFrame with columns of NaN for the modalities of the fit that it lacks altogether."""
    here = set(table.columns)
    gone = [group for group in groups.values() if not any(names[place] in here for place in group.places)]
    missing = {names[place] for group in gone for place in group.places}
    if not gone or len(gone) == len(groups) or list(table.columns) != [one for one in names if one not in missing]:
        return table
    return table.reindex(columns=list(names))


def _entries(modalities: Any, names: Sequence[str] | None, faults: list[str]) -> list[tuple[str, Any, Any]]:
    """Return (modality, transformer, columns) for each."""
    if isinstance(modalities, str):
        if names is None or not modalities:
            faults.append("modalities can be a separator of column names only where X is a DataFrame; found an array")
            return []
        grouped: dict[str, list[str]] = {}
        without = [name for name in names if modalities not in name]
        if without:
            faults.append(f"no {modalities!r} is in the columns {without[:3]}, so that their modality is unknown")
        for name in names:
            grouped.setdefault(name.split(modalities, 1)[0], []).append(name)
        return [(name, None, columns) for name, columns in grouped.items()]
    if isinstance(modalities, Mapping):
        return [(name, None, columns) for name, columns in modalities.items()]
    found = []
    for entry in modalities if isinstance(modalities, (list, tuple)) else [modalities]:
        if not isinstance(entry, (list, tuple)) or len(entry) not in (2, 3):
            faults.append(
                "modalities must be a separator, a dictionary from modality to columns, or a list of (modality, "
                f"transformer, columns); found {entry!r:.60}"
            )
            continue
        found.append((entry[0], entry[1] if len(entry) == 3 else None, entry[-1]))
    return found


def _places(
    name: str,
    selection: Any,
    table: Any,
    names: Sequence[str] | None,
    width: int,
    faults: list[str],
) -> list[int]:
    """Return positions of columns."""
    if callable(selection):
        selection = selection(table)
    if isinstance(selection, str):
        places = [place for place, column in enumerate(names or ()) if column.startswith(selection)]
        if not places:
            faults.append(f"modalities[{name!r}] is the prefix {selection!r}, with which no column begins")
        return places
    if isinstance(selection, slice):
        places = list(range(width))[selection]
    else:
        chosen = np.asarray([selection] if np.isscalar(selection) else list(selection))
        if chosen.dtype == np.bool_ and len(chosen) == width:
            places = np.flatnonzero(chosen).tolist()
        elif chosen.dtype.kind in "iu":
            places = chosen.tolist()
        else:
            known = {column: place for place, column in enumerate(names or ())}
            lacking = [str(column) for column in chosen.tolist() if column not in known]
            if lacking:
                faults.append(f"modalities[{name!r}] names columns that X has not: {', '.join(lacking[:5])}")
            places = [known[column] for column in chosen.tolist() if column in known]
            if lacking:
                return places
    outside = [place for place in places if not -width <= place < width]
    if outside or not places:
        faults.append(f"modalities[{name!r}] must choose some of {width} columns; found {outside[:5] or 'none'}")
    return [place % width for place in places if place not in outside]


def _fit(table: Any, group: Group) -> Any:
    if group.transformer is None:
        return None
    from sklearn.base import clone

    block = _block(table, group.places)
    here = ~_missing(block)
    return clone(group.transformer).fit(_take(block, here, group))


def _names(table: Any) -> list[str] | None:
    return [str(name) for name in table.columns] if hasattr(table, "iloc") else None


def _block(table: Any, places: Sequence[int]) -> Any:
    return table.iloc[:, list(places)] if hasattr(table, "iloc") else table[:, list(places)]


def _missing(block: Any) -> NDArray[np.bool_]:
    """Return bool (N,), True for rows without any value."""
    if hasattr(block, "isna"):
        return np.asarray(block.isna().all(axis=1), dtype=np.bool_)
    if block.dtype.kind != "f":
        return np.zeros(len(block), np.bool_)
    return np.asarray(np.isnan(block).all(1))


def _take(block: Any, rows: NDArray[np.bool_], group: Group) -> Any:
    """Return some rows of a block in the form that the transformer takes."""
    if hasattr(block, "iloc"):
        return block.iloc[rows.nonzero()[0], 0] if group.single else block.iloc[rows.nonzero()[0]]
    return block[rows, 0] if group.single else block[rows]


def _apart(values: Any) -> NDArray[np.float64]:
    dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return np.asarray(dense, dtype=np.float64).reshape(len(dense), -1)
