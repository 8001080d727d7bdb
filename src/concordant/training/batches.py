"""From the arrays of a part to tensors, and the order in which training sees them.

Axis letters: N instances of a part, B of a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import Tensor

from concordant.data.split import AnySplit, Split
from concordant.training.prefetch import Clock, depth_of, read_ahead

PIECE = 32 << 20  # bytes of inputs that are read at a time where nobody says how many instances


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

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Tensors:
        """Return the instances on `device`; from pinned memory without waiting for the copy, if asked to."""
        return self.each(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Tensors:
        """Return the instances in memory that an accelerator copies from by itself."""
        return self.each(lambda x: x.pin_memory())

    @property
    def most(self) -> int:
        """How many instances are taken at a time at the most: all, since they are in memory."""
        return max(1, len(self))

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, `size` at a time."""
        yield from self.batches(slices(len(self), size))

    def batches(self, rows: Iterable[Tensor | slice], clock: Clock | None = None) -> Generator[Tensors, None, None]:
        """Yield the instances at each of `rows`; `clock` runs while they are put together."""
        clock = Clock() if clock is None else clock
        for one in rows:
            with clock.running():
                batch = self.take(one.to(self.labels.device) if isinstance(one, Tensor) else one)
            yield batch

    def each(self, change: Callable[[Tensor], Tensor]) -> Tensors:
        """Return the instances with every tensor changed."""
        return Tensors(
            inputs={name: change(x) for name, x in self.inputs.items()},
            labels=change(self.labels),
            masks={name: change(mask) for name, mask in self.masks.items()},
            present={name: change(here) for name, here in self.present.items()},
        )


def to_tensors(part: Split) -> Tensors:
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

    part: AnySplit
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.part)

    @property
    def labels(self) -> Tensor:
        """Labels (N,)."""
        return torch.from_numpy(self.part.labels).to(self.device)

    def take(self, rows: Tensor | slice) -> Tensors:
        """Return the instances at `rows`."""
        return self._read(rows).to(self.device)

    def to(self, device: torch.device | str) -> ReadTensors:
        """Return the same instances, to go to `device`."""
        return ReadTensors(self.part, device)

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, at most `size` at a time and no more than memory should hold."""
        yield from self.batches(slices(len(self), min(size, self.most)))

    @property
    def most(self) -> int:
        """How many instances are read at a time at the most: 32 MiB of them, but 64 at the least."""
        return max(64, PIECE // max(1, self._bytes))

    def batches(self, rows: Iterable[Tensor | slice], clock: Clock | None = None) -> Generator[Tensors, None, None]:
        """Yield the instances at each of `rows`, which are read ahead; `clock` runs while they are waited for.

        A few batches are held at a time, 256 MiB at the most. Those that go to a CUDA device are pinned.
        """
        clock = Clock() if clock is None else clock
        pinned = torch.device(self.device).type == "cuda"

        def read(one: Tensor | slice) -> Tensors:
            return self._read(one).pin_memory() if pinned else self._read(one)

        first, rest = _peeked(rows)
        size = 0 if first is None else len(range(len(self))[first]) if isinstance(first, slice) else len(first)
        with closing(read_ahead(read, rest, depth_of(size * self._bytes), clock)) as ahead:
            for batch in ahead:
                yield batch.to(self.device, non_blocking=pinned)

    @property
    def _bytes(self) -> int:
        """Bytes of an instance, padded to the longest."""
        return 4 * sum(math.prod(shape) for shape in self.part.shapes.values())

    def _read(self, rows: Tensor | slice) -> Tensors:
        return to_tensors(self.part.take(rows.cpu().numpy() if isinstance(rows, Tensor) else rows))


AnyTensors = Tensors | ReadTensors


def open_tensors(part: AnySplit) -> AnyTensors:
    """Return a part as tensors: those in memory, or those that will be read."""
    return to_tensors(part) if isinstance(part, Split) else ReadTensors(part)


def slices(count: int, size: int) -> Iterator[slice]:
    """Yield the rows of `count` instances in order, `size` at a time; the last slice may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def share_of(count: int, rank: int, size: int) -> slice:
    """Return which of `count` rows are those of process `rank` of `size`; shares differ by one row at the most.

    >>> [share_of(5, rank, 2) for rank in range(2)]
    [slice(0, 2, None), slice(2, 5, None)]
    """
    return slice(count * rank // size, count * (rank + 1) // size)


@dataclass(frozen=True)
class Piece:
    """A process's rows of one part of a batch.

    Args:
        rows: which rows of the whole batch they are.
        counts: how many every process has of the part.
        weight: the part's share of the batch's instances, in (0, 1].
    """

    rows: slice
    counts: tuple[int, ...]
    weight: float


def split_batch(count: int, *, parts: int = 1, rank: int = 0, size: int = 1) -> list[Piece]:
    """Return a process's pieces of a batch of `count` instances that is cut into parts, each shared by all processes.

    >>> [(piece.rows, piece.counts) for piece in split_batch(5, parts=2, rank=1, size=2)]
    [(slice(1, 2, None), (1, 1)), (slice(3, 5, None), (1, 2))]
    """
    pieces = []
    for part in (share_of(count, place, parts) for place in range(parts)):
        length = part.stop - part.start
        shares = [share_of(length, one, size) for one in range(size)]
        own = slice(part.start + shares[rank].start, part.start + shares[rank].stop)
        pieces.append(Piece(own, tuple(share.stop - share.start for share in shares), length / count))
    return pieces


def rows_of(order: Iterable[Tensor], pieces: Sequence[Piece]) -> Iterator[Tensor]:
    """Yield a process's rows of each part of each batch."""
    for rows in order:
        for piece in pieces:
            yield rows[piece.rows]


def _peeked(rows: Iterable[Tensor | slice]) -> tuple[Tensor | slice | None, Iterator[Tensor | slice]]:
    """Return the first of `rows`, and all of them."""
    every = iter(rows)
    first = next(every, None)
    return first, every if first is None else itertools.chain([first], every)


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
