"""From the arrays of a part to tensors, and the order in which training sees them.

Axis letters: N instances of a part, B of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from concord.data.part import AnyPart, Part


@dataclass(frozen=True)
class Tensors:
    """A part, or a batch of it, as tensors.

    Args:
        inputs: modality -> (N, ...).
        labels: (N,).
        masks: modality -> bool (N, T).
        present: modality -> bool (N,).
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    masks: dict[str, Tensor]
    present: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor | slice) -> Tensors:
        """Return the instances at `rows`."""
        return Tensors(
            inputs={name: x[rows] for name, x in self.inputs.items()},
            labels=self.labels[rows],
            masks={name: mask[rows] for name, mask in self.masks.items()},
            present={name: here[rows] for name, here in self.present.items()},
        )

    def to(self, device: torch.device | str) -> Tensors:
        """Return the instances on `device`."""
        return Tensors(
            inputs={name: x.to(device) for name, x in self.inputs.items()},
            labels=self.labels.to(device),
            masks={name: mask.to(device) for name, mask in self.masks.items()},
            present={name: here.to(device) for name, here in self.present.items()},
        )

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))


def to_tensors(part: Part) -> Tensors:
    """Return a part's arrays as tensors on the CPU; nothing is copied."""
    return Tensors(
        inputs={name: torch.from_numpy(x) for name, x in part.inputs.items()},
        labels=torch.from_numpy(part.labels),
        masks={name: torch.from_numpy(mask) for name, mask in part.masks.items()},
        present={name: torch.from_numpy(here) for name, here in part.present.items()},
    )


@dataclass(frozen=True)
class ReadTensors:
    """A part that is read as it is asked for; has what training and validation use of `Tensors`.

    Args:
        part: what is read.
        device: where what was read goes.
    """

    part: AnyPart
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.part)

    @property
    def labels(self) -> Tensor:
        """Labels (N,)."""
        return torch.from_numpy(self.part.labels).to(self.device)

    def take(self, rows: Tensor | slice) -> Tensors:
        """Return the instances at `rows`."""
        chosen = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return to_tensors(self.part.take(chosen)).to(self.device)

    def to(self, device: torch.device | str) -> ReadTensors:
        """Return the same instances, to go to `device`."""
        return ReadTensors(self.part, device)

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, at most `size` at a time."""
        for piece in self.part.pieces():
            yield from to_tensors(piece).to(self.device).chunks(size)


AnyTensors = Tensors | ReadTensors


def open_tensors(part: AnyPart) -> AnyTensors:
    """Return a part as tensors: those in memory, or those that will be read."""
    return to_tensors(part) if isinstance(part, Part) else ReadTensors(part)


def endless_rows(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield index tensors without end: each epoch a new order, cut into batches, the short rest left out.

    >>> rows = endless_rows(5, 2, torch.Generator().manual_seed(0))
    >>> len(torch.unique(torch.cat([next(rows), next(rows)])))
    4
    """
    size = min(batch, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]
