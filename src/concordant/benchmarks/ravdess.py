"""RAVDESS, emotion in speech by 24 actors: log-mel spectrograms and facial action units.

Five published folds with disjoint actors; seed s tests on fold s mod 5, and validation is cut by actor from the
others. 16 recordings have no audio.
Shapes: logmel (N, 400, 64), one step every 10 ms, padded behind the end; action_units (N, 35), means over a clip.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.archives import Column, read_archive
from concordant.data.split import Integers, Split, Strings, by_group
from concordant.errors import DataError

FILE = "ravdess.npz"
FOLDS = 5
VALID = 0.15


class Recordings(NamedTuple):
    """What the archive holds.

    Args:
        everything: all recordings; groups are actors.
        fold: of each recording (N,).
        classes: names of the emotions, by index.
    """

    everything: Split
    fold: Integers
    classes: tuple[str, ...]


def load(folder: Path | None) -> Recordings:
    """Read the archive."""
    arrays = read_archive(
        folder or Path(),
        FILE,
        {
            "logmel": Column("recordings", (400, 64)),
            "action_units": Column("recordings", (35,)),
            "emotion": Column("recordings", kinds="iu"),
            "emotion_names": Column("classes", kinds="U"),
            "actor": Column("recordings", kinds="iu"),
            "fold": Column("recordings", kinds="iu", classes=FOLDS),
            "has_audio": Column("recordings", kinds="b"),
            "name": Column("recordings", kinds="U"),
        },
    )
    labels, classes = arrays["emotion"].astype(np.int64), tuple(arrays["emotion_names"].tolist())
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(f"{FILE}: emotion must be 0 to {len(classes) - 1}; found {labels.min()} to {labels.max()}")
    logmel = arrays["logmel"].astype(np.float32)
    here = arrays["has_audio"]
    mask = (logmel != 0).any(2)  # (N, T); behind the end every band is exactly 0
    if not mask[here].any(1).all():
        raise DataError(f"{FILE}: {int((~mask[here].any(1)).sum())} recordings with audio have an empty logmel")
    everything = Split(
        inputs={"logmel": logmel, "action_units": arrays["action_units"].astype(np.float32)},
        labels=labels,
        ids=arrays["name"],
        groups=arrays["actor"].astype(np.str_),
        masks={"logmel": mask},
        present={"logmel": here},
    )
    return Recordings(everything, arrays["fold"].astype(np.int64), classes)


def split(read: Recordings, seed: int, protocol: str) -> Splits:
    """Return the split of a seed: fold s mod 5 tests, 15 % of the other folds' actors validate."""
    everything, fold, classes = read
    groups: Strings = np.asarray(everything.groups)
    rest = np.flatnonzero(fold != seed % FOLDS)
    train, valid = by_group(rest, groups[rest], VALID, seed, "ravdess", "valid")
    return Splits(
        classes=classes,
        layouts={"logmel": "btd", "action_units": "bd"},
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(np.flatnonzero(fold == seed % FOLDS)),
    )


RAVDESS = Benchmark(
    name="ravdess",
    setting="sequence",
    summary="RAVDESS: eight emotions by log-mel spectrogram and facial action units; actors held out",
    fusion="lf-dnn",
    modalities=("logmel", "action_units"),
    protocols=("folds",),
    load=load,
    split=split,
    files=(FILE,),
    recipe={"*": {"steps": 700}},
)
