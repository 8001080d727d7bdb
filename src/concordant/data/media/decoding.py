"""Parallel decoding of many clips, with a cache; broken clips are reported and skipped.

A clip decoded earlier from the same files with the same parameters is read from the cache, so an interrupted run can
continue. Clips are yielded in order; only a few wait in memory.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import ConcordantError, DataError
from concordant.files import write_atomically

Arrays = dict[str, NDArray[Any]]
_WAITING = 4  # clips submitted ahead per process


@dataclass(frozen=True)
class Clip:
    """One clip to decode.

    Args:
        id: its name.
        files: to decode.
        options: plain values for the work, as pairs.
    """

    id: str
    files: tuple[Path, ...]
    options: tuple[tuple[str, Any], ...] = ()


Work = Callable[[Clip], Arrays]


def decode(
    clips: Sequence[Clip],
    work: Work,
    *,
    cache: Path,
    parameters: Mapping[str, Any],
    processes: int = 1,
    may_fail: float = 0.02,
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[tuple[Clip, Arrays | None, str | None]]:
    """Yield every clip with its arrays, or with the reason of its failure.

    Args:
        clips: in order.
        work: a function at the top level of a module (or a functools.partial of one).
        cache: folder for decoded clips.
        parameters: of the work; a change of them invalidates the cache.
        processes: that decode in parallel; 1 = this one.
        may_fail: share of all clips that may fail.
        progress: called with the clips done, all clips, and the clip's name.

    Raises:
        DataError: more clips failed than may fail.
    """
    cache.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    for done, (clip, arrays, reason) in enumerate(_decoded(clips, work, cache, parameters, processes), 1):
        if reason is not None:
            failed[clip.id] = reason
            if len(failed) > may_fail * len(clips):
                name, why = next(iter(failed.items()))
                raise DataError(
                    f"{len(failed)} of {len(clips)} clips could not be decoded, more than the "
                    f"{100 * may_fail:g} % that may fail; first: {name} ({why}); --may-fail allows more"
                )
        if progress is not None:
            progress(done, len(clips), clip.id)
        yield clip, arrays, reason


def _decoded(
    clips: Sequence[Clip], work: Work, cache: Path, parameters: Mapping[str, Any], processes: int
) -> Iterator[tuple[Clip, Arrays | None, str | None]]:
    if processes <= 1:
        for clip in clips:
            yield clip, *_result(cache, _kept(clip, work, cache, parameters))
        return
    ahead: deque[tuple[Clip, Future[tuple[str, str | None]]]] = deque()
    rest = iter(clips)
    pool = _pool(processes)
    try:
        while True:
            while len(ahead) < _WAITING * processes and (more := next(rest, None)) is not None:
                ahead.append((more, pool.submit(_kept, more, work, cache, parameters)))
            if not ahead:
                return
            clip, future = ahead.popleft()
            try:
                found = future.result()
            except BrokenProcessPool:
                # One of the submitted clips killed its process: decoded one by one, the others are kept.
                pool.shutdown(wait=False, cancel_futures=True)
                out = [clip, *(one for one, _ in ahead)]
                ahead.clear()
                for one in out:
                    yield one, *_result(cache, _alone(one, work, cache, parameters))
                pool = _pool(processes)
                continue
            yield clip, *_result(cache, found)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(processes: int) -> ProcessPoolExecutor:
    # "spawn": forked codecs and threads may hang.
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    """End when the parent process does, even if it was killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _alone(clip: Clip, work: Work, cache: Path, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
    """Decode a clip in a separate process."""
    with _pool(1) as pool:
        try:
            return pool.submit(_kept, clip, work, cache, parameters).result()
        except BrokenProcessPool:
            return "", "the process that decoded it died (a broken codec, or out of memory)"


def _kept(clip: Clip, work: Work, cache: Path, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
    """Decode a clip unless it is cached; return its file in the cache, or the reason of its failure."""
    try:
        name = f"{_key(clip, parameters)}.npz"
        if not (cache / name).exists():
            arrays = work(clip)
            write_atomically(cache / name, lambda temporary: _save(temporary, arrays))
    except ConcordantError as error:
        return "", str(error)
    except Exception as error:  # codecs raise anything; only this clip fails
        return "", f"{type(error).__name__}: {error}"
    return name, None


def _save(path: Path, arrays: Arrays) -> None:
    with path.open("wb") as opened:
        np.savez(opened, **arrays)  # type: ignore[arg-type]


def _key(clip: Clip, parameters: Mapping[str, Any]) -> str:
    """Return the name of a decoded clip in the cache: a hash of its files, options and parameters."""
    files = []
    for file in clip.files:
        try:
            status = file.stat()
        except OSError:
            raise DataError(f"{file} is not there") from None
        files.append([file.name, status.st_size, status.st_mtime_ns])
    about = json.dumps([clip.id, files, clip.options, dict(parameters)], sort_keys=True, default=str)
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _result(cache: Path, kept: tuple[str, str | None]) -> tuple[Arrays | None, str | None]:
    """Return the arrays of a file of the cache, or the reason of the failure."""
    name, reason = kept
    if reason is not None:
        return None, reason
    try:
        with np.load(cache / name, allow_pickle=False) as found:
            return {key: found[key] for key in found.files}, None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        with suppress(OSError):
            (cache / name).unlink()
        return None, f"its file in the cache cannot be read ({error}); it was removed, try again"
