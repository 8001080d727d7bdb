"""Runs in several processes: independent runs in a pool, or runs that all processes train together.

Independent runs go to one process per core. Each computes with one thread, so its numbers do not depend on how many
run beside it. Runs that share a model and its batches over several devices (distributed runs) go one after another:
the first process decides which, and alone evaluates, writes and prints. Their processes are started here, by torchrun
or by srun.
"""

from __future__ import annotations

import atexit
import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import torch

from concordant.errors import ConcordantError, UsageError
from concordant.training.config import Config, Variant
from concordant.training.devices import Devices
from concordant.training.provenance import cores
from concordant.workers import Workers, context, end_with_parent, interrupts_held

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from lightning_fabric import Fabric

_LOOK = 0.5  # seconds between two positions of a training
_POLL = 0.2  # seconds between two looks at the processes
_LAST = 10.0  # seconds within which the results of finished processes must arrive


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
#: Trains a job in one of several processes; in the first one returns the run's entry.
Work = Callable[[Job, "Fabric"], dict[str, Any]]
Done = Callable[[Job, dict[str, Any]], None]
Failures = list[tuple[Job, str]]
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

    The position goes to `reached` of the functions below, also from a worker process.
    """
    due = 0.0

    def progress(step: int, steps: int) -> None:
        nonlocal due
        if _reached is not None and (now := time.monotonic()) >= due:
            due = now + _LOOK
            _reached(Position(folder, name, runs, step, steps, unit))

    return progress


@contextmanager
def _reaching(reached: Reached | None) -> Iterator[None]:
    """Send the positions of trainings in this process to a function."""
    global _reached
    before, _reached = _reached, reached
    try:
        yield
    finally:
        _reached = before


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
    failures, threads = [], torch.get_num_threads()
    count = min(default_jobs() if processes is None else processes, len(jobs))
    with ExitStack() as stack:
        finished: Iterator[tuple[Unit, Callable[[], dict[str, Any]]]]
        if count <= 1:
            stack.callback(torch.set_num_threads, threads)
            torch.set_num_threads(1)
            stack.enter_context(_reaching(reached))
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
    global _reached
    torch.set_num_threads(1)
    _reached = reached
    if begin is not None:
        begin()


def _as_completed(
    futures: Iterable[Future[Any]], sent: SimpleQueue[Position], reached: Reached | None
) -> Iterator[Future[Any]]:
    """Yield the futures as they end; pass on what their processes send meanwhile."""
    left = set(futures)
    while left:
        ended, left = wait(left, None if reached is None else _LOOK, FIRST_COMPLETED)
        while reached is not None and not sent.empty():
            reached(sent.get())
        yield from ended


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
        with _reaching(reached):
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
        with _reaching((lambda position: results.put((None, position))) if first else None):
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
