"""A prepared dataset as parts to train on: read from its store as it is needed, or held in memory when it fits.

Labels that are class indices a segment make every segment an instance, with its own step of each modality.
Padded sequences and films are as long as the longest of their piece. Scales are fitted on the training part.
Axis letters: N instances; the rest is the modality's layout without its batch axis.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.collate import Collate, Padded
from concordant.data.scaling import Scale, apply, fit_chunks
from concordant.data.split import Bools, Floats, Integers, Split, Strings
from concordant.data.store import Store
from concordant.errors import UsageError

MEMORY = "CONCORDANT_MEMORY"
DEFAULT_MEMORY = 1 << 30  # bytes of padded inputs up to which a dataset is held in memory
CHUNK_BYTES = 32 << 20  # bytes of inputs that are read at a time from a dataset that is not
LEAST_CHUNK = 64  # instances: a swap looks for another class among them
_SEGMENT = {"btd": "bd", "bcthw": "bchw"}  # layout of a dataset -> of one of its steps


def memory_budget() -> int:
    """Return how many bytes of inputs are held in memory: CONCORDANT_MEMORY ("512MiB", "4GiB"), else 1 GiB.

    Raises:
        UsageError: the variable is no size.
    """
    text = os.environ.get(MEMORY)
    if not text:
        return DEFAULT_MEMORY
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]i?B|B)?\s*", text, re.IGNORECASE)
    if found is None:
        raise UsageError(f'{MEMORY} must be a size such as "512MiB" or "4GiB"; found {text!r}')
    powers = {"b": 0, "k": 10, "m": 20, "g": 30}
    return int(float(found[1]) * 2 ** powers[(found[2] or "B")[0].lower()])


@dataclass(frozen=True)
class StoredSplit:
    """Instances of a store; a `concordant.data.split.AnySplit` that reads what it is asked for.

    Args:
        store: where they lie.
        labels: class indices int64 (N,), or real numbers float32 (N,).
        ids: one name an instance (N,).
        groups: what an instance belongs to (N,), or None.
        index: the row of the store of each instance (N,).
        steps: which step of that row the instance is (N,); None = the whole row.
        modalities: which are read, in this order.
        scales: modality -> what its inputs are scaled by; none = as they are stored.
    """

    store: Store
    labels: NDArray[Any]
    ids: Strings
    groups: Strings | None
    index: Integers
    steps: Integers | None
    modalities: tuple[str, ...]
    scales: Mapping[str, Scale] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def layouts(self) -> dict[str, str]:
        """Modality -> layout, batch first."""
        return layouts_of(self.store, self.modalities)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> the shape of one instance; of sequences the longest of the store."""
        found = {}
        for name in self.modalities:
            known = self.store.card.modalities[name]
            if self.steps is not None:
                found[name] = tuple(size for size in known.shape if size is not None)
            else:
                longest = max(1, int(self.store.lengths(name).max()))
                found[name] = tuple(longest if size is None else size for size in known.shape)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs, padded to the longest."""
        return 4 * len(self) * sum(int(np.prod(shape)) for shape in self.shapes.values())

    def chunks(self) -> Iterator[Split]:
        """Yield all instances in order, about 32 MiB at a time."""
        size = max(LEAST_CHUNK, CHUNK_BYTES * len(self) // max(1, self.nbytes))
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    def rows(self, rows: Integers) -> StoredSplit:
        """Return the instances at `rows`, still on disk."""
        return replace(
            self,
            labels=self.labels[rows],
            ids=self.ids[rows],
            groups=None if self.groups is None else self.groups[rows],
            index=self.index[rows],
            steps=None if self.steps is None else self.steps[rows],
        )

    def take(self, rows: Any) -> Split:  # noqa: ANN401 - whatever indexes an array
        """Return the instances at `rows`, in that order, in memory and scaled."""
        chosen = np.arange(len(self))[rows]
        padded = Collate(self.store.card)([self.store[int(row)] for row in self.index[chosen]])
        inputs, masks = self._inputs(padded, chosen)
        present = {}
        for name in self.modalities:
            here: Bools = padded.present[name].numpy()
            if not here.all():
                present[name] = here
        layouts = self.layouts
        for name, scale in self.scales.items():
            valid = masks[name] if name in masks else present.get(name)
            inputs[name] = apply(scale, inputs[name], layouts[name], valid)
        groups = None if self.groups is None else self.groups[chosen]
        return Split(inputs, self.labels[chosen], self.ids[chosen], groups, masks, present)

    def _inputs(self, padded: Padded, chosen: Integers) -> tuple[dict[str, Floats], dict[str, Bools]]:
        """Return inputs and masks; of segments the step that each instance is."""
        inputs: dict[str, Floats] = {name: padded.inputs[name].numpy() for name in self.modalities}
        if self.steps is None:
            return inputs, {name: padded.masks[name].numpy() for name in self.modalities if name in padded.masks}
        places = np.arange(len(chosen))
        for name in self.modalities:
            time = self.store.card.modalities[name].time
            if time is not None:
                over_time = np.moveaxis(inputs[name], time + 1, 1)  # (B, T, ...)
                inputs[name] = np.ascontiguousarray(over_time[places, self.steps[chosen]])
        return inputs, {}

    def scaled(self, scales: Mapping[str, Scale]) -> StoredSplit:
        """Return the same instances, scaled when they are read."""
        return replace(self, scales=scales)


def layouts_of(store: Store, modalities: tuple[str, ...]) -> dict[str, str]:
    """Return modality -> the layout of its inputs, batch first; of segments that of one step."""
    layouts = {name: str(store.card.modalities[name].layout) for name in modalities}
    if store.card.label.kind == "segments":
        return {name: _SEGMENT.get(layout, layout) for name, layout in layouts.items()}
    return layouts


def everything(store: Store) -> StoredSplit:
    """Return all instances of a store; of segments, every one that each modality has a step for."""
    names = tuple(store.card.modalities)
    if store.card.label.kind != "segments":
        rows = np.arange(len(store))
        return StoredSplit(store, np.asarray(store.labels), store.ids, store.groups, rows, None, names)
    counts = np.array([len(labels) for labels in store.labels])
    for name, known in store.card.modalities.items():
        lengths = store.lengths(name)
        if known.time is not None:
            counts = np.where(lengths > 0, np.minimum(counts, lengths), counts)
    index = np.repeat(np.arange(len(store)), counts)
    steps = np.concatenate([np.arange(count) for count in counts.tolist()])
    labels = np.concatenate([labels[:count] for labels, count in zip(store.labels, counts.tolist(), strict=True)])
    ids = np.array([f"{store.ids[row]}@{step}" for row, step in zip(index.tolist(), steps.tolist(), strict=True)])
    # The segments of a clip are one group at the least: statistics resample whole clips.
    groups = (store.ids if store.groups is None else store.groups)[index]
    return StoredSplit(store, labels, ids, groups, index, steps, names)


def scale_stored(parts: tuple[StoredSplit, StoredSplit, StoredSplit]) -> tuple[StoredSplit, StoredSplit, StoredSplit]:
    """Return training, validation and test parts, scaled by the training part, which is read once."""
    scales = fit_chunks(parts[0].chunks(), parts[0].layouts)
    return parts[0].scaled(scales), parts[1].scaled(scales), parts[2].scaled(scales)
