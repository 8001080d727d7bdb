"""What the datasets of media files share: how clips are decoded, and from a list's clips to instances.

Clips are decoded by processes (data/media/decoding.py) while the instances are gone through; one that is missing or
broken is listed with its reason and left out.
Shapes: audio (1, F, T), or (T, F) where the recipe keeps a clip's length; films (3, T, H, W) and flow (2, T, H, W),
float16 in the store.
"""

from __future__ import annotations

import tempfile
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

from concordant.data.card import Card, ModalityCard
from concordant.data.formats.listing import Row, media_size
from concordant.data.formats.one_clip import audio_and_frames, packed
from concordant.data.media.decoding import Work, decode
from concordant.data.media.spectrogram import SPECTROGRAMS
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class MediaOptions:
    """How clips are decoded.

    Args:
        spectrogram: recipe of the audio, of `media.spectrogram.SPECTROGRAMS`; None where there is no audio.
        fps: frames a second that are taken from a film.
        frames: of these, how many a clip keeps, spread evenly.
        size: height and width that frames are scaled to.
        processes: that decode side by side.
        may_fail: share of the clips that may be missing or broken; more is an error.
        cache: folder that decoded clips are kept in, so that an interrupted run can go on; None: a temporary one, which
            is removed at the end.
        progress: called with the clips done, the clips in all, and the clip's name.

    Raises:
        UsageError: one of them cannot be; all faults at once.
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


def reading(card: Card, rows: Sequence[Row], work: Work, options: MediaOptions, folder: Path) -> Reading:
    """Return the dataset of a list's clips; they are decoded while the instances are gone through.

    Args:
        card: what it is.
        rows: the clips, in their order.
        work: from a clip to modality -> values; one that is left out is absent. It is sent to other processes.
        options: how clips are decoded.
        folder: that was named, for errors.

    Raises:
        DataError: more clips are missing than may fail; what is missing is said for all of them.
    """
    gone = [row for row in rows if row.missing]
    if len(gone) > options.may_fail * len(rows):
        raise DataError(
            f"{folder}: {len(gone)} of {len(rows)} clips are not there, and {options.may_fail:.1%} may fail: "
            f"{_missing(gone)}; name the folder that holds them, or allow a larger share"
        )
    findings = Findings()
    return Reading(card, _instances(card, rows, work, options, findings), findings)


def _instances(
    card: Card,
    rows: Sequence[Row],
    work: Work,
    options: MediaOptions,
    findings: Findings,
) -> Iterator[Instance]:
    of = {row.id: row for row in rows}
    absent: Counter[str] = Counter()
    # How many media there are does not change how one is decoded.
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
            row = of[clip.id]
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
    """Return what the audio of a dataset is, as its recipe makes it of the clips' sounds.

    Raises:
        UsageError: no recipe is named.
    """
    if options.spectrogram is None:
        raise UsageError(f"the audio needs a spectrogram; choose one of {', '.join(SPECTROGRAMS)}")
    parameters = SPECTROGRAMS[options.spectrogram].parameters()
    shape = _shape_of(options.spectrogram)
    return ModalityCard(
        kind="audio",
        layout="bchw" if len(shape) == 3 else "btd",
        shape=shape,
        rate=parameters["rate"] / parameters["hop"] if len(shape) == 2 else None,
        preprocessing={**parameters, "media": media_size(rows, "audio")},
    )


def audio_visual(options: MediaOptions, shape: tuple[int | None, ...]) -> Work:
    """Return the work that decodes "audio" of that shape and "visual"."""
    return partial(
        audio_and_frames,
        spectrogram=str(options.spectrogram),
        shape=shape,
        fps=options.fps,
        frames=options.frames,
        size=options.size,
    )


@cache
def _shape_of(recipe: str) -> tuple[int | None, ...]:
    """Return the shape that a recipe gives any sound: (1, F, T), or (None, F) where T is the sound's."""
    known = SPECTROGRAMS[recipe]
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * known.rate).astype(np.float32)
    short, long = (known(noise[: seconds * known.rate]).shape for seconds in (1, 12))
    return tuple(short) if short == long else (None, int(short[1]))


def film_card(options: MediaOptions, rows: Sequence[Row]) -> ModalityCard:
    """Return what the frames of a dataset are."""
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


def _missing(rows: Sequence[Row]) -> str:
    """Say what is missing, how often, and of which clip first."""
    count: Counter[str] = Counter(path for row in rows for path in row.missing)
    example = {path: next(row.id for row in rows if path in row.missing) for path in count}
    return "; ".join(f"{path} of {number} clips, such as {example[path]}" for path, number in count.items())


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
