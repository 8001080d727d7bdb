"""Features of published audio-visual networks: the last layers of two ResNet-18 on test clips of CREMA-D and AVE.

An audio spectrogram and face or scene frames went through networks that were trained jointly on the training
clips, plainly ("normal") or with gradient modulation ("ogm-ge", OGM-GE, CVPR 2022); the archives hold the test
clips, on which neither was fitted. Five folds: seed s tests on fold s mod 5, every five seeds they are drawn anew.
Shapes: audio (N, 512), visual (N, 512).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.archives import Column, read_archive
from concordant.data.split import Integers, Split, by_group, class_folds, group_folds, stratified
from concordant.errors import DataError

FOLDS = 5
VALID = 0.15
TRAININGS = {"normal": "normal", "ogm-ge": "ogm_ge"}  # protocol -> suffix of the arrays
MODALITIES = ("audio", "visual")


class Clips(NamedTuple):
    """What an archive holds.

    Args:
        parts: protocol -> the clips with the features of that training.
        classes: names, by index.
    """

    parts: dict[str, Split]
    classes: tuple[str, ...]


def read_clips(folder: Path, file: str, group: Callable[[str], str] | None) -> Clips:
    """Read an archive.

    Args:
        folder: of the archive.
        file: its name.
        group: from a clip's id to what it belongs to; None where clips are independent.

    Raises:
        DataError: it cannot be used.
    """
    columns = {f"{name}_{suffix}": Column("clips", (512,)) for name in MODALITIES for suffix in TRAININGS.values()}
    columns |= {
        "label": Column("clips", kinds="iu"),
        "id": Column("clips", kinds="U"),
        "class_names": Column("classes", kinds="U"),
    }
    arrays = read_archive(folder, file, columns)
    labels, classes = arrays["label"].astype(np.int64), tuple(arrays["class_names"].tolist())
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{file}: label must be 0 to {len(classes) - 1}; found {labels.min()} to {labels.max()}")
    ids = arrays["id"]
    parts = {
        protocol: Split(
            inputs={name: arrays[f"{name}_{suffix}"].astype(np.float32) for name in MODALITIES},
            labels=labels,
            ids=ids,
            groups=None if group is None else np.array([group(name) for name in ids.tolist()]),
        )
        for protocol, suffix in TRAININGS.items()
    }
    return Clips(parts, classes)


def split_clips(clips: Clips, seed: int, protocol: str, name: str) -> Splits:
    """Return the split of a seed: by whole groups where there are any, else stratified by class."""
    everything = clips.parts[protocol]
    if everything.groups is None:
        folds = class_folds(everything.labels, FOLDS, seed // FOLDS, name, "folds")
    else:
        folds = group_folds(everything.groups, FOLDS, seed // FOLDS, name, "folds")
    rest = np.flatnonzero(folds != seed % FOLDS)
    train, valid = _validation(everything, rest, seed, name)
    return Splits(
        classes=clips.classes,
        layouts=dict.fromkeys(MODALITIES, "bd"),
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(np.flatnonzero(folds == seed % FOLDS)),
    )


def _validation(everything: Split, rest: Integers, seed: int, name: str) -> tuple[Integers, Integers]:
    if everything.groups is None:
        return stratified(rest, everything.labels[rest], VALID, seed, name, "valid")
    return by_group(rest, everything.groups[rest], VALID, seed, name, "valid")


def _benchmark(name: str, file: str, summary: str, group: Callable[[str], str] | None) -> Benchmark:
    return Benchmark(
        name=name,
        setting="vector",
        summary=summary,
        fusion="lf-dnn",
        modalities=MODALITIES,
        protocols=tuple(TRAININGS),
        load=lambda folder: read_clips(folder or Path(), file, group),
        split=lambda clips, seed, protocol: split_clips(clips, seed, protocol, name),
        files=(file,),
        recipe={"*": {"steps": 300, "dropout": 0.5}},  # a few hundred training clips
    )


CREMAD_FEATURES = _benchmark(
    "cremad-features",
    "cremad_features.npz",
    "CREMA-D: six emotions by features of two ResNet-18, audio and face; actors held out",
    lambda name: name[:4],
)
AVE_FEATURES = _benchmark(
    "ave-features",
    "ave_features.npz",
    "AVE: 28 audio-visual events by features of two ResNet-18, sound and scene",
    None,
)
