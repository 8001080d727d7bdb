"""A user's own data: labels as they come to class indices or numbers, and the card of what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from concordant.data.card import WHOLE, Card, LabelCard, ModalityCard, Source
from concordant.data.store import BARE
from concordant.errors import DataError
from concordant.faults import explain

SPLITS = ("train", "valid", "test")


def label_card(values: NDArray[Any], where: str, classes: tuple[str, ...] = ()) -> tuple[NDArray[Any], LabelCard]:
    """Return labels as class indices or numbers, and what they are.

    Whole numbers from 0 up, without a gap, are class indices as they stand; other whole numbers and text are named
    by what they are, sorted; floating point numbers are numbers.

    Args:
        values: (N,).
        where: names them in an error.
        classes: names of the classes, by index, where they are known.

    Raises:
        DataError: there is one class only, an index without a name, a name twice, numbers with names, or a number
            that is not finite.
    """
    if values.dtype.kind == "f":
        if classes:
            raise DataError(
                f"{where}: labels are {values.dtype}, so they are numbers to predict and have no classes; make them "
                "whole numbers or text, or leave classes out"
            )
        with np.errstate(over="ignore"):
            numbers = values.astype(np.float32)
        broken = int((~np.isfinite(numbers)).sum())
        if broken:
            raise DataError(f"{where}: every label must be finite as float32; found {broken} that are not")
        return numbers, LabelCard(kind="real")
    if values.dtype.kind not in "iubU":
        raise DataError(f"{where}: labels must be whole numbers, text, or floating point; found {values.dtype}")
    found, index = np.unique(values, return_inverse=True)
    if values.dtype.kind in "iu" and classes:
        if found.min() < 0 or found.max() >= len(classes):
            raise DataError(f"{where}: labels must be 0 to {len(classes) - 1}; found {found.min()} to {found.max()}")
        return values.astype(np.int64), _named(classes, where)
    if classes:
        unknown = sorted(set(map(str, found.tolist())) - set(classes))
        if unknown:
            raise DataError(f"{where}: {', '.join(unknown)} is no class; choose from: {', '.join(classes)}")
        place = {name: number for number, name in enumerate(classes)}
        return np.array([place[str(value)] for value in values.tolist()]), _named(classes, where)
    if len(found) < 2:
        raise DataError(f"{where}: labels must be of two classes at least; found only {found.tolist()}")
    return index.astype(np.int64), LabelCard(classes=tuple(str(value) for value in found.tolist()))


def _named(classes: tuple[str, ...], where: str) -> LabelCard:
    """Return labels of classes that the user named."""
    try:
        return LabelCard(classes=classes)
    except ValidationError as error:
        raise DataError(f"{where}: classes: {explain(error)}") from None


def own_card(
    name: str,
    modalities: Mapping[str, ModalityCard],
    label: LabelCard,
    splits: NDArray[np.str_] | None,
    *,
    grouped: bool,
    sources: tuple[Source, ...],
    where: str,
) -> Card:
    """Return the card of a dataset.

    Raises:
        DataError: it has no modality, one of a name that is taken, or a split that is not known.
    """
    if not modalities:
        raise DataError(f"{where} has no modality; docs/own-data.md says how columns are named")
    clash = [modality for modality in modalities if modality in BARE]
    if clash:
        raise DataError(f"{where}: a modality cannot be called {clash[0]!r}; these names are taken: {', '.join(BARE)}")
    found = (WHOLE,) if splits is None else tuple(part for part in SPLITS if part in splits)
    unknown = [] if splits is None else sorted(set(splits.tolist()) - set(SPLITS))
    if unknown:
        raise DataError(f"{where}: split must be one of {', '.join(SPLITS)}; found {', '.join(unknown)}")
    notes: tuple[str, ...] = ()
    if splits is None:
        notes = ("the data have no splits: every seed tests on one of five folds",)
    return Card(
        name=name,
        modalities=dict(modalities),
        label=label,
        splits=found,
        groups="group" if grouped else None,
        sources=sources,
        notes=notes,
    )
