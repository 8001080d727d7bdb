"""Scene-15: fifteen kinds of scenes, three image descriptors each, one vector a view.

Shapes: view0 (N, 20), view1 (N, 59), view2 (N, 40), 4485 images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concord.data.archives import Column, read_archive
from concord.data.benchmark import Benchmark, Parts
from concord.data.part import Part
from concord.data.splits import stratified

FILE = "scene15.npz"
SIZES = {"view0": 20, "view1": 59, "view2": 40}
CLASSES = 15
TEST = 0.2
VALID = 0.1


def load(folder: Path | None) -> Part:
    """Read the archive."""
    columns = {"label": Column("images", kinds="iu", classes=CLASSES)}
    columns |= {name: Column("images", (size,)) for name, size in SIZES.items()}
    arrays = read_archive(folder or Path(), FILE, columns)
    return Part(
        inputs={name: arrays[name].astype(np.float32) for name in SIZES},
        labels=arrays["label"].astype(np.int64),
        ids=np.array([f"scene-{row}" for row in range(len(arrays["label"]))]),
    )


def split(everything: Part, seed: int, protocol: str) -> Parts:
    """Return a stratified random split: 20 % for testing, 10 % of the rest for validation."""
    rest, test = stratified(np.arange(len(everything)), everything.labels, TEST, seed, "scene15", "test")
    train, valid = stratified(rest, everything.labels[rest], VALID, seed, "scene15", "valid")
    return Parts(
        classes=tuple(f"scene {index}" for index in range(CLASSES)),
        layouts=dict.fromkeys(SIZES, "bd"),
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(test),
    )


SCENE15 = Benchmark(
    name="scene15",
    setting="vector",
    summary="Scene-15: fifteen kinds of scenes by three image descriptors",
    fusion="lf-dnn",
    modalities=tuple(SIZES),
    protocols=("random",),
    load=load,
    split=split,
    files=(FILE,),
    # Of learning rates 0.003 to 0.01 and 700 or 1400 steps among the best on validation (joint and context, two seeds).
    recipe={"*": {"steps": 1400, "learning_rate": 0.01}},
)
