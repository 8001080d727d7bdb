"""Paired runs: for every seed, every variant on the same split, weights, batches and perturbations.

Runs are independent, so they go to as many processes as there are cores. Each computes with one thread, so
that its numbers do not depend on how many run beside it.
What is done with a trained run (the stress test) is the caller's: the layer above hands it in.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from concordant.errors import ConcordantError
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices


@dataclass(frozen=True)
class Job:
    """One run to be done, with all that a worker process needs to know.

    Args:
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: the run's seed.
        folder: where the run's files go.
        data: the data folder, or None.
        dynamics: training is observed every so many steps; None = not at all.
        devices: where it is trained, and how batches are shared.
        checkpoint_every: steps from one checkpoint of the training to the next; None = none are written.
    """

    config: Config
    variant: Variant
    seed: int
    folder: Path
    data: Path | None
    dynamics: int | None = None
    devices: Devices = field(default_factory=Devices)
    checkpoint_every: int | None = None

    @property
    def name(self) -> str:
        """How a line about it begins."""
        return f"{self.variant.label}, seed {self.seed}"


class Named(Protocol):
    """What is handed to a worker process: a run, or several."""

    @property
    def name(self) -> str:
        """How a line about it begins."""


Unit = TypeVar("Unit", bound=Named)


def default_jobs() -> int:
    """Return how many runs go at once: the cores this process may use, or 1 where an accelerator is shared."""
    if torch.accelerator.is_available():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    jobs: Sequence[Unit],
    work: Callable[[Unit], dict[str, Any]],
    *,
    processes: int,
    done: Callable[[Unit, dict[str, Any]], None],
) -> list[tuple[Unit, str]]:
    """Do all jobs; return those that failed, each with a sentence.

    A job that fails leaves the others alone. `done` is called here, in this process, as jobs finish.

    Args:
        jobs: what is to be done, runs or several runs at once.
        work: a function at the top level of a module, which writes the run and returns its entry.
        processes: how many at once, 1 or more; 1 = in this process.
        done: called with each finished job and what `work` returned.

    Raises:
        ConcordantError: a worker process died.
    """
    failures = []
    with _submitted(jobs, work, min(processes, len(jobs))) as finished:
        for job, result in finished:
            try:
                done(job, result())
            except BrokenProcessPool:
                raise ConcordantError(
                    "a worker process died (out of memory?); give the same command again to go on, "
                    "with --jobs 1 if it happens again"
                ) from None
            except ConcordantError as error:
                failures.append((job, f"{job.name}: {error}"))
    return failures


@contextmanager
def _submitted(
    jobs: Sequence[Unit], work: Callable[[Unit], dict[str, Any]], processes: int
) -> Iterator[Iterator[tuple[Unit, Callable[[], dict[str, Any]]]]]:
    """Hand the jobs out; yield each with a call that gives its result, in the order in which they finish."""
    if processes <= 1:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield ((job, partial(work, job)) for job in jobs)
        finally:
            torch.set_num_threads(threads)
        return
    # "spawn": a forked PyTorch may hang in its thread pool.
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
    )
    try:
        futures: dict[Future[dict[str, Any]], Unit] = {pool.submit(work, job): job for job in jobs}
        yield ((futures[future], future.result) for future in as_completed(futures))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker() -> None:
    """Compute with one thread, and end when the parent process does, even if it was killed."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)  # at once: a run that is not whole does not count
