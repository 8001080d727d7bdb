"""AVE's published features (Tian et al., ECCV 2018): VGG-19 maps and VGGish vectors of every second, in HDF5 files.

`visual_feature.h5` (N, 10, 7, 7, 512) and `audio_feature.h5` (N, 10, 128) under the key "avadataset", float64 and
7.7 GB as published: they are read slice by slice. Row i is line i of `Annotations.txt`. `train_order.h5`,
`val_order.h5` and `test_order.h5` list rows under "order". `labels.h5` or `right_labels.h5` (N, 10, 29) are one-hot,
the last class the background; without them the annotated span says what a second is.
Shapes handed over: audio (T, 128), visual (512, T, 7, 7), T = 10 seconds, or those of the event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from concordant.data.card import Card, LabelCard, ModalityCard
from concordant.data.digest import sources
from concordant.data.formats.ave_annotations import BACKGROUND, SECONDS, Annotation, class_names, read_annotations
from concordant.data.reading import Findings, Reading
from concordant.data.store import Instance
from concordant.errors import DataError, UsageError

#: Published numbers of clips.
PUBLISHED = {"train": 3339, "valid": 402, "test": 402}
KEY = "avadataset"
ANNOTATIONS = "Annotations.txt"
FEATURES = {"audio": "audio_feature.h5", "visual": "visual_feature.h5"}
ORDERS = {"train": "train_order.h5", "valid": "val_order.h5", "test": "test_order.h5"}
LABELS = ("right_labels.h5", "labels.h5")  # the former is the corrected one
BLOCK = 16  # rows that are read at once: 31 MB of the visual features

Array = NDArray[Any]
AveTask = Literal["segments", "clips"]


def read_ave(folder: Path, *, task: str = "segments") -> Reading:
    """Read the feature set.

    Args:
        folder: of the files.
        task: "segments", one of 29 classes a second; or "clips", one of 28 a clip, features cut to the event.

    Raises:
        UsageError: the task is unknown.
        DataError: files are absent (all are named), truncated, or do not fit each other.
    """
    if task not in ("segments", "clips"):
        raise UsageError(f"task must be segments or clips; found {task!r}")
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
    if task == "segments" and labels_file is not None:
        labels = _labels(folder / labels_file, len(annotations), len(classes) + 1)
    elif task == "segments":
        notes.append(f"neither {' nor '.join(LABELS)} is there: what a second is comes from {ANNOTATIONS}")
    shapes = {name: _shape(folder / file, name, len(annotations)) for name, file in FEATURES.items()}
    empty = sum(known.start == known.end for known in annotations)
    if task == "clips" and empty:
        notes.append(f"{empty} events have no length by {ANNOTATIONS}; their clips are kept whole")
    left_out = len(annotations) - len(split_of)
    if left_out:
        notes.append(f"{left_out} clips are in no split and were left out")
    notes += _shared(annotations, split_of)
    channels, (height, width) = shapes["visual"][-1], shapes["visual"][:2]
    card = Card(
        name="ave" if task == "segments" else "ave-clips",
        modalities={
            "audio": ModalityCard(
                kind="audio", layout="btd", shape=(None, shapes["audio"][0]), rate=1, preprocessing={"model": "VGGish"}
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
            kind="segments" if task == "segments" else "class",
            classes=(*classes, BACKGROUND) if task == "segments" else classes,
        ),
        groups="video",
        sources=sources(folder, [*needed, *([labels_file] if labels_file is not None else [])]),
        notes=tuple(notes),
    )
    findings = Findings()
    return Reading(card, _instances(folder, annotations, classes, labels, split_of, task, findings), findings)


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


def _spans(annotations: list[Annotation], classes: tuple[str, ...]) -> Array:
    """Return class indices (N, 10): the clip's from Start to End, else the background."""
    second = np.arange(SECONDS)
    return np.stack(
        [np.where((second >= a.start) & (second < a.end), classes.index(a.category), len(classes)) for a in annotations]
    )


def _shared(annotations: list[Annotation], split_of: Mapping[int, str]) -> list[str]:
    """Say which videos are in two splits."""
    videos: dict[str, set[str]] = {split: set() for split in ORDERS}
    for row, split in split_of.items():
        videos[split].add(annotations[row].video)
    found = []
    for split in ("test", "valid"):
        shared = videos["train"] & videos[split]
        if shared:
            found.append(
                f"{len(shared)} videos of {split} are in train too, annotated with another event: "
                f"{', '.join(sorted(shared))}"
            )
    return found


def _instances(
    folder: Path,
    annotations: list[Annotation],
    classes: tuple[str, ...],
    labels: Array,
    split_of: Mapping[int, str],
    task: str,
    findings: Findings,
) -> Iterator[Instance]:
    with ExitStack() as opened:
        sets = {name: _open(opened, folder / file) for name, file in FEATURES.items()}
        for start in range(0, len(annotations), BLOCK):
            rows = [row for row in range(start, min(start + BLOCK, len(annotations))) if row in split_of]
            blocks = {name: _block(folder / FEATURES[name], one, start) for name, one in sets.items()} if rows else {}
            for row in rows:
                known = annotations[row]
                seconds = slice(None)
                if task == "clips" and known.start < known.end:
                    seconds = slice(known.start, known.end)
                name = f"{known.video}#{row}"
                features: dict[str, Array | None] = {
                    modality: findings.clean(modality, block[row - start, seconds], f"{name}: {modality}")
                    for modality, block in blocks.items()
                }
                features["visual"] = np.moveaxis(np.asarray(features["visual"]), -1, 0)  # (C, T, H, W)
                label = classes.index(known.category) if task == "clips" else labels[row]
                yield Instance(name, split_of[row], label, features, known.video)


def _shape(path: Path, modality: str, rows: int) -> tuple[int, ...]:
    """Return the shape of a second, of the rows and seconds that must be there."""
    with ExitStack() as opened:
        shape: tuple[int, ...] = _open(opened, path).shape
    wanted = {"audio": 3, "visual": 5}[modality]
    axes = "clips, seconds, features" if modality == "audio" else "clips, seconds, height, width, channels"
    if len(shape) != wanted or shape[:2] != (rows, SECONDS) or 0 in shape:
        raise DataError(
            f"{path} must have {wanted} axes ({axes}), the first two {rows} (lines of {ANNOTATIONS}) and {SECONDS}; "
            f"found {shape}"
        )
    return shape[2:]


def _read(path: Path, key: str) -> Array:
    with ExitStack() as opened:
        return _block(path, _open(opened, path, key), 0, None)


def _open(opened: ExitStack, path: Path, key: str = KEY) -> Any:  # noqa: ANN401 - h5py has no types
    """Return a dataset of an HDF5 file, opened as long as the stack."""
    import h5py

    try:
        file = opened.enter_context(h5py.File(path, "r"))
        found = file.get(key)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}); copy or download it again") from None
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path} has no dataset {key!r}; found {', '.join(file) or 'none'}")
    return found


def _block(path: Path, dataset: Any, start: int, count: int | None = BLOCK) -> Array:  # noqa: ANN401
    try:
        return np.asarray(dataset[start : None if count is None else start + count])
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} is damaged at row {start} or behind ({error}); copy or download it again") from None
