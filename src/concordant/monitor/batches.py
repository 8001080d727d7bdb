"""Split the input of a monitor into batches, and join the evidence of batches.

Shapes: features batch first; evidence (N, M), summaries (N, S).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from concordant.data.split import Split
from concordant.data.stored import StoredSplit
from concordant.errors import UsageError
from concordant.modalities import LAYOUTS, as_tensor
from concordant.monitor.evidence import Evidence
from concordant.robustness.predict import BATCH
from concordant.training.batches import Tensors, open_tensors


def as_tensors(values: Any) -> Any:  # noqa: ANN401 - whatever a stream has
    """Return NumPy arrays, alone or by modality, as tensors, of numbers in PyTorch's default precision."""
    if isinstance(values, Mapping):
        return {name: as_tensors(x) for name, x in values.items()}
    found = values if isinstance(values, Tensor) else as_tensor(values)
    return found.to(torch.get_default_dtype()) if found is not values and found.is_floating_point() else found


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence of all instances, in their order.

    A modality that is absent from a whole batch has no known length of summary there; it takes that of the others.

    Raises:
        UsageError: the parts are of different modalities, or of features of different sizes.
    """
    names = parts[0].names
    if any(one.names != names for one in parts):
        raise UsageError(f"all batches must have the modalities {list(names)}; found {[one.names for one in parts]}")
    summaries = {}
    for name in names:
        sizes = {one.summaries[name].shape[1] for one in parts if not np.isnan(one.summaries[name]).all()}
        if len(sizes) > 1:
            raise UsageError(f"features of {name!r} must have one size in all batches; found {sorted(sizes)}")
        size = sizes.pop() if sizes else 1
        summaries[name] = np.concatenate(
            [
                one.summaries[name] if one.summaries[name].shape[1] == size else np.full((len(one), size), np.nan)
                for one in parts
            ]
        )
    return Evidence(
        names,
        np.concatenate([one.reliability for one in parts]),
        np.concatenate([one.agreement for one in parts]),
        np.concatenate([one.level for one in parts]),
        summaries,
    )


def is_single(features: Mapping[str, Tensor], axes: Mapping[str, int]) -> bool:
    """Whether these are the features of a single instance, with one axis less than the clean data.

    Raises:
        UsageError: some are and some are not, or they have other numbers of axes.
    """
    short = {name: axes[name] - x.dim() for name, x in features.items() if name in axes and isinstance(x, Tensor)}
    if short and set(short.values()) not in ({0}, {1}):
        expected = ", ".join(f"{name} with {axes[name]}" for name in short)
        found = ", ".join(f"{name} with {features[name].dim()}" for name in short)
        raise UsageError(
            f"features must have the axes of the clean data ({expected}), or for a single instance all one fewer; "
            f"found {found}"
        )
    return bool(short) and set(short.values()) == {1}


def alone(
    values: Mapping[str, Any] | None,
    layouts: Mapping[str, str] | None = None,
    names: Container[str] | None = None,
) -> dict[str, Any] | None:
    """Return a single instance's values as a batch of one; its axis comes first unless a layout says otherwise.

    What is not among `names` has no instances and stays as it is; None = all have.
    """
    if values is None:
        return None
    axes = {name: _batch_axis(name, layouts) for name in values}
    own = [name for name in values if names is None or name in names]
    rows = {name: torch.as_tensor(values[name]).unsqueeze(axes[name]) for name in own}
    return {**values, **rows}


def is_rows(value: object) -> bool:
    """Whether a value is a tensor with a row per instance, not a number, a flag or another argument of the model."""
    return isinstance(value, Tensor) and value.dim() > 0


def batches(
    data: Any,  # noqa: ANN401
    masks: Mapping[str, Tensor] | None,
    present: Mapping[str, Tensor] | None,
    layouts: Mapping[str, str] | None = None,
) -> Iterator[tuple[Any, Mapping[str, Tensor] | None, Mapping[str, Tensor] | None]]:
    """Yield inputs, masks and presence, batch by batch; time-first features are one batch.

    Raises:
        UsageError: the data are neither features by modality, nor a split, nor something to go through.
    """
    if isinstance(data, Mapping):
        data = {name: _tensor_of(x) for name, x in data.items()}
        inputs = {name: x for name, x in data.items() if is_rows(x)}
        if any(_batch_axis(name, layouts) for name in inputs):
            yield data, masks, present
            return
        labels = torch.zeros(len(next(iter(inputs.values()), ())))
        for batch in Tensors(inputs, labels, dict(masks or {}), dict(present or {})).chunks(BATCH):
            yield {name: batch.inputs.get(name, x) for name, x in data.items()}, batch.masks, batch.present
    elif isinstance(data, (Split, StoredSplit)):
        for batch in open_tensors(data).chunks(BATCH):
            yield batch.inputs, batch.masks, batch.present
    elif isinstance(data, Iterable) and not isinstance(data, (str, Tensor)):
        for item in data:
            yield as_tensors(item[0] if isinstance(item, (tuple, list)) else item), None, None
    else:
        raise UsageError(
            f"data must be features by modality, a split, or a loader of them; found {type(data).__name__}"
        )


def _tensor_of(value: Any) -> Any:  # noqa: ANN401
    """Return the tensor of a list of numbers; anything else, such as a list of names, as it is."""
    try:
        return torch.as_tensor(value) if isinstance(value, list) else value
    except (TypeError, ValueError):
        return value


def _batch_axis(name: str, layouts: Mapping[str, str] | None) -> int:
    layout = (layouts or {}).get(name)
    return LAYOUTS[layout].batch if layout in LAYOUTS else 0
