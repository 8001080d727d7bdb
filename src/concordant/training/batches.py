"""Splits and batches as tensors, read ahead where they are on disk, and the order in which training sees them.

Axis letters: N instances of a split, B of a batch.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from concordant.data.split import AnySplit, Split

CHUNK_BYTES = 32 << 20  # of inputs that a chunk of a lazy split holds
AHEAD, AHEAD_BYTES = 4, 256 << 20  # batches that are read ahead, and their bytes if that is less; at least one
Rows = TypeVar("Rows")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Tensors:
    """A split, or a batch of it, as tensors.

    Args:
        inputs: modality -> (N, ...).
        labels: (N,).
        masks: modality -> bool (N, T).
        present: modality -> bool (N,).
        weights: of the instances (N,); None = 1.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    masks: dict[str, Tensor]
    present: dict[str, Tensor]
    weights: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def each(self, change: Callable[[Tensor], Tensor]) -> Tensors:
        """Return the instances with every tensor changed."""

        def of(named: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: change(x) for name, x in named.items()}

        weights = None if self.weights is None else change(self.weights)
        return Tensors(of(self.inputs), change(self.labels), of(self.masks), of(self.present), weights)

    def take(self, rows: Tensor | slice) -> Tensors:
        """Return the instances at `rows`."""
        return self.each(lambda x: x[rows])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Tensors:
        """Return the instances on `device`; `non_blocking` does not wait for a copy from pinned memory."""
        return self.each(lambda x: x.to(device, non_blocking=non_blocking))

    @property
    def most(self) -> int:
        """Largest number of instances in a chunk: all, since they are in memory."""
        return max(1, len(self))

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, `size` at a time."""
        yield from self.batches(slices(len(self), size))

    def batches(self, rows: Iterable[Tensor | slice], clock: Clock | None = None) -> Generator[Tensors, None, None]:
        """Yield the instances at each of `rows`; `clock` measures the time that taking them needs."""
        clock = Clock() if clock is None else clock
        for one in rows:
            with clock.running():
                batch = self.take(one.to(self.labels.device) if isinstance(one, Tensor) else one)
            yield batch


def to_tensors(split: Split) -> Tensors:
    """Return a split's arrays as tensors on the CPU that share their memory."""
    inputs, masks, present = (
        {name: torch.from_numpy(x) for name, x in arrays.items()}
        for arrays in (split.inputs, split.masks, split.present)
    )
    return Tensors(inputs, torch.from_numpy(split.labels), masks, present)


