"""Benchmarks of several descriptors of one image: an archive of views, split at random by the seed.

Shapes: each view (N, D), float; labels (N,).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.archives import Column, read_archive
from concordant.data.split import Split, stratified

TEST = 0.2
VALID = 0.1


def view_benchmark(
    *,
    name: str,
    summary: str,
    sizes: Mapping[str, int],
    classes: tuple[str, ...],
    prefix: str,
    recipe: Mapping[str, Mapping[str, Any]] | None = None,
) -> Benchmark:
    """Return a benchmark that reads <name>.npz and splits it at random.

    Args:
        name: of the benchmark, and of its archive without the suffix.
        summary: one line.
        sizes: view -> its number of features D.
        classes: their names.
        prefix: an image's id is this and its row, since the archive names none.
        recipe: fields of the recipe that differ from the usual, by protocol.
    """
    file = f"{name}.npz"

    def load(folder: Path | None) -> Split:
        """Read the archive."""
        columns = {"label": Column("images", kinds="iu", classes=len(classes))}
        columns |= {view: Column("images", (size,)) for view, size in sizes.items()}
        arrays = read_archive(folder or Path(), file, columns)
        return Split(
            inputs={view: arrays[view].astype(np.float32) for view in sizes},
            labels=arrays["label"].astype(np.int64),
            ids=np.array([f"{prefix}-{row}" for row in range(len(arrays["label"]))]),
        )

    def split(everything: Split, seed: int, protocol: str) -> Splits:
        """Return a stratified random split: 20 % for testing, 10 % of the rest for validation."""
        rest, test = stratified(np.arange(len(everything)), everything.labels, TEST, seed, name, "test")
        train, valid = stratified(rest, everything.labels[rest], VALID, seed, name, "valid")
        return Splits(
            classes=classes,
            layouts=dict.fromkeys(sizes, "bd"),
            train=everything.take(train),
            valid=everything.take(valid),
            test=everything.take(test),
        )

    return Benchmark(
        name=name,
        setting="vector",
        summary=summary,
        fusion="lf-dnn",
        modalities=tuple(sizes),
        protocols=("random",),
        load=load,
        split=split,
        files=(file,),
        recipe=recipe or {},
    )
