"""Do the unfinished jobs of a study in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from concordant.study.experiment import Execution
from concordant.training.processes import Job, run_all


def do_missing(
    jobs: Sequence[Job],
    known: Callable[[Job], bool],
    work: Callable[[Job], dict[str, Any]],
    how: Execution,
    line: Callable[[Job], str],
) -> list[tuple[Job, str]]:
    """Do the jobs that are not done yet; return those that failed, each with a sentence.

    Args:
        jobs: all of them.
        known: whether a job is done.
        work: does a job, in a worker process.
        how: with the number of processes, and the function that is called after each job.
        line: the line of progress of a job.
    """
    todo = [job for job in jobs if not known(job)]
    count = len(jobs) - len(todo)

    def done(job: Job, _: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if how.progress is not None:
            how.progress(count, len(jobs), line(job))

    return run_all(todo, work, processes=how.jobs, done=done)
