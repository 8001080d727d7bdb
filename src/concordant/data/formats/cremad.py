"""CREMA-D (Cao et al., IEEE TAC 2014): six acted emotions of 7,442 clips by 91 actors, from sound and film.

Sounds are `AudioWAV/<clip>.wav`; films `VideoFlash/<clip>.flv`, or frames extracted from them,
`Image-<fps>-FPS/<clip>/*.jpg`. The split is that of OGM-GE (Peng et al., CVPR 2022): `train.csv` and `test.csv`, rows
`clip,EMO` without a header. A clip is named actor_sentence_emotion_level.
Shapes: audio (1, F, T) by the recipe, visual (3, T, H, W).
"""

from __future__ import annotations

from pathlib import Path

from concordant.data.card import sources
from concordant.data.formats.clips import MediaOptions, audio_visual_reading
from concordant.data.formats.listing import Row, find_lists, first, index_media, once, read_lines, shared_groups
from concordant.data.reading import Reading
from concordant.errors import DataError

# Neutral, happy, sad, fear, disgust, anger, as in the names of clips and the lists, in the published order.
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
LISTS = {"train": "train.csv", "test": "test.csv"}
DEFAULT = MediaOptions("ogm-ge", fps=1, frames=1)  # as OGM-GE decodes the clips


def read_cremad(folder: Path, *, options: MediaOptions = DEFAULT, lists: Path | None = None) -> Reading:
    """Read the clips of the split lists.

    Args:
        folder: that has the media in it or below it.
        options: of decoding.
        lists: folder of train.csv and test.csv; None = they are in `folder` or below it.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    place = find_lists(folder, tuple(LISTS.values()), lists)
    rows = _with_media(folder, read_splits(place), options)
    return audio_visual_reading(
        "crema-d",
        rows,
        options,
        folder,
        classes=EMOTIONS,
        splits=tuple(LISTS),
        groups="actor",
        sources=sources(place, LISTS.values()),
        notes=shared_groups(rows, "actors"),
    )


def read_splits(lists: Path) -> list[Row]:
    """Return the clips of train.csv and test.csv, without their media.

    Raises:
        DataError: a line is malformed (file and number are named), or a clip occurs again.
    """
    rows, seen = [], dict[str, str]()
    for split, file in LISTS.items():
        for number, line in read_lines(lists / file):
            clip, _, code = line.partition(",")
            parts = clip.split("_")
            if code not in EMOTIONS or len(parts) != 4 or not all(parts):
                raise DataError(
                    f"{lists / file}, line {number} must be clip,EMOTION with a clip such as 1001_IEO_NEU_XX and one "
                    f"of {', '.join(EMOTIONS)}; found {line!r}"
                )
            if parts[2] != code:
                raise DataError(f"{lists / file}, line {number}: {clip} is {parts[2]} by its name; found {code}")
            once(lists / file, number, clip, seen)
            rows.append(Row(clip, split, EMOTIONS.index(code), {}, group=parts[0]))
    return rows


def _with_media(folder: Path, rows: list[Row], options: MediaOptions) -> list[Row]:
    """Return the clips with the paths of their sounds and pictures; extracted frames come before films."""
    images = f"Image-{int(options.fps):02d}-FPS" if float(options.fps).is_integer() else None
    found = index_media(folder, (row.id for row in rows), (".wav", ".flv"))
    expected = {
        "audio": "AudioWAV/<clip>.wav",
        "picture": "VideoFlash/<clip>.flv" + (f" or {images}/<clip>" if images else ""),
    }
    complete = []
    for row in rows:
        paths = found[row.id]
        audio = first(paths, lambda path: path.suffix.lower() == ".wav" and path.parent.name == "AudioWAV")
        frames = first(paths, lambda path: path.parent.name == images and path.is_dir())
        film = first(paths, lambda path: path.suffix.lower() == ".flv" and path.parent.name == "VideoFlash")
        complete.append(row.found({"audio": audio, "picture": frames or film}, expected))
    return complete
