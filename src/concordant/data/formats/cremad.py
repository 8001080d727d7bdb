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
from concordant.data.formats.listing import Row, find_lists, first, index_media, read_rows, shared_groups
from concordant.data.reading import Reading
from concordant.errors import DataError

# Neutral, happy, sad, fear, disgust, anger, as in the names of clips and the lists, in the published order.
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
LISTS = {"train": "train.csv", "test": "test.csv"}
DEFAULT = MediaOptions("ogm-ge", fps=1, frames=1)  # as OGM-GE decodes the clips


def read_cremad(folder: Path, *, options: MediaOptions = DEFAULT, lists: Path | None = None) -> Reading:
    """Read the clips of the split lists, with the media in a folder or below it.

    `lists` is the folder of train.csv and test.csv; None = they are in `folder` or below it.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    place = find_lists(folder, tuple(LISTS.values()), lists)
    rows = _with_media(folder, read_rows(place, LISTS, parse_row), options)
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


def parse_row(line: str, split: str, where: str) -> Row:
    """Return the clip of a line, without its media; `where` names the line in errors."""
    clip, _, code = line.partition(",")
    parts = clip.split("_")
    if code not in EMOTIONS or len(parts) != 4 or not all(parts):
        raise DataError(
            f"{where} must be clip,EMOTION with a clip such as 1001_IEO_NEU_XX and one of {', '.join(EMOTIONS)}; "
            f"found {line!r}"
        )
    if parts[2] != code:
        raise DataError(f"{where}: {clip} is {parts[2]} by its name; found {code}")
    return Row(clip, split, EMOTIONS.index(code), {}, group=parts[0])


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
