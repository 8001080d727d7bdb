"""Timing on a machine that others use too: everything to be compared takes turns, and ratios are formed turn by turn.

A ratio of two times of the same turn shares that turn's noise, and the median over turns leaves out what hit one
of the two alone. No single time is worth much; ratios are.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch


def device_clock() -> float:
    """Return the wall clock's seconds once the accelerator has done what it was given: its work is asynchronous."""
    torch.accelerator.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Spread:
    """A number measured several times.

    Args:
        median: over the repetitions.
        low: first quartile.
        high: third quartile.
    """

    median: float
    low: float
    high: float

    def record(self, name: str) -> dict[str, float]:
        """Return it under a name, for a file: `name` is the median, `name_low` and `name_high` the quartiles."""
        return {name: round(self.median, 4), f"{name}_low": round(self.low, 4), f"{name}_high": round(self.high, 4)}


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles; of a single value, that value three times.

    >>> spread([3.0, 1.0, 2.0, 5.0, 4.0])
    Spread(median=3.0, low=2.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Return the spread of values over base, turn by turn.

    >>> ratios([2.0, 9.0, 4.0], [1.0, 3.0, 2.0]).median
    2.0
    """
    return spread([value / other for value, other in zip(values, base, strict=True)])


def interleaved(
    actions: Mapping[str, Callable[[], object]],
    *,
    repetitions: int,
    calls: Mapping[str, int] | int = 1,
    warm: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds a call of each action took, one number a turn.

    In each turn every action runs once (or `calls` times in a row), and the order is turned by one from turn to
    turn, so that none always follows the same other. Garbage is collected between turns, never within.

    Args:
        actions: name -> what is timed.
        repetitions: turns that count.
        calls: how often an action is called in a turn, for all or by name; more for what is short.
        warm: turns before that, which do not count.
        clock: seconds; the wall clock, or `time.process_time` where others keep the processor busy and one thread
            does the work.
    """
    names = list(actions)
    found: dict[str, list[float]] = {name: [] for name in names}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for turn in range(warm + repetitions):
            gc.collect()
            shift = turn % len(names) if names else 0
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
        if enabled:
            gc.enable()
    return found


def calls_for(
    action: Callable[[], object],
    *,
    seconds: float,
    most: int = 1000,
    clock: Callable[[], float] | None = None,
) -> int:
    """Return how often an action fits into so many seconds, from one call after a first that warms up."""
    now = time.perf_counter if clock is None else clock
    action()
    start = now()
    action()
    took = now() - start
    return max(1, min(most, round(seconds / max(took, 1e-9))))
