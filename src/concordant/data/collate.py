"""From instances of the store to padded batches; nothing is sorted, nothing is dropped.

Axis letters: B batch, T the most steps of an instance of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from concordant.data.card import Card, ModalityCard
from concordant.data.store import Instance, Values
from concordant.errors import UsageError


@dataclass(frozen=True)
class Padded:
    """A batch of instances, in the order in which they came.

    Args:
        inputs: modality -> float32 (B, ...) in its layout; 0 at padded steps and where the modality is absent.
        masks: modality -> bool (B, T), True at valid steps; modalities without steps have no entry.
        present: modality -> bool (B,).
        labels: int64 (B,), float32 (B,), or for segments int64 (B, T) with -1 at padded ones.
        ids: of the instances.
    """

    inputs: dict[str, Tensor]
    masks: dict[str, Tensor]
    present: dict[str, Tensor]
    labels: Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Padded:
        """Return the batch on `device`."""
        inputs, masks, present = (
            {name: x.to(device, non_blocking=non_blocking) for name, x in part.items()}
            for part in (self.inputs, self.masks, self.present)
        )
        labels = self.labels.to(device, non_blocking=non_blocking)
        return replace(self, inputs=inputs, masks=masks, present=present, labels=labels)

    def pin_memory(self) -> Padded:
        """Return the batch in pinned memory; what DataLoader calls with `pin_memory=True`."""
        inputs, masks, present = (
            {name: x.pin_memory() for name, x in part.items()} for part in (self.inputs, self.masks, self.present)
        )
        return replace(self, inputs=inputs, masks=masks, present=present, labels=self.labels.pin_memory())


@dataclass(frozen=True)
class Collate:
    """Pads instances to the longest of their batch: what DataLoader takes as `collate_fn`.

    Args:
        card: of the dataset.

    Raises:
        UsageError: there are no instances.
    """

    card: Card

    def __call__(self, instances: Sequence[Instance]) -> Padded:
        """Return the instances as one batch."""
        if not instances:
            raise UsageError("a batch needs one instance or more")
        inputs, masks, present = {}, {}, {}
        for name, known in self.card.modalities.items():
            rows = [instance.features[name] for instance in instances]
            inputs[name], mask = _pad(rows, known)
            present[name] = torch.tensor([values is not None for values in rows])
            if mask is not None:
                masks[name] = mask
        labels = self._labels(instances)
        return Padded(inputs, masks, present, labels, tuple(instance.id for instance in instances))

    def _labels(self, instances: Sequence[Instance]) -> Tensor:
        if self.card.label.kind == "segments":
            rows = [torch.as_tensor(np.array(instance.label)) for instance in instances]
            return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        dtype = torch.float32 if self.card.label.kind == "real" else torch.int64
        return torch.tensor([instance.label for instance in instances], dtype=dtype)


def _pad(rows: Sequence[Values | None], known: ModalityCard) -> tuple[Tensor, Tensor | None]:
    """Return the values of one modality (B, ...) and, where it has steps, their mask (B, T)."""
    axis = known.time
    if axis is None:
        out = np.zeros((len(rows), *(size or 0 for size in known.shape)), np.float32)
        for row, values in enumerate(rows):
            if values is not None:
                out[row] = values
        return torch.from_numpy(out), None
    lengths = [0 if values is None else values.shape[axis] for values in rows]
    longest = max(1, *lengths)
    out = np.zeros((len(rows), *(longest if size is None else size for size in known.shape)), np.float32)
    for row, values in enumerate(rows):
        if values is not None:
            place: tuple[int | slice, ...] = (row, *(slice(None),) * axis, slice(lengths[row]))
            out[place] = values
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return torch.from_numpy(out), mask
