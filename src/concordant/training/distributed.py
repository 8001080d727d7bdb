"""Runs that several processes train together: a model and its batches are shared over several devices.

Such runs go one after another: the first process decides which, and alone evaluates, writes and prints. The processes
are started here, by torchrun or by srun.
"""

from __future__ import annotations

import atexit
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from concordant.errors import ConcordantError, UsageError
from concordant.training.config import Config
from concordant.training.devices import Devices
from concordant.training.processes import Job, start_worker
from concordant.training.progress import Position, Reached, reaching
from concordant.workers import context, end_with_parent, interrupts_held

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_POLL = 0.2  # seconds between two looks at the processes
_LAST = 10.0  # seconds within which the results of finished processes must arrive

#: Trains a job in one of several processes; in the first one returns the run's entry.
Work = Callable[[Job, "Fabric"], dict[str, Any]]
Done = Callable[[Job, dict[str, Any]], None]
Failures = list[tuple[Job, str]]


class DistributedRunner:
    """The processes that torchrun or srun started, as seen from one of them.

    Args:
        devices: where they train.
    """

    def __init__(self, devices: Devices) -> None:
        torch.set_num_threads(1)
        self.fabric = devices.fabric()
        # At the very end: torchrun's processes connect once, for any number of experiments.
        atexit.register(_disconnect)
        self._sent = False

    @property
    def first(self) -> bool:
        """Whether this is the process that evaluates, writes and prints."""
        return bool(self.fabric.is_global_zero)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Release the other processes if the block ends before it has sent them jobs."""
        try:
            yield
        finally:
            if not self._sent:
                self._send([])

    def lead(self, jobs: Sequence[Job], work: Work, *, done: Done, reached: Reached | None = None) -> Failures:
        """Do jobs together with the other processes; return the failed ones, each with a sentence.

        Args:
            jobs: in this order; some of those that the other processes know.
            work: trains a job.
            done: called with each finished job and what `work` returned.
            reached: called with the positions of trainings; None = they are not sent.
        """
        self._send([str(job.folder) for job in jobs])
        failures: Failures = []
        with reaching(reached):
            for job in jobs:
                _record(job, _attempt(job, work, self.fabric), failures, done)
        return failures

    def follow(self, known: Sequence[Job], work: Work) -> None:
        """Train the jobs that the first process sends, which reports failures."""
        by_folder = {str(job.folder): job for job in known}
        for folder in self.fabric.broadcast([]):
            _attempt(by_folder[folder], work, self.fabric)

    def _send(self, folders: list[str]) -> None:
        self._sent = True
        self.fabric.broadcast(folders)


def run_distributed(
    jobs: Sequence[Job], work: Work, devices: Devices, *, done: Done, reached: Reached | None = None
) -> Failures:
    """Start one process per device and do jobs in all of them; return the failed ones, each with a sentence.

    Args:
        jobs: in this order.
        work: a function at the top level of a module.
        devices: more than one.
        done: called in this process with each finished job and what `work` returned in the first one.
        reached: called in this process with the positions of trainings; None = they are dropped.

    Raises:
        ConcordantError: a process died.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port
    from torch.multiprocessing.spawn import start_processes

    if not jobs:
        return []
    results = context().Queue()
    # PyTorch prints a performance hint about unused parameters in every process.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    with interrupts_held():
        started = start_processes(  # type: ignore[no-untyped-call]
            _work_as_rank,
            args=(devices.devices, find_free_network_port(), list(jobs), work, devices, results),
            nprocs=devices.devices,
            join=False,
            start_method="spawn",
        )
    try:
        failures: Failures = []
        left, ended = len(jobs), False
        while left or not ended:
            try:
                index, entry = results.get(timeout=_LAST if ended else _POLL)
            except queue.Empty:
                if ended:
                    raise ConcordantError(
                        "the processes ended before all runs were done; give the command again"
                    ) from None
                ended = _all_ended(started)
                continue
            if isinstance(entry, Position):
                if reached is not None:
                    reached(entry)
                continue
            left -= 1
            _record(jobs[index], entry, failures, done)
        return failures
    finally:
        for process in started.processes:
            process.terminate()  # none is left unless something went wrong here


def _work_as_rank(
    rank: int,
    size: int,
    port: int,
    jobs: Sequence[Job],
    work: Work,
    devices: Devices,
    results: Any,  # noqa: ANN401
) -> None:
    """Do all jobs in one of the processes that `run_distributed` starts, which looks like one of torchrun's."""
    end_with_parent()
    start_worker()
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        GROUP_RANK="0",
        WORLD_SIZE=str(size),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="concordant",
    )
    fabric = devices.fabric()
    first = fabric.is_global_zero
    for index, job in enumerate(jobs):
        with reaching((lambda position: results.put((None, position))) if first else None):
            entry = _attempt(job, work, fabric)
        if first:
            results.put((index, entry))
    fabric.barrier()
    _disconnect()


def _attempt(job: Job, work: Work, fabric: Fabric) -> dict[str, Any] | str:
    """Return the run's entry, or a sentence where it failed."""
    try:
        return work(job, fabric)
    except ConcordantError as error:
        return f"{job.name}: {error}"


def _record(job: Job, entry: dict[str, Any] | str, failures: Failures, done: Done) -> None:
    if isinstance(entry, str):
        failures.append((job, entry))
    else:
        done(job, entry)


def _disconnect() -> None:
    """Close the connections: those that are open at the end of a process may crash it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _all_ended(started: Any) -> bool:  # noqa: ANN401 - what start_processes returns
    """Return whether all processes have ended well.

    Raises:
        ConcordantError: one has not; the others are ended then.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        return bool(started.join(timeout=_POLL))
    except ProcessRaisedException:
        raise  # a fault of the program: its traceback is needed
    except ProcessExitedException:
        raise ConcordantError(
            "a process that trained died (out of memory?); give the same command again to go on, with fewer --devices "
            "or a higher --accumulate if it happens again"
        ) from None


def check_distributed(
    devices: Devices, configs: Sequence[Config], jobs: int | None, dynamics: int | None, checkpoint_every: int | None
) -> None:
    """Refuse options that do not go together with several devices, chunks or checkpoints.

    Raises:
        UsageError: all faults at once.
    """
    faults = []
    for config in configs:
        try:
            batch = min(config.of(variant).recipe.batch for variant in config.variants)
            devices.check(batch, method=config.method, observed=dynamics is not None)
        except UsageError as error:
            faults.append(str(error))
    if checkpoint_every is not None and checkpoint_every < 1:
        faults.append(f"checkpoint_every must be 1 or more, the steps between checkpoints; found {checkpoint_every}")
    if devices.size > 1 and jobs not in (None, 1):
        faults.append(f"several devices take one run after another; leave --jobs out (found {jobs})")
    if dynamics is not None and checkpoint_every is not None:
        faults.append("what --dynamics observes is in no checkpoint; leave --checkpoint-every out")
    if faults:
        raise UsageError("; ".join(dict.fromkeys(faults)))
