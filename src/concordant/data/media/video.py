"""Pictures from films and image files. Films are streamed: only the requested frames are kept.

Shapes: frames uint8 (T, H, W, 3), RGB; grey ones (T, H, W). Sizes are (H, W).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import DataError, UsageError

Frames = NDArray[np.uint8]
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pixels, red, green, blue
STD = (0.229, 0.224, 0.225)
_WHOLE = 2 / 3  # share of the announced length below which a film is truncated; sound may outlast pictures
_LATE = 1e-4  # seconds of rounding in a frame's time


def read_frames(
    path: Path,
    *,
    fps: float | None = None,
    span: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> Frames:
    """Return frames of a film.

    Args:
        path: the film.
        fps: frames per second: frame k is the one shown at start + k / fps; None = every frame.
        span: start and end in seconds, the end excluded; None = the whole film.
        size: of the frames; None = that of the film.

    Raises:
        UsageError: fps or span are impossible.
        DataError: the file is absent, has no video stream, is truncated, or has no frame in the span.
    """
    import av

    if (fps is not None and fps <= 0) or (span is not None and not 0 <= span[0] < span[1]):
        raise UsageError(f"fps must be above 0 and a span rise from 0 or more; found fps {fps}, span {span}")
    if not path.is_file():
        raise DataError(f"{path} is not there")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            watched = _Watched(container.decode(stream))
            found = list(_chosen(watched, fps, span, size))
            stated = _stated_seconds(container, stream)
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({error})") from None
    if not found:
        where = "" if span is None else f" from {span[0]:g} to {span[1]:g} seconds"
        raise DataError(f"{path}: no frame could be decoded{where}")
    if (span is None or span[1] >= stated) and watched.seconds < _WHOLE * stated:
        raise DataError(
            f"{path} is truncated: it announces {stated:.1f} seconds of pictures, which end after {watched.seconds:.1f}"
        )
    return np.stack(found)


class _Watched:
    """Yields frames, and records when the last one ends."""

    def __init__(self, frames: Iterator[Any]) -> None:
        self.frames = frames
        self.first: float | None = None
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        for frame in self.frames:
            time = float(frame.time or 0.0)
            self.first = time if self.first is None else self.first
            self.seconds = max(self.seconds, time - self.first + _length(frame))
            yield frame


def _stated_seconds(container: Any, stream: Any) -> float:  # noqa: ANN401 - PyAV has no types
    """Return the length of the pictures that a film announces; 0 without one."""
    if stream.frames and stream.average_rate:  # of the header, which does not shrink with the file
        return float(stream.frames / stream.average_rate)
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration) / 1e6 if container.duration else 0.0


def _chosen(
    frames: Iterable[Any], fps: float | None, span: tuple[float, float] | None, size: tuple[int, int] | None
) -> Iterator[Frames]:
    """Yield the requested frames; at a given time, the last frame that began before it is shown."""
    start, end = span if span is not None else (0.0, np.inf)
    first: float | None = None
    shown: Any = None
    wanted = 0
    for frame in frames:
        begin = float(frame.time or 0.0)
        first = begin if first is None else first
        time = begin - first  # some containers do not count from 0
        if fps is None:
            if start - _LATE <= time < end - _LATE:
                yield _picture(frame, size)
        else:
            while start + wanted / fps < min(time - _LATE, end - _LATE) and shown is not None:
                yield _picture(shown, size)
                wanted += 1
        shown = frame
        if time >= end:
            return
    # The last frame is shown for as long as one frame lasts.
    if fps is not None and shown is not None and first is not None:
        last = float(shown.time or 0.0) - first
        while (
            last - _LATE <= start + wanted / fps + _LATE
            and start + wanted / fps < min(end, last + _length(shown)) - _LATE
        ):
            yield _picture(shown, size)
            wanted += 1


def _length(frame: Any) -> float:  # noqa: ANN401 - PyAV has no types
    """Return the seconds for which a frame is shown."""
    duration = getattr(frame, "duration", None)
    return float(duration * frame.time_base) if duration and frame.time_base else 0.04


def _picture(frame: Any, size: tuple[int, int] | None) -> Frames:  # noqa: ANN401
    if size is None:
        return np.asarray(frame.to_ndarray(format="rgb24"))
    return np.asarray(frame.to_ndarray(format="rgb24", height=size[0], width=size[1]))


def load_images(paths: Sequence[Path], *, size: tuple[int, int] | None = None, grey: bool = False) -> Frames:
    """Return image files as frames (T, H, W, 3), or grey (T, H, W).

    Raises:
        UsageError: no file is named.
        DataError: one is absent or not an image, or they differ in size and no size is given.
    """
    import cv2

    if not paths:
        raise UsageError("load_images needs one file or more")
    found: list[Frames] = []
    for path in paths:
        try:
            raw = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        image = None
        if len(raw):
            image = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path} is no image that can be read")
        image = image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if size is not None and image.shape[:2] != size:
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        if found and image.shape != found[0].shape:
            raise DataError(f"{path} is {image.shape[:2]} where {paths[0]} is {found[0].shape[:2]}; name a size")
        found.append(np.asarray(image))
    return np.stack(found)


def pick(count: int, wanted: int) -> NDArray[np.int64]:
    """Return the middle place of each of `wanted` equal stretches of `count`; places repeat where there are fewer.

    >>> pick(9, 3).tolist(), pick(2, 3).tolist()
    ([1, 4, 7], [0, 1, 1])
    """
    if count < 1 or wanted < 1:
        raise UsageError(f"count and wanted must be 1 or more; found {count} and {wanted}")
    return np.minimum(((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64), count - 1)


def imagenet(frames: Frames) -> NDArray[np.float32]:
    """Return frames as float32 (3, T, H, W), scaled by the mean and standard deviation of ImageNet's pixels."""
    mean, std = np.asarray(MEAN, np.float32), np.asarray(STD, np.float32)
    scaled = (frames.astype(np.float32) / 255 - mean) / std
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 0))


def grey_frames(frames: Frames) -> Frames:
    """Return RGB frames as grey ones (T, H, W)."""
    import cv2

    return np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames])
