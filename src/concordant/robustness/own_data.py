"""Convert a user's data (tensors, arrays, a torch Dataset) to a split for the analyses.

Axis letters: N instances, T steps; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from concordant.data.split import AnySplit, Floats, Split
from concordant.data.stored import StoredSplit
from concordant.errors import UsageError
from concordant.modalities import BY_AXES, LAYOUTS

_FITTING = [name for name in LAYOUTS if name.startswith("b")]  # instances first, as everywhere in a split


def as_split(
    data: Any,  # noqa: ANN401
    labels: Any = None,  # noqa: ANN401
    *,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    masks: Mapping[str, Any] | None = None,
    present: Mapping[str, Any] | None = None,
) -> AnySplit:
    """Return instances as a split.

    Args:
        data: modality -> tensor or array (N, ...); or a torch Dataset of (features by modality, label); or a split.
        labels: class indices or real numbers (N,); for a mapping only.
        ids: one name per instance; None = their numbers.
        groups: the group of each instance, for statistics that resample whole groups.
        masks: modality -> bool (N, T), True at valid steps.
        present: modality -> bool (N,), True where the instance has the modality.

    Raises:
        UsageError: names all faults: no modality, no labels or others than numbers, unequal lengths, values that are
            not finite.
    """
    if isinstance(data, (Split, StoredSplit)):
        return data
    if not isinstance(data, Mapping):
        data, labels = _from_dataset(data)
    if labels is None:
        raise UsageError("labels must be given beside features by modality: class indices or real numbers (N,)")
    truth = _numbers("labels", labels)
    truth = truth.astype(np.int64 if truth.dtype.kind in "iub" else np.float32)
    inputs = {name: _numbers(f"features of {name!r}", x).astype(np.float32) for name, x in data.items()}
    masked, here = (
        {name: _array(x).astype(np.bool_) for name, x in (known or {}).items()} for known in (masks, present)
    )
    faults = _faults(inputs, truth, masked, here)
    names = np.array([str(one) for one in (range(truth.size) if ids is None else ids)])
    belong = None if groups is None else np.array([str(one) for one in groups])
    for what, values in (("ids", names), ("groups", belong)):
        if values is not None and len(values) != truth.size:
            faults.append(f"{what} must name {truth.size} instances, as labels do; found {len(values)}")
    if faults:
        raise UsageError("; ".join(faults))
    return Split(inputs, truth, names, belong, masked, here)


def layouts_of(split: AnySplit, layouts: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return modality -> layout, batch first: as given, else read off the number of axes.

    Raises:
        UsageError: a layout has another number of axes than the modality, or the number of axes fits no layout.
    """
    found = {}
    for name, shape in split.shapes.items():
        layout = (layouts or {}).get(name, BY_AXES.get(len(shape) + 1))
        if layout not in _FITTING or len(layout) != len(shape) + 1:
            raise UsageError(
                f"layouts[{name!r}] must be one of {', '.join(_FITTING)} with {len(shape) + 1} axes, as its "
                f"features have; found {layout!r}"
            )
        found[name] = layout
    return found


def _from_dataset(data: Any) -> tuple[dict[str, Any], Any]:  # noqa: ANN401
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise UsageError(
            f"data must be features by modality, a torch Dataset with a length, or a split; found {type(data).__name__}"
        )
    rows = [data[number] for number in range(len(data))]
    if not rows or not isinstance(rows[0], (tuple, list)) or not isinstance(rows[0][0], Mapping):
        raise UsageError("a Dataset must give (features by modality, label) for each instance, and have one at least")
    lacking = [number for number, row in enumerate(rows) if set(row[0]) != set(rows[0][0])]
    if lacking:
        raise UsageError(
            f"instance {lacking[0]} of the Dataset has the modalities {list(rows[lacking[0]][0])}, and the first one "
            f"{list(rows[0][0])}; give all modalities of all instances, and name the absent ones in `present`"
        )
    features = {name: [row[0][name] for row in rows] for name in rows[0][0]}
    return features, [row[1] for row in rows]


def _array(values: Any) -> NDArray[Any]:  # noqa: ANN401
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which NumPy lacks
    return np.asarray(values)


def _numbers(what: str, values: Any) -> NDArray[Any]:  # noqa: ANN401
    """Return an array of numbers; `what` names the values in the error."""
    try:
        found = np.stack([_array(one) for one in values]) if isinstance(values, list) and values else _array(values)
        if found.dtype.kind in "USM":  # which astype would read as numbers
            raise ValueError(f"found {found.dtype}")
        return found if found.dtype.kind in "iubf" else found.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} must be numbers in one array, of classes their indices ({error})") from error


def _faults(
    inputs: Mapping[str, Floats],
    labels: NDArray[Any],
    masks: Mapping[str, NDArray[np.bool_]],
    present: Mapping[str, NDArray[np.bool_]],
) -> list[str]:
    faults = [] if inputs else ["features must name one modality or more; found none"]
    if labels.ndim != 1 or not len(labels):
        return [*faults, f"labels must have shape (N,) with N of 1 or more; found {labels.shape}"]
    count = len(labels)
    if not np.isfinite(labels).all():
        faults.append("labels hold NaN or infinity; leave those instances out")
    for name, x in inputs.items():
        here = present.get(name, np.ones(count, np.bool_))
        if x.ndim < 2 or len(x) != count:
            faults.append(f"features of {name!r} must have shape ({count}, ...); found {x.shape}")
        elif here.shape == (count,) and not np.isfinite(x[here]).all():
            faults.append(
                f"features of {name!r} hold NaN or infinity; leave those instances out, or mark them in `present`"
            )
    for what, known in (("masks", masks), ("present", present)):
        for name, values in known.items():
            # The layout is not known here: T is the size of one of the axes behind the first.
            shapes = [(count, size) for size in inputs[name].shape[1:]] if name in inputs else []
            if name not in inputs:
                faults.append(f"{what} names {name!r}, which is not among the modalities {list(inputs)}")
            elif values.shape not in (shapes if what == "masks" else [(count,)]):
                shape = f"({count}, T), T the steps of its features" if what == "masks" else f"({count},)"
                faults.append(f"{what}[{name!r}] must have shape {shape}; found {values.shape}")
    return faults
