"""Reading ahead: the next batches are read in the background while the model is at work on the last one.

A thread does it, not a process: reading is copying out of memory-mapped files, which leaves the interpreter to the
model, and what was read need not be sent anywhere. Batches come in the order in which they were asked for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Asked = TypeVar("Asked")
Read = TypeVar("Read")

MOST = 4  # batches that are read ahead
MOST_BYTES = 256 << 20  # and how much of them, if that is less; one batch there always is


class Clock:
    """Adds up the time that is spent waiting for data, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def depth_of(bytes_of_batch: int) -> int:
    """Return how many batches of this size are read ahead: 4, or as many as 256 MiB hold, but one at the least.

    >>> depth_of(1 << 20), depth_of(100 << 20), depth_of(1 << 30)
    (4, 2, 1)
    """
    return max(1, min(MOST, MOST_BYTES // max(1, bytes_of_batch)))


def read_ahead(
    read: Callable[[Asked], Read], asked: Iterable[Asked], depth: int, clock: Clock
) -> Generator[Read, None, None]:
    """Yield `read(one)` for each that is asked for, in order, with `depth` of them read in advance.

    Args:
        read: called in another thread, one call at a time.
        asked: may have no end; it is drawn from in the caller's thread, `depth` ahead of what is yielded.
        depth: 1 or more.
        clock: runs while the caller waits.
    """
    waiting: deque[Future[Read]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="concordant-reading")
    try:
        for one in asked:
            waiting.append(pool.submit(read, one))
            if len(waiting) > depth:
                yield _first(waiting, clock)
        while waiting:
            yield _first(waiting, clock)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _first(waiting: deque[Future[Read]], clock: Clock) -> Read:
    future = waiting.popleft()
    with clock.running():
        return future.result()
