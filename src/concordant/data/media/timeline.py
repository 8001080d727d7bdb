"""Time in films: which streams are taken, when a film begins, how long it announces to be, when a frame is shown.

Time is counted in seconds from the beginning of the film: the earlier of the first picture and the first sound, by
their presentation times. A stream that begins later, or has a gap, keeps its distance to the other one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from concordant.errors import DataError, foreign

Span = tuple[float, float]  # start and end in seconds, the end excluded
_JUMP = 0.5  # seconds back in time that only a new count of time explains
_BARE = ("aac", "ac3", "eac3", "mp3", "amr")  # without a container: FFmpeg guesses their length


class Stream:
    """One stream of an open film.

    Args:
        container: the film, opened by PyAV.
        kind: "video" or "audio".
    """

    def __init__(self, container: Any, kind: str) -> None:  # noqa: ANN401 - PyAV has no types
        self._container, self._stream = container, _chosen(container, kind)
        begins = [_start(one) for one in (_chosen(container, "video"), _chosen(container, "audio")) if one is not None]
        self._zero = min(begins, default=0.0)
        self.end = 0.0  # of the last frame so far

    @property
    def there(self) -> bool:
        """Whether the film has such a stream; a cover picture is none."""
        return self._stream is not None

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Yield the frames, each with its time.

        Where the count of time begins anew (films that were joined byte by byte), or leaves the length that the film
        announces, a frame follows the one before it.
        """
        shift, last = -self._zero, self.announced()[0]
        self._stream.thread_type = "AUTO"
        for frame in self._container.decode(self._stream):
            time = float(frame.time) + shift if frame.time is not None else self.end
            if time < self.end - _JUMP or (last and time > max(last, self.end) + _JUMP):
                shift += self.end - time
                time = self.end
            self.end = max(self.end, time + seconds_of(frame))
            yield time, frame

    def announced(self) -> tuple[float, float]:
        """Return the end that the film announces, 0 if none, and the share of the length by which it may be wrong."""
        one, offset = self._stream, _start(self._stream) - self._zero
        if self._container.format.name in _BARE:
            return 0.0, 0.0
        lengths = [float(one.duration * one.time_base)] if one.duration else []
        # The number in the header of an AVI file does not shrink with the file, as its duration does.
        if one.frames and self._container.format.name == "avi":
            lengths.append(float(one.frames * one.time_base))
        tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", one.metadata.get("DURATION", ""))  # of Matroska: the end
        if tag is not None:
            lengths.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - max(_start(one), 0.0))
        if lengths:
            return offset + max(lengths), 0.1
        return (float(self._container.duration) / 1e6 if self._container.duration else 0.0), 1 / 3  # of all streams

    def check_whole(self, path: Path, what: str, span: Span | None) -> None:
        """Refuse a film that ends before its announced length, or before the end of the span.

        Raises:
            DataError: it is truncated.
        """
        end, share = self.announced()
        check_whole(path, what, end, self.end, span, share=share)


def check_there(path: Path) -> None:
    """Raise DataError if a file is absent or empty."""
    if not path.is_file():
        raise DataError(f"{path} is not there")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")


def check_whole(
    path: Path, what: str, announced: float, there: float, span: Span | None, *, share: float, seconds: float = 0.5
) -> None:
    """Refuse a file whose content ends before it should.

    Args:
        path: of the file, for the error.
        what: is missing, for the error.
        announced: seconds of the whole; 0 = unknown.
        there: seconds that could be decoded.
        span: that is wanted, None = all.
        share: of the wanted length that may be missing.
        seconds: that may be missing in any case.

    Raises:
        DataError: it is truncated.
    """
    start, end = (0.0, announced) if span is None else (span[0], min(span[1], announced))
    if end - max(there, start) > max(seconds, share * (end - start)):
        raise DataError(
            f"{path} is truncated: it announces {announced:.1f} seconds of {what}, which end after {there:.1f}; "
            "copy or download it again"
        )


@contextmanager
def opened(path: Path) -> Iterator[Callable[[str], Stream]]:
    """Open a film; yield a function from "video" or "audio" to its stream.

    Raises:
        DataError: it cannot be decoded.
    """
    import av

    try:
        with av.open(str(path.absolute())) as container:
            yield lambda kind: Stream(container, kind)
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({foreign(error)})") from None


def seconds_of(frame: Any) -> float:  # noqa: ANN401
    """Return the seconds for which a frame is shown or heard."""
    if getattr(frame, "samples", None):
        return float(frame.samples / frame.sample_rate)
    duration = getattr(frame, "duration", None)
    return float(duration * frame.time_base) if duration and frame.time_base else 0.04


def _chosen(container: Any, kind: str) -> Any:  # noqa: ANN401
    """Return the stream that players choose: the first one that is flagged as default, else the first; None if none."""
    from av.stream import Disposition

    streams = [one for one in getattr(container.streams, kind) if not one.disposition & Disposition.attached_pic]
    flagged = [one for one in streams if one.disposition & Disposition.default]
    return next(iter(flagged or streams), None)


def _start(stream: Any) -> float:  # noqa: ANN401
    return 0.0 if stream.start_time is None else float(stream.start_time * stream.time_base)
