"""Vectors of published audio-visual networks: last layers of two ResNet-18 on test clips of CREMA-D and AVE.

An audio spectrogram and face or scene frames went through networks trained jointly on the training clips, plainly
("normal") or with gradient modulation ("ogm-ge", OGM-GE, CVPR 2022). The archives hold the test clips, on which neither
was fitted. Five folds: seed s tests on fold s mod 5; the folds are redrawn every five seeds.
Shapes: audio (N, 512), visual (N, 512).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from concordant.benchmarks.benchmark import FOLDS, Benchmark, divide
from concordant.data.archives import Column, read_archive
from concordant.data.split import Split, Task, class_folds, group_folds

TRAININGS = {"normal": "normal", "ogm-ge": "ogm_ge"}  # protocol -> suffix of the arrays
MODALITIES = ("audio", "visual")


class Clips(NamedTuple):
    """Content of an archive.

    Args:
        by_protocol: protocol -> the clips with the features of that training.
        classes: names, by index.
    """

    by_protocol: dict[str, Split]
    classes: tuple[str, ...]


def resnet_benchmark(name: str, file: str, summary: str, group: Callable[[str], str] | None) -> Benchmark:
    """Return the benchmark of one archive; `group` makes the group of a clip from its id, None = none."""
    return Benchmark(
        name=name,
        setting="vector",
        summary=summary,
        fusion="lf-dnn",
        modalities=MODALITIES,
        protocols=tuple(TRAININGS),
        load=lambda folder: _load(folder or Path(), file, group),
        split=lambda clips, seed, protocol: _split(clips, seed, protocol, name),
        files=(file,),
        recipe={"*": {"steps": 300, "dropout": 0.5}},  # a few hundred training clips
    )


def _load(folder: Path, file: str, group: Callable[[str], str] | None) -> Clips:
    columns = {f"{name}_{suffix}": Column("clips", (512,)) for name in MODALITIES for suffix in TRAININGS.values()}
    columns |= {
        "label": Column("clips", kinds="iu", classes="class_names"),
        "id": Column("clips", kinds="U"),
        "class_names": Column("classes", kinds="U"),
    }
    arrays = read_archive(folder, file, columns)
    groups = None if group is None else np.array([group(name) for name in arrays["id"].tolist()])
    by_protocol = {
        protocol: Split(
            inputs={name: arrays[f"{name}_{suffix}"].astype(np.float32) for name in MODALITIES},
            labels=arrays["label"].astype(np.int64),
            ids=arrays["id"],
            groups=groups,
        )
        for protocol, suffix in TRAININGS.items()
    }
    return Clips(by_protocol, tuple(arrays["class_names"].tolist()))


def _split(clips: Clips, seed: int, protocol: str, name: str) -> Task:
    """Return the splits of a seed: by whole groups where there are groups, otherwise stratified by class."""
    whole = clips.by_protocol[protocol]
    grouped = whole.groups is not None
    folds = (
        group_folds(np.asarray(whole.groups), FOLDS, seed // FOLDS, name, "folds")
        if grouped
        else class_folds(whole.labels, FOLDS, seed // FOLDS, name, "folds")
    )
    layouts = dict.fromkeys(MODALITIES, "bd")
    return divide(whole, folds == seed % FOLDS, seed, name, clips.classes, layouts, grouped=grouped)
