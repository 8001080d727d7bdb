"""The edge of every command: signals, closed pipes and faults of the system end in an exit status and one sentence.

A first SIGINT (Ctrl-C), SIGTERM or SIGHUP stops the command: worker processes are ended, finished work is kept. A
second one, or five seconds, ends the process at once. Exit status: 128 + the number of the signal.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from concordant.errors import ConcordantError, UsageError, foreign, needs_extra
from concordant.workers import end_children

GRACE = 5.0  # seconds from a first signal to the end of the process, whatever is still running
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_STOPPED = "concordant: interrupted; finished work is kept; give the same command again to go on\n"


_NO_MEMORY = re.compile("allocate memory|out of memory")  # PyTorch has no error of its own for it on the CPU
_received: list[int] = []  # signals of the command that runs


class Stopped(SystemExit):
    """A signal stopped the command. As an exit it passes through most libraries below."""


def stop_status() -> int | None:
    """Return the exit status of a command that a signal stopped, None where none came.

    Libraries may turn `Stopped` into an exception of their own (Ray does), so its type does not tell.
    """
    return 128 + _received[0] if _received else None


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command and exit.

    Exit status: 0, 1 (a job failed, a file cannot be used, output could not be written), 2 (wrong use), 128 + signal.
    The command raises ConcordantError, OSError or SystemExit, or returns.
    """
    output, errors = _tolerant(sys.stdout), _tolerant(sys.stderr)
    sys.stdout, sys.stderr = output, errors
    status = _status_of(command)
    sys.stdout.flush()
    lost = [stream.lost for stream in (output, errors) if isinstance(stream, _Output) and stream.lost is not None]
    for fault in lost:
        if not isinstance(fault, BrokenPipeError):
            sys.stderr.write(f"concordant: the output cannot be written ({fault.strerror}); the files are complete\n")
    sys.exit(1 if status == 0 and lost else status)


def _status_of(command: Callable[[], object]) -> int | str | None:
    """Run a command, write a sentence where it fails, and return the exit status."""
    _received.clear()
    try:
        _check_arguments(sys.argv[1:])
        with needs_extra("media", "this command needs"), _stoppable():  # other extras are asked for where they are used
            command()
    except BaseException as error:
        if stop_status() is not None:
            sys.stderr.write(_STOPPED)
            return stop_status()
        if isinstance(error, SystemExit):
            return 0 if error.code is None else error.code
        if isinstance(error, ConcordantError):
            sys.stderr.write(f"concordant: {error}\n")
            return 2 if isinstance(error, UsageError) else 1
        if isinstance(error, OSError):
            sys.stderr.write(f"concordant: {_sentence(error)}\n")
            return 1
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
            remedy = "finished work is kept: give the command smaller sizes, or a machine with more of it"
            sys.stderr.write(f"concordant: the memory does not suffice ({foreign(error)}); {remedy}\n")
            return 1
        raise
    return 0


def _check_arguments(arguments: list[str]) -> None:
    """Refuse arguments that are not text: a folder of such a name cannot be written into a document."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the argument {argument!r} is not valid UTF-8; rename the file or folder") from None


def _sentence(error: OSError) -> str:
    """Return a fault of the system as one sentence: which file, why, what to do."""
    reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{reason}; finished work is kept: mend this, then give the same command again to go on"


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the first signal into `Stopped`, raised in the main thread, and the second into the end of the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        status = 128 + number
        if _received:
            _end(status)
        _received.append(number)
        # A library may swallow the exception, or wait for something that never comes.
        timer = threading.Timer(GRACE, _end, [status])
        timer.daemon = True
        timer.start()
        raise Stopped(status)

    if threading.current_thread() is not threading.main_thread():  # signals cannot be handled elsewhere
        yield
        return
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(status: int) -> None:
    """End the worker processes and this one at once."""
    end_children()
    os.write(2, _STOPPED.encode())
    os._exit(status)


class _Output(io.TextIOWrapper):
    """A standard stream that may fail (`| head`, a full disk) without stopping the command: later text is dropped.

    Characters that the encoding of the stream lacks are replaced.
    """

    lost: OSError | None = None  # the fault, where text was dropped

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        self.lost = self.lost or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def _tolerant(stream: TextIO) -> TextIO:
    """Return a standard stream as `_Output`; other streams (a notebook's, a test's) are returned as they are."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, line_buffering = stream.encoding, stream.line_buffering
    return _Output(stream.detach(), encoding=encoding, errors="replace", line_buffering=line_buffering)