@dataclass(frozen=True)
class LazyTensors:
    """Lazily loaded split with what training and validation use of `Tensors`.

    Args:
        split: in a store on disk.
        device: where batches go.
    """

    split: AnySplit
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> Tensor:
        """Labels (N,)."""
        return torch.from_numpy(self.split.labels).to(self.device)

    def take(self, rows: Tensor | slice) -> Tensors:
        """Return the instances at `rows`."""
        return self._read(rows).to(self.device)

    def to(self, device: torch.device | str) -> LazyTensors:
        """Return the split with batches on `device`."""
        return LazyTensors(self.split, device)

    @property
    def most(self) -> int:
        """Largest number of instances in a chunk: 32 MiB of them, at least 64."""
        return max(64, CHUNK_BYTES // max(1, self._bytes))

    def chunks(self, size: int) -> Iterator[Tensors]:
        """Yield the instances in order, at most `size` at a time and no more than `most`."""
        yield from self.batches(slices(len(self), min(size, self.most)))

    def batches(self, rows: Iterable[Tensor | slice], clock: Clock | None = None) -> Generator[Tensors, None, None]:
        """Yield the instances at each of `rows`, read ahead; `clock` measures the time spent waiting for them.

        At most 4 batches and 256 MiB are held. Batches that go to a CUDA device are pinned.
        """
        pinned = torch.device(self.device).type == "cuda"

        def read(one: Tensor | slice) -> Tensors:
            return self._read(one).each(lambda x: x.pin_memory()) if pinned else self._read(one)

        remaining = iter(rows)
        first = next(remaining, slice(0))
        size = len(range(len(self))[first]) if isinstance(first, slice) else len(first)
        rest = itertools.chain([first], remaining) if size else remaining
        with closing(read_ahead(read, rest, depth_of(size * self._bytes), clock or Clock())) as ahead:
            for batch in ahead:
                yield batch.to(self.device, non_blocking=pinned)

    @property
    def _bytes(self) -> int:
        """Bytes of an instance, padded to the longest."""
        return 4 * sum(math.prod(shape) for shape in self.split.shapes.values())

    def _read(self, rows: Tensor | slice) -> Tensors:
        return to_tensors(self.split.take(rows.cpu().numpy() if isinstance(rows, Tensor) else rows))


AnyTensors = Tensors | LazyTensors


def open_tensors(split: AnySplit) -> AnyTensors:
    """Return a split as tensors: in memory if the split is, else lazily loaded."""
    return to_tensors(split) if isinstance(split, Split) else LazyTensors(split)


class Clock:
    """Sum of the time spent waiting for data, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def depth_of(batch_bytes: int) -> int:
    """Return how many batches of this size are read ahead: 4, or as many as 256 MiB hold, at least one.

    >>> depth_of(1 << 20), depth_of(100 << 20), depth_of(1 << 30)
    (4, 2, 1)
    """
    return max(1, min(AHEAD, AHEAD_BYTES // max(1, batch_bytes)))


def read_ahead(
    read: Callable[[Rows], Read], rows: Iterable[Rows], depth: int, clock: Clock
) -> Generator[Read, None, None]:
    """Yield `read(one)` for each of `rows`, in order, with `depth` of them read in advance by a thread.

    A thread suffices: reading copies from memory-mapped files, which releases the interpreter, and needs no transfer.

    Args:
        read: called in the thread, one call at a time.
        rows: may be endless; consumed in the caller's thread, `depth` ahead of what is yielded.
        depth: 1 or more.
        clock: runs while the caller waits.
    """
    waiting: deque[Future[Read]] = deque()

    def first() -> Read:
        future = waiting.popleft()
        with clock.running():
            return future.result()

    pool = ThreadPoolExecutor(1, thread_name_prefix="concordant-reading")
    try:
        for one in rows:
            waiting.append(pool.submit(read, one))
            if len(waiting) > depth:
                yield first()
        while waiting:
            yield first()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def slices(count: int, size: int) -> Iterator[slice]:
    """Yield the rows of `count` instances in order, `size` at a time; the last slice may be shorter."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


@dataclass(frozen=True)
class Chunk:
    """A process's rows of one chunk of a batch.

    Args:
        rows: rows of the whole batch.
        counts: number of rows of the chunk per process.
        weight: the chunk's share of the batch's instances, in (0, 1].
    """

    rows: slice
    counts: tuple[int, ...]
    weight: float


def split_batch(count: int, *, chunks: int = 1, rank: int = 0, size: int = 1) -> list[Chunk]:
    """Return a process's rows of each chunk of a batch of `count` instances; all processes share every chunk.

    >>> [(chunk.rows, chunk.counts) for chunk in split_batch(5, chunks=2, rank=1, size=2)]
    [(slice(1, 2, None), (1, 1)), (slice(3, 5, None), (1, 2))]
    """

    def ends(length: int, shares: int) -> list[int]:  # shares differ by one row at most
        return [length * share // shares for share in range(shares + 1)]

    found = []
    for start, stop in itertools.pairwise(ends(count, chunks)):
        own = ends(stop - start, size)
        counts = tuple(b - a for a, b in itertools.pairwise(own))
        found.append(Chunk(slice(start + own[rank], start + own[rank + 1]), counts, (stop - start) / count))
    return found


def rows_of(order: Iterable[Tensor], chunks: Sequence[Chunk]) -> Iterator[Tensor]:
    """Yield a process's rows of each chunk of each batch."""
    for rows in order:
        for chunk in chunks:
            yield rows[chunk.rows]


def endless_rows(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield row indices without end: each epoch in a new order, cut into batches, without the short rest.

    >>> rows = endless_rows(5, 2, torch.Generator().manual_seed(0))
    >>> len(torch.unique(torch.cat([next(rows), next(rows)])))
    4
    """
    size = min(batch, count)
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]
