"""Parallel decoding of many clips, with a cache; broken clips are reported and skipped.

A clip decoded earlier from the same files with the same parameters is read from the cache, so an interrupted run can
continue. Clips are yielded in order; only a few wait in memory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import ConcordantError, DataError, foreign
from concordant.files import write_atomically
from concordant.workers import Workers

Arrays = dict[str, NDArray[Any]]
_WAITING = 4  # clips submitted ahead per process
# Faults of the machine: a full disk or quota, too many open files, a disk that fails.
_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EIO}


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
    rest = iter(clips)
    while (more := next(rest, None)) is not None:  # a new pool after each broken one
        ahead: deque[tuple[Clip, Future[tuple[str, str | None]]]] = deque()
        with Workers(processes) as pool:
            try:
                while more is not None or ahead:
                    while more is not None and len(ahead) < _WAITING * processes:
                        ahead.append((more, pool.submit(_kept, more, work, cache, parameters)))
                        more = next(rest, None)
                    found = ahead[0][1].result()
                    yield ahead.popleft()[0], *_result(cache, found)
            except BrokenProcessPool:
                pass
        # One of the submitted clips killed its process: decoded one by one, the others are kept.
        for clip in [*(one for one, _ in ahead), *([] if more is None else [more])]:
            yield clip, *_result(cache, _alone(clip, work, cache, parameters))


def _alone(clip: Clip, work: Work, cache: Path, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
    """Decode a clip in a separate process."""
    with Workers(1) as pool:
        try:
            return pool.submit(_kept, clip, work, cache, parameters).result()
        except BrokenProcessPool:
            return "", "the process that decoded it died (a broken codec, or out of memory)"


def _kept(clip: Clip, work: Work, cache: Path, parameters: Mapping[str, Any]) -> tuple[str, str | None]:
    """Decode a clip unless it is cached; return its file in the cache, or the reason of its failure."""
    try:
        name = f"{_key(clip, parameters)}.npz"
        if (cache / name).exists():
            return name, None
        arrays = work(clip)
    except ConcordantError as error:
        return "", str(error)
    except Exception as error:  # codecs raise anything; only this clip fails
        if isinstance(error, OSError) and error.errno in _SYSTEM:
            raise
        return "", foreign(error)
    named: dict[str, Any] = dict(arrays)
    # A fault of the disk is not a fault of the clip: it ends the command, which goes on when given again.
    write_atomically(cache / name, lambda temporary: np.savez(temporary, **named))
    return name, None


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
