"""Independent runs in a pool: one process per core.

Each process computes with one thread, so its numbers do not depend on how many run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from concordant.errors import ConcordantError
from concordant.timing import one_thread
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices
from concordant.training.progress import LOOK, Position, Reached, reaching, send_positions
from concordant.training.provenance import cores
from concordant.workers import Workers, context

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue


@dataclass(frozen=True)
class Job:
    """One run to be trained, with all that a worker process needs.

    Args:
        config: the experiment.
        variant: the calibrator, and whether training perturbs.
        seed: the run's seed.
        folder: of the run's files.
        data: the data folder, or None.
        dynamics: steps between records of training dynamics; None = no records.
        devices: where it is trained, and how batches are shared.
        checkpoint_every: steps between checkpoints; None = once a minute.
        whole: the experiment with all modalities, where the run has one alone; None = `config`.
    """

    config: Config
    variant: Variant
    seed: int
    folder: Path
    data: Path | None
    dynamics: int | None = None
    devices: Devices = field(default_factory=Devices)
    checkpoint_every: int | None = None
    whole: Config | None = None

    @property
    def name(self) -> str:
        """Beginning of a line about the run."""
        return f"{self.variant.label}, seed {self.seed}"


class Named(Protocol):
    """Work for a process: one run, or several."""

    @property
    def name(self) -> str:
        """Beginning of a line about it."""


Unit = TypeVar("Unit", bound=Named)


def default_jobs() -> int:
    """Return how many runs go at once: the cores of this process, or 1 where an accelerator is shared."""
    return 1 if torch.accelerator.is_available() else cores()


def run_all(
    jobs: Sequence[Unit],
    work: Callable[[Unit], dict[str, Any]],
    *,
    processes: int | None,
    done: Callable[[Unit, dict[str, Any]], None],
    reached: Reached | None = None,
    begin: Callable[[], object] | None = None,
) -> list[tuple[Unit, str]]:
    """Do independent jobs in a pool; return the failed ones, each with a sentence.

    A failed job does not affect the others.

    Args:
        jobs: runs, or several runs at once.
        work: a function at the top level of a module, which writes the run and returns its entry.
        processes: how many at once, 1 or more; 1 = in this process, None = `default_jobs`.
        done: called in this process with each finished job and what `work` returned.
        reached: called in this process with the positions of runs; None = they are not sent.
        begin: called at the start of every other process; it can be pickled. None = nothing.

    Raises:
        ConcordantError: a worker process died.
    """
    failures: list[tuple[Unit, str]] = []
    count = min(default_jobs() if processes is None else processes, len(jobs))
    with ExitStack() as stack:
        finished: Iterator[tuple[Unit, Callable[[], dict[str, Any]]]]
        if count <= 1:
            stack.enter_context(one_thread())
            stack.enter_context(reaching(reached))
            finished = ((job, partial(work, job)) for job in jobs)
        else:
            sent: SimpleQueue[Position] = context().SimpleQueue()
            start = partial(start_worker, None if reached is None else sent.put, begin)
            pool = stack.enter_context(Workers(count, start))
            futures = {pool.submit(work, job): job for job in jobs}
            finished = ((futures[future], future.result) for future in _as_completed(futures, sent, reached))
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


def start_worker(reached: Reached | None = None, begin: Callable[[], object] | None = None) -> None:
    """Compute with one thread, and send the positions of trainings to a function; call `begin`, if there is one."""
    torch.set_num_threads(1)
    send_positions(reached)
    if begin is not None:
        begin()


def _as_completed(
    futures: Iterable[Future[Any]], sent: SimpleQueue[Position], reached: Reached | None
) -> Iterator[Future[Any]]:
    """Yield the futures as they end; pass on what their processes send meanwhile."""
    left = set(futures)
    while left:
        ended, left = wait(left, None if reached is None else LOOK, FIRST_COMPLETED)
        while reached is not None and not sent.empty():
            reached(sent.get())
        yield from ended
