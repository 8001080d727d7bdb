"""Worker processes that end with the command, with their parent, and at once when the command is interrupted."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers(ProcessPoolExecutor):
    """A pool of processes, for use in a `with` block.

    They receive no Ctrl-C, which a terminal sends to every process of a command: the parent decides. They end with the
    parent, even if that is killed. If the block ends by an interruption, running work is not waited for; if it ends
    otherwise, running work is finished, and what has not begun is dropped.

    Args:
        count: of processes, 1 or more.
        start: called once in each process, before any work; a function at the top level of a module.
    """

    def __init__(self, count: int, start: Callable[[], object] | None = None) -> None:
        super().__init__(count, mp_context=context(), initializer=partial(_begin, start))

    def submit(self, work: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Future[T]:
        """Submit work; it may start a process."""
        with interrupts_held():
            return super().submit(work, *args, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        if kind is not None and not issubclass(kind, Exception):  # KeyboardInterrupt, SystemExit, GeneratorExit
            end_children()
        self.shutdown(wait=True, cancel_futures=True)


def context() -> SpawnContext:
    """Return how processes are started, "spawn": forked threads, of PyTorch or of codecs, may hang.

    The process of multiprocessing that removes semaphores after an abrupt end (a second Ctrl-C) is started here,
    without the warning that it prints then: they are expected, and removed.
    """
    if os.name == "posix":
        from multiprocessing.resource_tracker import ensure_running

        name = "PYTHONWARNINGS"  # the process inherits it
        before = os.environ.get(name)
        os.environ[name] = ",".join(filter(None, [before, "ignore:resource_tracker:UserWarning"]))
        try:
            ensure_running()
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before
    return multiprocessing.get_context("spawn")


def end_children() -> None:
    """Kill the processes that this one started through multiprocessing."""
    for process in multiprocessing.active_children():
        process.kill()


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back Ctrl-C: processes started in the block never receive it, this one does after the block."""
    if not hasattr(signal, "pthread_sigmask"):  # not a POSIX system
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Watch the parent process from a thread, and end this one when it ends."""
    parent = multiprocessing.parent_process()

    def watch(sentinel: Any) -> None:  # noqa: ANN401 - a handle of the system
        wait([sentinel])
        os._exit(1)  # at once: unfinished work does not count

    if parent is not None:
        threading.Thread(target=watch, args=[parent.sentinel], daemon=True).start()


def _begin(start: Callable[[], object] | None) -> None:
    end_with_parent()
    if start is not None:
        start()
