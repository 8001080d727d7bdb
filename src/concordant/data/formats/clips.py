"""Datasets of media files: decoding options, one clip from its files to arrays, and a list's clips to instances.

Worker processes decode clips (data/media/decoding.py) while the instances are iterated; a clip that is missing or
broken is listed with its reason and left out. A clip is sent to them as plain values: the paths of its media, their
roles, and the span to take.
Shapes: audio (1, F, T), or (T, F) where the recipe keeps a clip's length; frames (T, H, W, 3); films (3, T, H, W) and
flow (2, T, H, W), float16 in the store.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.arrays import Array, has_shape, read_npy
from concordant.data.card import Card, LabelCard, ModalityCard, Source
from concordant.data.formats.listing import IMAGES, Row, frames_of, media_size
from concordant.data.media.audio import NoSoundError, read_audio
from concordant.data.media.decoding import Clip, Work, decode
from concordant.data.media.spectrogram import SPECTROGRAMS
from concordant.data.media.timeline import Span
from concordant.data.media.video import imagenet, load_images, pick, read_frames
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError
from concordant.files import check_file

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class MediaOptions:
    """Options of decoding.

    Args:
        spectrogram: recipe of the audio, of `media.spectrogram.SPECTROGRAMS`; None without audio.
        fps: frames per second taken from a film.
        frames: of these, how many a clip keeps, evenly spread.
        size: height and width of the frames.
        processes: that decode in parallel.
        may_fail: share of the clips that may be missing or broken; more is an error.
        cache: folder for decoded clips, with which an interrupted run can continue; None = a temporary one.
        progress: called with the clips done, all clips, and the clip's name.

    Raises:
        UsageError: values are impossible; all faults at once.
    """

    spectrogram: str | None
    fps: float
    frames: int
    size: tuple[int, int] = (224, 224)
    processes: int = 1
    may_fail: float = 0.02
    cache: Path | None = None
    progress: Callable[[int, int, str], None] | None = None

    def __post_init__(self) -> None:
        faults = []
        if self.spectrogram is not None and self.spectrogram not in SPECTROGRAMS:
            faults.append(f"spectrogram must be one of {', '.join(SPECTROGRAMS)}; found {self.spectrogram!r}")
        if not _is_number(self.fps) or self.fps <= 0:
            faults.append(f"fps must be a number above 0; found {self.fps!r}")
        for name in ("frames", "processes"):
            if not _is_count(getattr(self, name)):
                faults.append(f"{name} must be a whole number of 1 or more; found {getattr(self, name)!r}")
        if not isinstance(self.size, tuple) or len(self.size) != 2 or not all(_is_count(one) for one in self.size):
            faults.append(f"size must be a height and a width of 1 or more; found {self.size!r}")
        if not _is_number(self.may_fail) or not 0 <= self.may_fail <= 1:
            faults.append(f"may_fail must be a share of 0 to 1; found {self.may_fail!r}")
        if self.cache is not None and self.cache.exists() and not self.cache.is_dir():
            faults.append(f"cache must be a folder; {self.cache} is a file")
        if faults:
            raise UsageError(f"the media options cannot be used: {'; '.join(faults)}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)


def reading(card: Card, rows: Sequence[Row], work: Work, options: MediaOptions, folder: Path) -> Reading:
    """Return the dataset of a list's clips; they are decoded while the instances are iterated.

    Args:
        card: of the dataset.
        rows: the clips, in order.
        work: function from a clip to modality -> values; one without values is absent. Sent to other processes.
        options: of decoding.
        folder: that was named, for errors.

    Raises:
        DataError: more clips are missing than may fail; names everything that is missing.
    """
    gone = [row for row in rows if row.missing]
    if len(gone) > options.may_fail * len(rows):
        count = Counter(path for row in gone for path in row.missing)
        example = {path: next(row.id for row in gone if path in row.missing) for path in count}
        missing = "; ".join(f"{path} of {number} clips, such as {example[path]}" for path, number in count.items())
        raise DataError(
            f"{folder}: {len(gone)} of {len(rows)} clips are not there, and {options.may_fail:.1%} may fail: "
            f"{missing}; name the folder that holds them, or allow a larger share"
        )
    findings = Findings()
    return Reading(card, _instances(card, rows, work, options, findings), findings)


def audio_visual_reading(
    name: str,
    rows: Sequence[Row],
    options: MediaOptions,
    folder: Path,
    *,
    classes: tuple[str, ...],
    splits: tuple[str, ...],
    groups: str | None,
    sources: tuple[Source, ...],
    notes: Sequence[str],
) -> Reading:
    """Return a dataset of the modalities "audio" and "visual"; arguments as for `reading` and `Card`.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: more clips are missing than may fail.
    """
    audio = audio_card(options, rows)
    card = Card(
        name=name,
        modalities={"audio": audio, "visual": film_card(options, rows)},
        label=LabelCard(classes=classes),
        splits=splits,
        groups=groups,
        sources=sources,
        notes=tuple(notes),
    )
    work = partial(
        audio_and_frames,
        spectrogram=str(options.spectrogram),
        shape=audio.shape,
        fps=options.fps,
        frames=options.frames,
        size=options.size,
    )
    return reading(card, rows, work, options, folder)


def _instances(
    card: Card, rows: Sequence[Row], work: Work, options: MediaOptions, findings: Findings
) -> Iterator[Instance]:
    row_of = {row.id: row for row in rows}
    absent: Counter[str] = Counter()
    # The number of media does not change how one is decoded.
    parameters = {
        name: {"shape": known.shape, **{key: value for key, value in known.preprocessing.items() if key != "media"}}
        for name, known in card.modalities.items()
    }
    with ExitStack() as opened:
        cache = options.cache or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="concordant-")))
        decoded = decode(
            [packed(row) for row in rows],
            work,
            cache=cache,
            parameters=parameters,
            processes=options.processes,
            may_fail=options.may_fail,
            progress=options.progress,
        )
        for clip, arrays, reason in decoded:
            row = row_of[clip.id]
            if arrays is None:
                findings.failures[row.id] = str(reason)
                continue
            features: dict[str, Array | None] = {
                name: findings.clean(name, arrays[name], f"{row.id}: {name}") if name in arrays else None
                for name in card.modalities
            }
            absent.update(name for name, values in features.items() if values is None)
            yield Instance(row.id, row.split, row.label, features, row.group)
    for name, count in absent.items():
        findings.notes.append(f"{count} clips have no {name}: their films have no such stream; it is absent there")


def audio_card(options: MediaOptions, rows: Sequence[Row]) -> ModalityCard:
    """Return the card of the audio, as made by its recipe.

    Raises:
        UsageError: no recipe is named.
    """
    if options.spectrogram is None:
        raise UsageError(f"the audio needs a spectrogram; choose one of {', '.join(SPECTROGRAMS)}")
    parameters, shape = SPECTROGRAMS[options.spectrogram].parameters(), _shape_of(options.spectrogram)
    return ModalityCard(
        kind="audio",
        layout="bchw" if len(shape) == 3 else "btd",
        shape=shape,
        rate=parameters["rate"] / parameters["hop"] if len(shape) == 2 else None,
        preprocessing={**parameters, "media": media_size(rows, "audio")},
    )


@cache
def _shape_of(recipe: str) -> Shape:
    """Return the shape that a recipe gives any sound: (1, F, T), or (None, F) where T is that of the sound."""
    known = SPECTROGRAMS[recipe]
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * known.rate).astype(np.float32)
    short, long = (known(noise[: seconds * known.rate]).shape for seconds in (1, 12))
    return tuple(short) if short == long else (None, int(short[1]))


def film_card(options: MediaOptions, rows: Sequence[Row]) -> ModalityCard:
    """Return the card of the frames."""
    return ModalityCard(
        kind="vision",
        layout="bcthw",
        shape=(3, None, *options.size),
        dtype="float16",
        preprocessing={
            **frames_taken(options),
            "normalised": "mean and standard deviation of ImageNet's pixels",
            "media": media_size(rows, "picture"),
        },
    )


def frames_taken(options: MediaOptions) -> dict[str, Any]:
    """Return how frames are chosen, for the preprocessing of a card."""
    return {
        "frames a second, of films": options.fps,
        "frames": options.frames,
        "picked": "the middle one of equal stretches",
        "size": list(options.size),
    }


def packed(row: Row) -> Clip:
    """Return a row as plain values to decode."""
    absent = [path.replace("<clip>", row.id) for path in row.missing]
    if absent:
        return Clip(row.id, (), (("missing", f"not there: {' and '.join(absent)}"),))
    return Clip(row.id, tuple(row.media.values()), (("roles", tuple(row.media)), ("span", row.span)))


def unpacked(clip: Clip) -> tuple[dict[str, Path], Span | None]:
    """Return the media of a clip by role, and the span to take.

    Raises:
        DataError: a file does not exist, or is a pointer of Git LFS or an HTML page in its place.
    """
    options = dict(clip.options)
    if "missing" in options:
        raise DataError(options["missing"])
    for path in clip.files:
        if path.is_file():
            check_file(path, "sound or pictures")
    return dict(zip(options["roles"], clip.files, strict=True)), options["span"]


def audio_and_frames(
    clip: Clip, *, spectrogram: str, shape: Shape, fps: float, frames: int, size: tuple[int, int]
) -> dict[str, Array]:
    """Decode a clip to "audio" and "visual" (3, T, H, W); without audio for a film without a sound stream.

    The options are those of `MediaOptions`; the audio of every clip must have `shape`, (1, F, T), or (None, F) for a
    sequence.

    Raises:
        DataError: a file does not exist, or cannot be decoded.
    """
    media, span = unpacked(clip)
    film = pictures(media["picture"], fps=fps, frames=frames, size=size, span=span)
    found: dict[str, Array] = {"visual": imagenet(film).astype(np.float16)}
    sound = _sound(media["audio"], spectrogram, shape, span)
    return found if sound is None else {**found, "audio": sound}


def pictures(
    place: Path, *, fps: float, frames: int, size: tuple[int, int], span: Span | None = None
) -> NDArray[np.uint8]:
    """Return frames (T, H, W, 3) of a film, or of a folder of extracted frames, already taken at their rate.

    Raises:
        DataError: it cannot be decoded, or has no frame.
    """
    if place.is_dir():
        return load_images(picked(place, frames), size=size)
    film = read_frames(place, fps=fps, span=span, size=size)
    return film[pick(len(film), frames)]


def picked(folder: Path, frames: int) -> list[Path]:
    """Return `frames` images of a folder, evenly spread.

    Raises:
        DataError: it has none.
    """
    images = frames_of(folder)
    if not images:
        raise DataError(f"{folder} holds no frame; expected images ({', '.join(IMAGES)})")
    return [images[place] for place in pick(len(images), frames)]


def _sound(place: Path, spectrogram: str, shape: Shape, span: Span | None) -> Array | None:
    """Return the spectrogram of a sound or an extracted one; None for a film without sound."""
    if place.suffix.lower() == ".npy":
        return fitting(_numbers(place)[None], shape, place)
    recipe = SPECTROGRAMS[spectrogram]
    try:
        wave, _ = read_audio(place, rate=recipe.rate, span=span)
    except NoSoundError:
        return None
    return fitting(recipe(wave), shape, place)


def fitting(values: Array, shape: Shape, place: Path) -> Array:
    """Return a spectrogram (1, F, T) as stored: unchanged, or as a sequence (T, F) where T is that of the clip.

    Raises:
        DataError: it has another shape than those of the dataset.
    """
    stored = values[0].T if len(shape) == 2 and values.ndim == 3 else values
    if not has_shape(stored.shape, shape):
        raise DataError(f"{place} must give a spectrogram of shape {shape}; found {stored.shape}")
    return np.ascontiguousarray(stored)


def _numbers(path: Path) -> Array:
    """Return the array of a `.npy` file.

    Raises:
        DataError: the file holds something else than one array of numbers.
    """
    values = None if zipfile.is_zipfile(path) else read_npy(path)
    if values is None or values.dtype.kind not in "fiu":
        found = "an archive" if values is None else f"{values.dtype} {values.shape}"
        raise DataError(f"{path} must hold one array of numbers; found {found}")
    return values
