"""Kinetics-Sounds (Arandjelovic and Zisserman, ICCV 2017): 31 actions that are seen and heard, ten-second clips.

The lists are those of OGM-GE (Peng et al., CVPR 2022): `my_train.txt` and `my_test.txt`, rows `id,10,label`; rows with
spaces and the label last are accepted too. Media are anywhere below the folder: films `<id>.mp4` (.mkv, .webm, .avi),
or sounds `<id>.wav` or filter banks `<id>.npy` (1024, 128) with frames `<id>/frame_00001.jpg`. Films disappear from
their site: a few of the list are missing from every copy.
Shapes: audio (1, F, T) by the recipe, visual (3, T, H, W).
"""

from __future__ import annotations

from pathlib import Path

from concordant.data.card import sources
from concordant.data.formats.clips import MediaOptions, audio_visual_reading
from concordant.data.formats.listing import FILMS, Row, find_lists, index_media, is_count, read_lines, read_rows
from concordant.data.reading import Reading
from concordant.errors import DataError

LISTS = {"train": "my_train.txt", "test": "my_test.txt"}
LABELS = "labels.txt"  # the user's: names of the classes, one per line, in order; the lists only number them
CLASSES = 31
DEFAULT = MediaOptions("mmpareto", fps=1, frames=3)  # as MMPareto decodes the clips
_BANKS = "mmpareto"  # recipe of the published filter banks


def read_kinetics_sounds(folder: Path, *, options: MediaOptions = DEFAULT, lists: Path | None = None) -> Reading:
    """Read the clips of the lists, with the media below a folder.

    `lists` is the folder of my_train.txt and my_test.txt; None = they are in `folder` or below it. A file labels.txt
    beside them names the classes, one per line, in order.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    place = find_lists(folder, tuple(LISTS.values()), lists)
    classes, notes = _class_names(place / LABELS)
    return audio_visual_reading(
        "kinetics-sounds",
        _with_media(folder, read_rows(place, LISTS, parse_row), options),
        options,
        folder,
        classes=classes,
        splits=tuple(LISTS),
        groups=None,
        sources=sources(place, [*LISTS.values(), *([] if notes else [LABELS])]),
        notes=notes,
    )


def parse_row(line: str, split: str, where: str) -> Row:
    """Return the clip of a line, without its media; `where` names the line in errors."""
    parts = [part.strip() for part in line.split(",")] if "," in line else line.split()
    fits = len(parts) == 3 if "," in line else len(parts) >= 2
    if not fits or not all(parts) or not is_count(parts[-1]) or int(parts[-1]) >= CLASSES:
        raise DataError(
            f"{where} must be id,10,label, or id and label with spaces, the label 0 to {CLASSES - 1}; found {line!r}"
        )
    return Row(parts[0], split, int(parts[-1]), {})


def _class_names(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and a note where the user gives none."""
    if not path.is_file():
        note = f"the lists number the classes and do not name them; a file {LABELS} beside them would"
        return tuple(f"class {index}" for index in range(CLASSES)), [note]
    names = tuple(line for _, line in read_lines(path))
    if len(names) != CLASSES or len(set(names)) != len(names):
        raise DataError(f"{path} must name {CLASSES} classes, one a line, in order; found {len(set(names))}")
    return names, []


def _with_media(folder: Path, rows: list[Row], options: MediaOptions) -> list[Row]:
    """Return the clips with the paths of their sounds and pictures; extracted files come before films."""
    sounds = (".npy", ".wav") if options.spectrogram == _BANKS else (".wav",)
    found = index_media(folder, (row.id for row in rows), (*sounds, *FILMS))
    expected = {
        "audio": " or ".join(f"<clip>{suffix}" for suffix in (*sounds, ".mp4")),
        "picture": "<clip>/frame_00001.jpg or <clip>.mp4",
    }
    complete = []
    for row in rows:
        folders = [path for path in found[row.id] if path.is_dir()]
        # The first path of each suffix: copies may be in several folders.
        files = {path.suffix.lower(): path for path in found[row.id][::-1] if path not in folders}
        film = next((files[suffix] for suffix in FILMS if suffix in files), None)
        sound = next((files[suffix] for suffix in sounds if suffix in files), film)
        complete.append(row.found({"audio": sound, "picture": folders[0] if folders else film}, expected))
    return complete
