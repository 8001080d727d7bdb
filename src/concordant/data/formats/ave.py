"""AVE (Tian et al., ECCV 2018): 28 audio-visual events in ten-second clips, from published features or from films.

Lists: one clip per line, `Category&VideoID&Quality&Start&End`; the event is seen and heard from Start to End. Classes
are in the order in which `Annotations.txt` first names them, which is the published index.

Features: `visual_feature.h5` (N, 10, 7, 7, 512) of VGG-19 and `audio_feature.h5` (N, 10, 128) of VGGish under the key
"avadataset", float64 and 7.7 GB as published: they are read in blocks. Row i is line i of `Annotations.txt`.
`train_order.h5`, `val_order.h5` and `test_order.h5` list rows under "order". `labels.h5` or `right_labels.h5`
(N, 10, 29) are one-hot, the last class the background; without them the annotated span labels the seconds.
Shapes: audio (T, 128), visual (512, T, 7, 7), T = 10 seconds, or those of the event.

Films: `AVE/<VideoID>.mp4` as PMR (Fan et al., CVPR 2023) decodes them, with the lists `trainSet.txt`, `valSet.txt` and
`testSet.txt`. Sound and frames are those from Start to End. Shapes: audio (1, F, T) by the recipe, visual (3, T, H, W).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from concordant.data.arrays import Array
from concordant.data.card import Card, LabelCard, ModalityCard, sources
from concordant.data.formats.clips import MediaOptions, audio_visual_reading
from concordant.data.formats.hdf5 import open_dataset, read_rows
from concordant.data.formats.listing import FILMS, Row, find_lists, first, index_media, is_count, read_lines
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError

SECONDS = 10
BACKGROUND = "Background"
ANNOTATIONS = "Annotations.txt"
KEY = "avadataset"
FEATURES = {"audio": "audio_feature.h5", "visual": "visual_feature.h5"}
ORDERS = {"train": "train_order.h5", "valid": "val_order.h5", "test": "test_order.h5"}
LABELS = ("right_labels.h5", "labels.h5")  # the former is the corrected one
BLOCK = 16  # rows that are read at once: 31 MB of the visual features
LISTS = {"train": "trainSet.txt", "valid": "valSet.txt", "test": "testSet.txt"}
DEFAULT = MediaOptions("pmr-10s", fps=1, frames=4)  # as PMR decodes the clips


class Annotation(NamedTuple):
    """One line: the event of a clip, and its first and last + 1 second."""

    category: str
    video: str
    quality: str
    start: int
    end: int


def read_annotations(path: Path) -> list[Annotation]:
    """Return the lines of a list, without its header.

    Raises:
        DataError: the file is absent or not text, or a line is malformed (its number is named).
    """
    found = []
    for number, line in read_lines(path):
        if number == 1 and line.startswith("Category&VideoID&Quality"):
            continue
        parts = line.split("&")
        if len(parts) != 5 or not all(parts) or not all(map(is_count, parts[3:])):
            raise DataError(
                f"{path}, line {number} must be Category&VideoID&Quality&Start&End with whole seconds; found {line!r}"
            )
        start, end = int(parts[3]), int(parts[4])
        if not 0 <= start <= end <= SECONDS:  # one published event has no length
            raise DataError(f"{path}, line {number}: the event must lie within 0 to {SECONDS}; found {start} to {end}")
        found.append(Annotation(parts[0], parts[1], parts[2], start, end))
    if not found:
        raise DataError(f"{path} names no clip")
    return found


def class_names(annotations: Sequence[Annotation]) -> tuple[str, ...]:
    """Return the categories in the order of first occurrence."""
    return tuple(dict.fromkeys(annotation.category for annotation in annotations))


def read_ave(folder: Path, *, task: str = "segments") -> Reading:
    """Read the published features.

    Args:
        folder: of the files.
        task: "segments", one of 29 classes per second; or "clips", one of 28 per clip, features cut to the event.

    Raises:
        UsageError: the task is unknown.
        DataError: files are absent (all are named), truncated, or do not fit each other.
    """
    if task not in ("segments", "clips"):
        raise UsageError(f"task must be segments or clips; found {task!r}")
    segments = task == "segments"
    needed = [*FEATURES.values(), *ORDERS.values(), ANNOTATIONS]
    missing = [file for file in needed if not (folder / file).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}; AVE's feature set has {', '.join(needed)} and {' or '.join(LABELS)}"
        )
    annotations = read_annotations(folder / ANNOTATIONS)
    classes = class_names(annotations)
    split_of = _splits(folder, len(annotations))
    labels_file = next((file for file in LABELS if (folder / file).is_file()), None)
    labels, notes = _spans(annotations, classes), []
    if segments and labels_file is not None:
        labels = _labels(folder / labels_file, len(annotations), len(classes) + 1)
    elif segments:
        notes.append(f"neither {' nor '.join(LABELS)} is there: what a second is comes from {ANNOTATIONS}")
    (size,), (height, width, channels) = (_shape(folder, name, len(annotations)) for name in FEATURES)
    empty = sum(known.start == known.end for known in annotations)
    if not segments and empty:
        notes.append(f"{empty} events have no length by {ANNOTATIONS}; their clips are kept whole")
    left_out = len(annotations) - len(split_of)
    if left_out:
        notes.append(f"{left_out} clips are in no split and were left out")
    notes += _shared(annotations, split_of)
    card = Card(
        name="ave" if segments else "ave-clips",
        modalities={
            "audio": ModalityCard(
                kind="audio", layout="btd", shape=(None, size), rate=1, preprocessing={"model": "VGGish"}
            ),
            "visual": ModalityCard(
                kind="vision",
                layout="bcthw",
                shape=(channels, None, height, width),
                rate=1,
                preprocessing={"model": "VGG-19 pool5, mean over the 16 frames of a second"},
            ),
        },
        label=LabelCard(
            kind="segments" if segments else "class", classes=(*classes, BACKGROUND) if segments else classes
        ),
        groups="video",
        sources=sources(folder, [*needed, *([labels_file] if labels_file is not None else [])]),
        notes=tuple(notes),
    )
    findings = Findings()

    def instances() -> Iterator[Instance]:
        for row, blocks in _rows(folder, split_of):
            known = annotations[row]
            seconds = slice(known.start, known.end) if not segments and known.start < known.end else slice(None)
            name = f"{known.video}#{row}"
            audio, visual = (
                findings.clean(modality, values[seconds], f"{name}: {modality}") for modality, values in blocks.items()
            )
            features: dict[str, Array | None] = {"audio": audio, "visual": np.moveaxis(visual, -1, 0)}  # (C, T, H, W)
            label = labels[row] if segments else classes.index(known.category)
            yield Instance(name, split_of[row], label, features, known.video)

    return Reading(card, instances(), findings)


def _splits(folder: Path, rows: int) -> dict[int, str]:
    """Return row -> split."""
    found: dict[int, str] = {}
    for split, file in ORDERS.items():
        order = _read(folder / file, "order")
        if order.ndim != 1 or order.dtype.kind not in "iu" or not len(order):
            raise DataError(f"{folder / file}: order must be row numbers (n,); found {order.dtype} {order.shape}")
        if order.min() < 0 or order.max() >= rows:
            raise DataError(
                f"{folder / file}: rows must be 0 to {rows - 1}, the lines of {ANNOTATIONS}; "
                f"found {order.min()} to {order.max()}"
            )
        for row in order.tolist():
            if row in found:
                raise DataError(
                    f"{folder / file}: row {row} is in {found[row]} already; every clip may be in one split"
                )
            found[row] = split
    return found


def _labels(path: Path, rows: int, classes: int) -> Array:
    """Return class indices (N, 10) from one-hot labels."""
    hot = _read(path, KEY)
    if hot.shape != (rows, SECONDS, classes):
        raise DataError(
            f"{path}: labels must have shape ({rows}, {SECONDS}, {classes}): clips, seconds, classes and the "
            f"background; found {hot.shape}"
        )
    if not np.array_equal(np.sort(hot, -1)[..., -2:], np.broadcast_to([0, 1], (*hot.shape[:2], 2))) or hot.min() < 0:
        raise DataError(f"{path}: labels must be one-hot, one class a second")
    return np.asarray(hot.argmax(-1))


def _spans(annotations: Sequence[Annotation], classes: tuple[str, ...]) -> Array:
    """Return class indices (N, 10): that of the clip from Start to End, else the background."""
    second = np.arange(SECONDS)
    return np.stack(
        [np.where((second >= a.start) & (second < a.end), classes.index(a.category), len(classes)) for a in annotations]
    )


def _shared(annotations: Sequence[Annotation], split_of: Mapping[int, str]) -> list[str]:
    """Return a note for each split that shares videos with train."""
    videos: dict[str, set[str]] = {split: set() for split in ORDERS}
    for row, split in split_of.items():
        videos[split].add(annotations[row].video)
    shared = {split: sorted(videos["train"] & videos[split]) for split in ("test", "valid")}
    return [
        f"{len(both)} videos of {split} are in train too, annotated with another event: {', '.join(both)}"
        for split, both in shared.items()
        if both
    ]


def _rows(folder: Path, split_of: Mapping[int, str]) -> Iterator[tuple[int, dict[str, Array]]]:
    """Yield the rows that are in a split, with their audio and visual features; they are read in blocks."""
    with ExitStack() as opened:
        sets = {name: opened.enter_context(open_dataset(folder / file, KEY)) for name, file in FEATURES.items()}
        for start in range(0, len(sets["audio"]), BLOCK):
            rows = [row for row in range(start, start + BLOCK) if row in split_of]
            blocks = {
                name: read_rows(folder / FEATURES[name], one, start, start + BLOCK if rows else start)
                for name, one in sets.items()
            }
            for row in rows:
                yield row, {name: block[row - start] for name, block in blocks.items()}


def _shape(folder: Path, modality: str, rows: int) -> tuple[int, ...]:
    """Return the shape of a second, after a check of rows and seconds."""
    path = folder / FEATURES[modality]
    with open_dataset(path, KEY) as opened:
        shape: tuple[int, ...] = opened.shape
    wanted = {"audio": 3, "visual": 5}[modality]
    axes = "clips, seconds, features" if modality == "audio" else "clips, seconds, height, width, channels"
    if len(shape) != wanted or shape[:2] != (rows, SECONDS) or 0 in shape:
        raise DataError(
            f"{path} must have {wanted} axes ({axes}), the first two {rows} (lines of {ANNOTATIONS}) and {SECONDS}; "
            f"found {shape}"
        )
    return shape[2:]


def _read(path: Path, key: str) -> Array:
    with open_dataset(path, key) as opened:
        return read_rows(path, opened)


def read_ave_media(folder: Path, *, options: MediaOptions = DEFAULT) -> Reading:
    """Read the clips of the three lists from films; both are in the folder or below it.

    Raises:
        UsageError: the options name no recipe for audio.
        DataError: lists are absent or malformed, or more clips are missing than may fail.
    """
    place = find_lists(folder, (ANNOTATIONS, *LISTS.values()))
    classes = class_names(read_annotations(place / ANNOTATIONS))
    rows, notes = read_media_lists(place, classes)
    found = index_media(folder, (row.id for row in rows), FILMS)
    films = {row.id: first(found[row.id], Path.is_file) for row in rows}
    expected = dict.fromkeys(("audio", "picture"), "AVE/<clip>.mp4")
    return audio_visual_reading(
        "ave-clips",
        [row.found(dict.fromkeys(expected, films[row.id]), expected) for row in rows],
        options,
        folder,
        classes=classes,
        splits=tuple(LISTS),
        groups="video",
        sources=sources(place, (ANNOTATIONS, *LISTS.values())),
        notes=notes,
    )


def read_media_lists(place: Path, classes: tuple[str, ...]) -> tuple[list[Row], list[str]]:
    """Return the clips of the three lists, without their media, and notes.

    Raises:
        DataError: a line is malformed, or names a class that Annotations.txt does not have.
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
