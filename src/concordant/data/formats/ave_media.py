"""AVE from its films (Tian et al., ECCV 2018): one of 28 events a clip, as PMR (Fan et al., CVPR 2023) decodes it.

Films are `AVE/<VideoID>.mp4`; `trainSet.txt`, `valSet.txt` and `testSet.txt` list them in the form of
`Annotations.txt`, which gives the classes their order. Sound and frames are those from Start to End of the event.
Shapes: audio (1, F, T) by the recipe, visual (3, T, H, W).
"""

from __future__ import annotations

from pathlib import Path

from concordant.data.card import Card, LabelCard
from concordant.data.digest import sources
from concordant.data.formats.ave_annotations import class_names, read_annotations
from concordant.data.formats.clips import MediaOptions, audio_card, audio_visual, film_card, reading
from concordant.data.formats.listing import FILMS, Row, find_lists, first, index_media
from concordant.data.reading import Reading
from concordant.errors import DataError

ANNOTATIONS = "Annotations.txt"
LISTS = {"train": "trainSet.txt", "valid": "valSet.txt", "test": "testSet.txt"}
#: Published numbers of lines of the lists; repeated videos among them are kept once.
SPLITS = {"train": 3339, "valid": 402, "test": 402}
#: As PMR decodes the clips.
DEFAULT = MediaOptions("pmr-10s", fps=1, frames=4)


def read_ave_media(folder: Path, *, options: MediaOptions = DEFAULT) -> Reading:
    """Read the clips of the three lists.

    Args:
        folder: that has the lists and the films in it or below it.
        options: how clips are decoded.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    place = find_lists(folder, (ANNOTATIONS, *LISTS.values()))
    classes = class_names(read_annotations(place / ANNOTATIONS))
    rows, notes = read_lists(place, classes)
    found = index_media(folder, (row.id for row in rows), FILMS)
    films = {row.id: first(found[row.id], Path.is_file) for row in rows}
    expected = dict.fromkeys(("audio", "picture"), "AVE/<clip>.mp4")
    rows = [row.found({"audio": films[row.id], "picture": films[row.id]}, expected) for row in rows]
    audio, visual = audio_card(options, rows), film_card(options, rows)
    card = Card(
        name="ave-clips",
        modalities={"audio": audio, "visual": visual},
        label=LabelCard(classes=classes),
        groups="video",
        sources=sources(place, (ANNOTATIONS, *LISTS.values())),
        notes=tuple(notes),
    )
    work = audio_visual(options, audio.shape)
    return reading(card, rows, work, options, folder)


def read_lists(place: Path, classes: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return the clips of the three lists, without their media, and what should be known of them.

    Raises:
        DataError: a line is not as it should be, or names an event that Annotations.txt does not have.
    """
    rows: dict[str, Row] = {}
    repeated = empty = 0
    for split, file in LISTS.items():
        for known in read_annotations(place / file):
            if known.category not in classes:
                raise DataError(f"{place / file}: {known.video} is {known.category!r}, which {ANNOTATIONS} never names")
            if known.video in rows:
                repeated += 1
                continue
            span = (float(known.start), float(known.end)) if known.start < known.end else None
            empty += span is None
            label = classes.index(known.category)
            rows[known.video] = Row(known.video, split, label, {}, group=known.video, span=span)
    notes = []
    if repeated:
        notes.append(f"{repeated} lines name a video again, some with another event; the first line counts")
    if empty:
        notes.append(f"{empty} events have no length; their clips are kept whole")
    return list(rows.values()), notes
