"""How far runs have come: the positions of trainings, which a worker process passes on to the one that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

LOOK = 0.5  # seconds between two positions of a training

#: Called with the number of finished runs, that of all runs, and a line about the last one.
Progress = Callable[[int, int, str], None]


class Position(NamedTuple):
    """How far the work on a run, or on several in one pass, has come.

    Args:
        folder: of the run, or of the first run of a pass.
        name: beginning of a line about it.
        runs: number of runs.
        step: steps done.
        steps: all steps.
        unit: what is counted.
    """

    folder: Path
    name: str
    runs: int
    step: int
    steps: int
    unit: str = "step"

    @property
    def line(self) -> str:
        """The name and the step."""
        return f"{self.name}: {self.unit} {self.step:,} of {self.steps:,}"


Reached = Callable[[Position], object]
Within = Callable[[float, str], None]
_reached: Reached | None = None  # takes the positions of runs in this process


class Underway:
    """The positions of the unfinished runs.

    Args:
        within: called with the finished share of these runs, in runs, and a line about them; None = not shown.
        prefix: returns the beginning of the line about the run in a folder.
    """

    def __init__(self, within: Within | None, prefix: Callable[[Path], str] = lambda _: "") -> None:
        self._prefix, self._positions = prefix, dict[Path, Position]()
        #: Takes a position; None = positions need not be sent.
        self.reach: Reached | None = None if within is None else partial(self._reach, within)

    def _reach(self, within: Within, position: Position) -> None:
        self._positions[position.folder] = position
        there = self._positions.values()
        share = sum(one.runs * one.step / one.steps for one in there)
        within(share, "; ".join(f"{self._prefix(one.folder)}{one.line}" for one in there))

    def end(self, folder: Path) -> None:
        """Forget a run that is finished."""
        self._positions.pop(folder, None)


def reporter(folder: Path, name: str, runs: int = 1, unit: str = "step") -> Callable[[int, int], None]:
    """Return the `progress` of a training or an analysis, which passes its position on at most twice a second.

    The position goes where `send_positions` says, also from a worker process.
    """
    due = 0.0

    def progress(step: int, steps: int) -> None:
        nonlocal due
        if _reached is not None and (now := time.monotonic()) >= due:
            due = now + LOOK
            _reached(Position(folder, name, runs, step, steps, unit))

    return progress


def send_positions(reached: Reached | None) -> Reached | None:
    """Send the positions of trainings in this process to a function from now on; return the one before."""
    global _reached
    before, _reached = _reached, reached
    return before


@contextmanager
def reaching(reached: Reached | None) -> Iterator[None]:
    """Send the positions of trainings in this process to a function."""
    before = send_positions(reached)
    try:
        yield
    finally:
        send_positions(before)
