"""Pictures from films and image files. Films are streamed: only the requested frames are kept.

Shapes: frames uint8 (T, H, W, 3), RGB; grey ones (T, H, W). Sizes are (H, W).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.media.timeline import Span, check_there, opened, seconds_of
from concordant.errors import DataError, UsageError
from concordant.files import check_size

Frames = NDArray[np.uint8]
MEAN = (0.485, 0.456, 0.406)  # of ImageNet's pixels, red, green, blue
STD = (0.229, 0.224, 0.225)
_MATRIX = "DISPLAYMATRIX"  # how a frame is turned and mirrored to be shown
_LATE = 1e-4  # seconds of rounding in a frame's time


def read_frames(
    path: Path,
    *,
    fps: float | None = None,
    span: Span | None = None,
    size: tuple[int, int] | None = None,
) -> Frames:
    """Return frames of a film.

    Args:
        path: the film.
        fps: frames per second: frame k is the one shown at start + k / fps; None = every frame. Time counts from the
            beginning of the film, of its pictures or its sound.
        span: start and end in seconds, the end excluded; None = the whole film.
        size: of the frames; None = that of the film.

    Raises:
        UsageError: fps or span are impossible.
        DataError: the file is absent, has no video stream, is truncated, has no frame in the span, more pictures than
            CONCORDANT_LIMIT allows, or pictures that differ in size where no size is given.
    """
    if (fps is not None and fps <= 0) or (span is not None and not 0 <= span[0] < span[1]):
        raise UsageError(f"fps must be above 0 and a span rise from 0 or more; found fps {fps}, span {span}")
    check_there(path)
    with opened(path) as stream_of:
        stream = stream_of("video")
        if not stream.there:
            raise DataError(f"{path} has no video stream")
        found, held = list[Frames](), 0
        for picture in _chosen(stream.frames(), fps, span, size):
            held += picture.nbytes
            check_size(f"{path} with its pictures", held, path.stat().st_size)
            found.append(picture)
            if picture.shape != found[0].shape:
                sizes = f"{found[0].shape[:2]} and {picture.shape[:2]}"
                raise DataError(f"{path} has pictures of several sizes, {sizes}; name a size")
        stream.check_whole(path, "pictures", span)
    if not found:
        where = "" if span is None else f" from {span[0]:g} to {span[1]:g} seconds"
        raise DataError(f"{path}: no frame could be decoded{where}")
    return np.stack(found)


def _chosen(
    frames: Iterable[tuple[float, Any]], fps: float | None, span: Span | None, size: tuple[int, int] | None
) -> Iterator[Frames]:
    """Yield the requested frames; at a given time, the last frame that began before it is shown, or else the first."""
    start, end = span if span is not None else (0.0, np.inf)
    shown: tuple[float, Any] | None = None
    wanted = 0
    for time, frame in frames:
        if fps is None:
            if start - _LATE <= time < end - _LATE:
                yield _picture(frame, size)
        else:
            while start + wanted / fps < min(time - _LATE, end - _LATE) and shown is not None:
                yield _picture(shown[1], size)
                wanted += 1
        shown = time, frame
        if time >= end:
            return
    # The last frame is shown for as long as one frame lasts.
    if fps is not None and shown is not None:
        last = shown[0]
        while (
            last - _LATE <= start + wanted / fps + _LATE
            and start + wanted / fps < min(end, last + seconds_of(shown[1])) - _LATE
        ):
            yield _picture(shown[1], size)
            wanted += 1


def _picture(frame: Any, size: tuple[int, int] | None) -> Frames:  # noqa: ANN401 - PyAV has no types
    """Return a frame upright, as players show it, whatever way the camera was held."""
    matrix = next((np.frombuffer(bytes(one), np.int32) for one in frame.side_data if one.type.name == _MATRIX), None)
    # Rows of the matrix: where a step right and a step down of the stored frame lead, (right, down, 0) each.
    right, down = ((1, 0), (0, 1)) if matrix is None else ((matrix[0], matrix[1]), (matrix[3], matrix[4]))
    turned = abs(int(right[1])) > abs(int(right[0]))
    stored = size if size is None or not turned else size[::-1]
    scale = {} if stored is None else {"height": stored[0], "width": stored[1]}
    pixels: Frames = frame.to_ndarray(format="rgb24", **scale)
    if turned:
        pixels, right, down = pixels.swapaxes(0, 1), down, right
    return np.ascontiguousarray(pixels[:: -1 if down[1] < 0 else 1, :: -1 if right[0] < 0 else 1])


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
        if _is_whole(raw):
            image = cv2.imdecode(raw, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path} is no image that can be read, or is truncated")
        image = image if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if size is not None and image.shape[:2] != size:
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        if found and image.shape != found[0].shape:
            raise DataError(f"{path} is {image.shape[:2]} where {paths[0]} is {found[0].shape[:2]}; name a size")
        found.append(np.asarray(image))
    return np.stack(found)


def _is_whole(raw: Frames) -> bool:
    """Return whether the bytes are a whole image; OpenCV shows the missing rows of a truncated one as grey."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw.tobytes())) as image:
            image.load()
    except Exception:
        return False
    return True


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
