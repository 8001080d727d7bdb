"""Prepared datasets for training: splits that are read from a store on demand.

Where labels are class indices per segment, every segment is an instance, with its own step of each modality.
Padded sequences and films are as long as the longest of their chunk.
Axis letters: N instances, B batch, T most steps of an instance; the remaining axes follow the modality's layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import ModalityCard
from concordant.data.scaling import Scale
from concordant.data.split import Bools, Floats, Integers, Split, Strings, Task
from concordant.data.store import Store, Values
from concordant.errors import DataError
from concordant.files import bytes_in

MEMORY = "CONCORDANT_MEMORY"
DEFAULT_MEMORY = 1 << 30  # bytes of padded inputs up to which a dataset is held in memory
CHUNK_BYTES = 32 << 20  # bytes of inputs that are read at a time from a dataset that is not
LEAST_CHUNK = 64  # instances; a swap looks for another class among them
_SEGMENT = {"btd": "bd", "bcthw": "bchw"}  # layout of a dataset -> of one of its steps


def memory_budget() -> int:
    """Return how many bytes of inputs are held in memory: CONCORDANT_MEMORY ("512MiB", "4GiB"), by default 1 GiB.

    Raises:
        UsageError: the variable is not a size.
    """
    return bytes_in(MEMORY, DEFAULT_MEMORY)


@dataclass(frozen=True)
class StoredSplit:
    """Instances of a store, read on demand; implements `concordant.data.split.AnySplit`.

    Args:
        store: where they are.
        labels: class indices int64 (N,), or real numbers float32 (N,).
        ids: name of each instance (N,).
        groups: group of each instance (N,), or None.
        index: row of the store of each instance (N,).
        steps: step of that row which is the instance (N,); None = the whole row.
        modalities: to read, in this order.
        scales: modality -> scale of its inputs; none = as they are stored.
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
        """Modality -> layout, batch first; for segments, of one step."""
        layouts = {name: str(self.store.card.modalities[name].layout) for name in self.modalities}
        if self.store.card.label.kind == "segments":
            return {name: _SEGMENT.get(layout, layout) for name, layout in layouts.items()}
        return layouts

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Modality -> shape of one instance; for sequences, of the longest of the store."""
        found = {}
        for name in self.modalities:
            shape = self.store.card.modalities[name].shape
            if self.steps is not None:
                found[name] = tuple(size for size in shape if size is not None)
            else:
                longest = max(1, int(self.store.lengths(name).max()))
                found[name] = tuple(longest if size is None else size for size in shape)
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

    def take(self, rows: Any) -> Split:  # noqa: ANN401 - anything that indexes an array
        """Load the instances at `rows` into memory, in that order, scaled."""
        chosen = np.arange(len(self))[rows]
        instances = [self.store[int(row)] for row in self.index[chosen]]
        inputs: dict[str, Floats] = {}
        masks: dict[str, Bools] = {}
        present: dict[str, Bools] = {}
        for name in self.modalities:
            known = self.store.card.modalities[name]
            values = [instance.features[name] for instance in instances]
            inputs[name], mask = pad(values, known)
            if not np.isfinite(inputs[name]).all():
                raise DataError(f"{self.store.folder}: {name} holds NaN or infinity; prepare the dataset again")
            if self.steps is not None and known.time is not None:
                over_time = np.moveaxis(inputs[name], known.time + 1, 1)  # (B, T, ...)
                inputs[name] = np.ascontiguousarray(over_time[np.arange(len(chosen)), self.steps[chosen]])
            elif mask is not None:
                masks[name] = mask
            if any(one is None for one in values):
                present[name] = np.array([one is not None for one in values])
        groups = None if self.groups is None else self.groups[chosen]
        split = Split(inputs, self.labels[chosen], self.ids[chosen], groups, masks, present)
        return split.scaled(self.scales, self.layouts) if self.scales else split

    def only(self, modalities: Sequence[str]) -> StoredSplit:
        """Return the split with these modalities only, in this order."""
        return replace(self, modalities=tuple(modalities))

    def scaled(self, scales: Mapping[str, Scale], layouts: Mapping[str, str]) -> StoredSplit:
        """Return the split with its inputs scaled when they are read; `layouts` are those of the store."""
        return replace(self, scales=scales)


def everything(store: Store) -> StoredSplit:
    """Return all instances of a store; for segments, every one for which each modality has a step."""
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
    # Without groups, the segments of a clip form one: statistics resample whole clips.
    groups = (store.ids if store.groups is None else store.groups)[index]
    return StoredSplit(store, labels, ids, groups, index, steps, names)


def load_if_it_fits(task: Task) -> Task:
    """Return the task with its splits in memory where they fit the budget, otherwise as it is."""
    splits = [task.train, task.valid, task.test]
    if sum(one.nbytes for one in splits if isinstance(one, StoredSplit)) > memory_budget():
        return task
    train, valid, test = (one.take(slice(None)) for one in splits)
    for one in splits:
        if isinstance(one, StoredSplit):
            one.store.release()
    return replace(task, train=train, valid=valid, test=test)


def pad(rows: Sequence[Values | None], known: ModalityCard) -> tuple[NDArray[Any], Bools | None]:
    """Stack the values of one modality, padded with 0 to the longest; an absent one (None) is 0.

    Returns:
        Values (B, ...) float32, or float64 as in the store, and the mask (B, T), True at valid steps; None without
        steps.
    """
    axis = known.time
    lengths = np.array([0 if values is None or axis is None else values.shape[axis] for values in rows], np.int64)
    longest = max(1, int(lengths.max(initial=0)))
    dtype = np.float64 if known.dtype == "float64" else np.float32
    out = np.zeros((len(rows), *(longest if size is None else size for size in known.shape)), dtype)
    for row, values in enumerate(rows):
        if values is not None:
            place: list[Any] = [row] if axis is None else [row, *[slice(None)] * axis, slice(lengths[row])]
            out[tuple(place)] = values
    return out, None if axis is None else np.arange(longest) < lengths[:, None]
