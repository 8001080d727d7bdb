"""Do the unfinished work of a study in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from concordant.study.experiment import Execution
from concordant.training.execution_plan import Unit
from concordant.training.processes import Job, run_all

Work = TypeVar("Work", Job, Unit)


def do_missing(
    units: Sequence[Work],
    known: Callable[[Work], bool],
    work: Callable[[Work], dict[str, Any]],
    how: Execution,
    line: Callable[[Work], str],
) -> Sequence[tuple[Work, str]]:
    """Do the units of work, runs or passes of several, that are not done yet; return those that failed, and why.

    Args:
        units: all of them.
        known: whether a unit is done.
        work: does a unit, in a worker process.
        how: with the number of processes, and the function that is called after each unit.
        line: the line of progress of a unit.
    """
    todo = [unit for unit in units if not known(unit)]
    count = len(units) - len(todo)

    def done(unit: Work, _: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if how.progress is not None:
            how.progress(count, len(units), line(unit))

    return run_all(todo, work, processes=how.jobs, done=done)
