"""Runs that several processes train together, one run after another; the first process does all the rest.

Concordant starts the processes itself, or finds itself started by torchrun or srun. The first process alone stresses,
writes and prints; the others train along, run by run, in the order that the first one tells them.
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
from concordant.training.paired import Job, start_worker

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Trains a job in this process of several, and in the first one returns the run's entry.
Work = Callable[[Job, "Fabric"], dict[str, Any]]
Done = Callable[[Job, dict[str, Any]], None]
Failures = list[tuple[Job, str]]

_ASK = 0.2  # seconds from one look at the processes to the next
_LAST = 10.0  # seconds in which what a finished process has sent must arrive


def spawn_all(jobs: Sequence[Job], work: Work, devices: Devices, *, done: Done) -> Failures:
    """Start as many processes as there are devices, do all jobs in them, and return those that failed.

    Args:
        jobs: what is to be done, in this order.
        work: a function at the top level of a module.
        devices: where; more than one.
        done: called here with each finished job and what `work` returned in the first process.

    Raises:
        ConcordantError: a process died.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port
    from torch import multiprocessing
    from torch.multiprocessing.spawn import start_processes

    if not jobs:
        return []
    results = multiprocessing.get_context("spawn").Queue()
    # PyTorch tells every process of a performance hint about parameters that are used after all.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    processes = start_processes(  # type: ignore[no-untyped-call]
        _rank,
        args=(devices.devices, find_free_network_port(), list(jobs), work, devices, results),
        nprocs=devices.devices,
        join=False,
        start_method="spawn",
    )
    try:
        return _collected(jobs, processes, results, done)
    finally:
        for process in processes.processes:
            process.terminate()  # none is left unless something went wrong here


class Crew:
    """The processes that torchrun or srun started, as one of them sees them.

    Args:
        devices: where they train.
    """

    def __init__(self, devices: Devices) -> None:
        torch.set_num_threads(1)
        self.fabric = devices.fabric()
        # At the very end: torchrun's processes connect once, however many studies follow one another.
        atexit.register(_part)
        self._told = False

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return bool(self.fabric.is_global_zero)

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Send the others home if the block ends before they were told what to do."""
        try:
            yield
        finally:
            if not self._told:
                self._tell([])

    def lead(self, jobs: Sequence[Job], work: Work, *, done: Done) -> Failures:
        """Do jobs together with the others, and return those that failed.

        Args:
            jobs: what is to be done, in this order; some of those that the others know.
            work: what is done with each.
            done: called with each finished job and what `work` returned.
        """
        self._tell([str(job.folder) for job in jobs])
        failures: Failures = []
        for job in jobs:
            _note(job, _tried(job, work, self.fabric), failures, done)
        return failures

    def follow(self, known: Sequence[Job], work: Work) -> None:
        """Train along: do those of the known jobs that the first process says; what fails is its to say."""
        by_folder = {str(job.folder): job for job in known}
        for folder in self.fabric.broadcast([]):
            _tried(by_folder[folder], work, self.fabric)

    def _tell(self, folders: list[str]) -> None:
        self._told = True
        self.fabric.broadcast(folders)


def check_together(
    devices: Devices, configs: Sequence[Config], jobs: int | None, dynamics: int | None, checkpoint_every: int | None
) -> None:
    """Refuse what does not go together with several devices, parts or checkpoints.

    Raises:
        UsageError: all faults at once.
    """
    faults = []
    for config in configs:
        try:
            devices.check(min(config.of(variant).recipe.batch for variant in config.variants))
        except UsageError as error:
            faults += [fault for fault in str(error).split("; ") if fault not in faults]
        if devices.sharded and config.method != "none":
            faults.append(f"--method {config.method} looks at what fsdp keeps in pieces; use --strategy ddp")
    if checkpoint_every is not None and checkpoint_every < 1:
        faults.append(f"checkpoint_every must be 1 or more, the steps between checkpoints; found {checkpoint_every}")
    if devices.size > 1 and jobs not in (None, 1):
        faults.append(f"several devices take one run after another; leave --jobs out (found {jobs})")
    if dynamics is not None and (devices.size > 1 or devices.accumulate > 1):
        faults.append(
            "--dynamics observes one process that takes each batch whole; leave --devices and --accumulate out"
        )
    if dynamics is not None and checkpoint_every is not None:
        faults.append("what --dynamics observes is in no checkpoint; leave --checkpoint-every out")
    if faults:
        raise UsageError("; ".join(dict.fromkeys(faults)))


def _rank(
    rank: int,
    size: int,
    port: int,
    jobs: Sequence[Job],
    work: Work,
    devices: Devices,
    results: Any,  # noqa: ANN401
) -> None:
    """Be one of the processes that `spawn_all` starts: look like one of torchrun's, and do all jobs."""
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
    for index, job in enumerate(jobs):
        entry = _tried(job, work, fabric)
        if fabric.is_global_zero:
            results.put((index, entry))
    fabric.barrier()
    _part()


def _tried(job: Job, work: Work, fabric: Fabric) -> dict[str, Any] | str:
    """Return the run's entry, or a sentence where it failed."""
    try:
        return work(job, fabric)
    except ConcordantError as error:
        return f"{job.variant.label}, seed {job.seed}: {error}"


def _collected(jobs: Sequence[Job], processes: Any, results: Any, done: Done) -> Failures:  # noqa: ANN401
    """Take in what the first process sends until all jobs are done and all processes have ended."""
    failures: Failures = []
    left, over = len(jobs), False
    while left or not over:
        try:
            index, entry = results.get(timeout=_LAST if over else _ASK)
        except queue.Empty:
            if over:
                raise ConcordantError("the processes ended before all runs were done; give the command again") from None
            over = _ended(processes)
            continue
        left -= 1
        _note(jobs[index], entry, failures, done)
    return failures


def _part() -> None:
    """Leave the others in good order: connections that are open at the end of a process may crash it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _note(job: Job, entry: dict[str, Any] | str, failures: Failures, done: Done) -> None:
    if isinstance(entry, str):
        failures.append((job, entry))
    else:
        done(job, entry)


def _ended(processes: Any) -> bool:  # noqa: ANN401 - what start_processes returns
    """Say whether all processes have ended well.

    Raises:
        ConcordantError: one of them has not; the others are ended then.
    """
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

    try:
        return bool(processes.join(timeout=_ASK))
    except ProcessRaisedException:
        raise  # a fault of the program: its traceback is needed
    except ProcessExitedException:
        raise ConcordantError(
            "a process that trained died (out of memory?); give the same command again to go on, with fewer --devices "
            "or a higher --accumulate if it happens again"
        ) from None
