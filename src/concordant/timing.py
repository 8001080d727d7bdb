"""Times of functions that are compared on a shared machine.

Everything that is compared takes turns, and ratios are formed within a turn: both times of a ratio meet the same noise,
and the median over turns removes what affected only one of them.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

Clock = Callable[[], float]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute a block with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def ratios(values: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return values over base, turn by turn.

    >>> ratios([2.0, 9.0, 4.0], [1.0, 3.0, 2.0])
    [2.0, 3.0, 2.0]
    """
    return [value / other for value, other in zip(values, base, strict=True)]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Return `name` (median), `name_low` and `name_high` (quartiles), rounded; a single value stands for all three.

    >>> spread("ratio", [3.0, 1.0, 2.0, 5.0, 4.0])
    {'ratio': 3.0, 'ratio_low': 2.0, 'ratio_high': 4.0}
    """
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {name: round(median, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    *,
    repetitions: int,
    calls: Mapping[str, int] | int = 1,
    warm: int = 2,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Return action -> seconds per call, one value per turn.

    In each turn every action runs once (or `calls` times in a row). The order rotates from turn to turn, which keeps an
    action from always following the same other one. Garbage is collected between turns, never within.

    Args:
        actions: name -> function to time.
        repetitions: turns that count.
        calls: calls per turn, for all actions or by name; more for short ones.
        warm: turns before these, which do not count.
        clock: returns seconds; `time.process_time` where other programs keep the processor busy.
    """
    names = list(actions)
    found: dict[str, list[float]] = {name: [] for name in names}
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()  # what is there already needs no look at every turn
    try:
        for turn in range(warm + repetitions):
            gc.collect()
            shift = turn % max(1, len(names))
            for name in (*names[shift:], *names[:shift]):
                count = calls if isinstance(calls, int) else calls[name]
                action = actions[name]
                start = clock()
                for _ in range(count):
                    action()
                took = (clock() - start) / count
                if turn >= warm:
                    found[name].append(took)
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return found


def calls_for(
    action: Callable[[], object], *, seconds: float, most: int = 1000, clock: Clock = time.perf_counter
) -> int:
    """Return how many calls fit into `seconds`, from one timed call after one that warms up."""
    action()
    start = clock()
    action()
    return max(1, min(most, round(seconds / max(clock() - start, 1e-9))))


def clock_of(device: str) -> Clock:
    """Return processor time on the CPU, which excludes other programs, else `device_clock`."""
    return time.process_time if device == "cpu" else device_clock


def device_clock() -> float:
    """Return wall-clock seconds after the accelerator has finished its queue: its work is asynchronous."""
    torch.accelerator.synchronize()
    return time.perf_counter()
