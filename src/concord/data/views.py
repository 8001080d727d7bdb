"""What the benchmarks of several descriptors of one image share: an archive of views, split at random by the seed.

Shapes: each view (N, D), float; labels (N,).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from concord.data.archives import Column, read_archive
from concord.data.benchmark import Parts
from concord.data.part import Part
from concord.data.splits import stratified

TEST = 0.2
VALID = 0.1


def load_views(folder: Path | None, file: str, sizes: Mapping[str, int], *, classes: int, prefix: str) -> Part:
    """Read an archive of views.

    Args:
        folder: where the archive is.
        file: its name.
        sizes: view -> its number of features D.
        classes: how many there are.
        prefix: an image's id is this and its row, since the archive names none.
    """
    columns = {"label": Column("images", kinds="iu", classes=classes)}
    columns |= {name: Column("images", (size,)) for name, size in sizes.items()}
    arrays = read_archive(folder or Path(), file, columns)
    return Part(
        inputs={name: arrays[name].astype(np.float32) for name in sizes},
        labels=arrays["label"].astype(np.int64),
        ids=np.array([f"{prefix}-{row}" for row in range(len(arrays["label"]))]),
    )


def split_views(everything: Part, seed: int, benchmark: str, classes: tuple[str, ...]) -> Parts:
    """Return a stratified random split: 20 % for testing, 10 % of the rest for validation.

    Args:
        everything: all images.
        seed: of the split.
        benchmark: names the stream of random numbers.
        classes: their names.
    """
    rest, test = stratified(np.arange(len(everything)), everything.labels, TEST, seed, benchmark, "test")
    train, valid = stratified(rest, everything.labels[rest], VALID, seed, benchmark, "valid")
    return Parts(
        classes=classes,
        layouts=dict.fromkeys(everything.inputs, "bd"),
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(test),
    )
