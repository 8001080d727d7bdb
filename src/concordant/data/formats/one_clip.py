"""One clip, from its files to arrays: what the processes do that decode side by side.

A clip travels to them as plain values: the paths of its media, their roles, and the span that is taken.
Shapes: audio (1, F, T); frames (T, H, W, 3), and (3, T, H, W) once they are normalised.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.formats.listing import IMAGES, Row, frames_of
from concordant.data.media.audio import NoSoundError, read_audio
from concordant.data.media.decoding import Clip
from concordant.data.media.spectrogram import SPECTROGRAMS
from concordant.data.media.video import imagenet, load_images, pick, read_frames
from concordant.errors import DataError

Array = NDArray[Any]
_POINTER = b"version https://git-lfs"


def packed(row: Row) -> Clip:
    """Return a row as what is decoded."""
    absent = [path.replace("<clip>", row.id) for path in row.missing]
    if absent:
        return Clip(row.id, (), (("missing", f"not there: {' and '.join(absent)}"),))
    return Clip(row.id, tuple(row.media.values()), (("roles", tuple(row.media)), ("span", row.span)))


def audio_and_frames(
    clip: Clip, *, spectrogram: str, shape: tuple[int | None, ...], fps: float, frames: int, size: tuple[int, int]
) -> dict[str, Array]:
    """Decode a clip to "audio" and "visual" (3, T, H, W); no audio where a film has no sound stream.

    Args:
        clip: with the media "audio" and "picture".
        spectrogram: recipe of the audio.
        shape: that every clip's audio must have: (1, F, T), or (None, F) of a sequence.
        fps: frames a second that are taken from a film.
        frames: of these, how many are kept.
        size: height and width.

    Raises:
        DataError: something of it is not there, or cannot be decoded.
    """
    media, span = unpacked(clip)
    film = pictures(media["picture"], fps=fps, frames=frames, size=size, span=span)
    found: dict[str, Array] = {"visual": imagenet(film).astype(np.float16)}
    sound = _sound(media["audio"], spectrogram, shape, span)
    return found if sound is None else {**found, "audio": sound}


def unpacked(clip: Clip) -> tuple[dict[str, Path], tuple[float, float] | None]:
    """Return the media of a clip by role, and the span that is taken.

    Raises:
        DataError: something of it is not there, or is only a pointer to it.
    """
    options = dict(clip.options)
    if "missing" in options:
        raise DataError(options["missing"])
    for path in clip.files:
        if path.is_file():
            with path.open("rb") as opened:
                if opened.read(len(_POINTER)) == _POINTER:
                    raise DataError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` there")
    return dict(zip(options["roles"], clip.files, strict=True)), options["span"]


def pictures(
    place: Path, *, fps: float, frames: int, size: tuple[int, int], span: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Return frames (T, H, W, 3) of a film, or of a folder of extracted frames, which were thinned out already.

    Raises:
        DataError: it cannot be decoded, or holds no frame.
    """
    if place.is_dir():
        return load_images(picked(place, frames), size=size)
    film = read_frames(place, fps=fps, span=span, size=size)
    return film[pick(len(film), frames)]


def picked(folder: Path, frames: int) -> list[Path]:
    """Return so many images of a folder, spread evenly.

    Raises:
        DataError: it holds none.
    """
    images = frames_of(folder)
    if not images:
        raise DataError(f"{folder} holds no frame; expected images ({', '.join(IMAGES)})")
    return [images[place] for place in pick(len(images), frames)]


def _sound(
    place: Path, spectrogram: str, shape: tuple[int | None, ...], span: tuple[float, float] | None
) -> Array | None:
    """Return the spectrogram of a sound, or what was extracted from it before; None of a film without sound."""
    if place.suffix.lower() == ".npy":
        return fitting(_read_npy(place)[None], shape, place)
    recipe = SPECTROGRAMS[spectrogram]
    try:
        wave, rate = read_audio(place, rate=recipe.rate)
    except NoSoundError:
        return None
    if span is not None:
        wave = wave[round(span[0] * rate) : round(span[1] * rate)]
        if not wave.size:
            raise DataError(f"{place} has no sound from {span[0]:g} s to {span[1]:g} s")
    return fitting(recipe(wave), shape, place)


def fitting(values: Array, shape: tuple[int | None, ...], place: Path) -> Array:
    """Return a spectrogram (1, F, T) as it is stored: so, or as a sequence (T, F) where T is the clip's.

    Raises:
        DataError: it has another shape than those of the dataset.
    """
    stored = values[0].T if len(shape) == 2 and values.ndim == 3 else values
    fits = stored.ndim == len(shape) and stored.size > 0
    if not fits or any(size not in (None, has) for size, has in zip(shape, stored.shape, strict=True)):
        raise DataError(f"{place} must give a spectrogram of shape {shape}; found {stored.shape}")
    return np.ascontiguousarray(stored)


def _read_npy(path: Path) -> Array:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a NumPy array ({error})") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise DataError(f"{path} must hold one array of numbers; found {found}")
    return values
