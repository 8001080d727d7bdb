"""UTD-MHAD: 27 actions of eight subjects by three sensors, skeleton, inertial unit and depth camera.

Odd subjects train, even ones test, as published; validation is cut from the training rows.
What tells who moves and where is taken out, since the subjects of the test are others: joints are relative to where
the hips are at first, and of depth only what moves is kept, each frame less the mean of its recording.
Shapes: skeleton (N, 64, 60), 20 joints in three axes; inertial (N, 128, 6), accelerometer and gyroscope;
depth (N, 1, 16, 15, 20), 16 frames averaged over 4x4 pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.archives import Column, read_archive
from concordant.data.split import Split, stratified

FILE = "utd_mhad.npz"
CLASSES = 27
TRAIN_SUBJECTS = (1, 3, 5, 7)
VALID = 0.15
HIPS = 3  # the joint between the hips


def load(folder: Path | None) -> Split:
    """Read the archive; groups are subjects, skeleton and depth relative to the recording's own."""
    arrays = read_archive(
        folder or Path(),
        FILE,
        {
            "skeleton": Column("recordings", (64, 20, 3)),
            "inertial": Column("recordings", (128, 6)),
            "depth": Column("recordings", (16, 60, 80), kinds="u"),
            "action": Column("recordings", kinds="iu", classes=CLASSES),
            "subject": Column("recordings", kinds="iu"),
            "id": Column("recordings", kinds="U"),
        },
    )
    count = len(arrays["id"])
    skeleton = arrays["skeleton"] - arrays["skeleton"][:, :1, HIPS : HIPS + 1]
    depth = arrays["depth"].reshape(count, 16, 15, 4, 20, 4).mean((3, 5), dtype=np.float32)
    depth -= depth.mean(1, keepdims=True)
    return Split(
        inputs={
            "skeleton": skeleton.reshape(count, 64, 60).astype(np.float32),
            "inertial": arrays["inertial"].astype(np.float32),
            "depth": depth[:, None],
        },
        labels=arrays["action"].astype(np.int64),
        ids=arrays["id"],
        groups=arrays["subject"].astype(np.str_),
    )


def split(everything: Split, seed: int, protocol: str) -> Splits:
    """Return the published split by subject; 15 % of the training rows, by the seed, validate."""
    subjects = np.asarray(everything.groups).astype(np.int64)
    rest = np.flatnonzero(np.isin(subjects, TRAIN_SUBJECTS))
    train, valid = stratified(rest, everything.labels[rest], VALID, seed, "utd-mhad", "valid")
    return Splits(
        classes=tuple(f"action {index + 1}" for index in range(CLASSES)),
        layouts={"skeleton": "btd", "inertial": "btd", "depth": "bcthw"},
        train=everything.take(train),
        valid=everything.take(valid),
        test=everything.take(np.flatnonzero(~np.isin(subjects, TRAIN_SUBJECTS))),
    )


UTD_MHAD = Benchmark(
    name="utd-mhad",
    setting="sequence",
    summary="UTD-MHAD: 27 actions by skeleton, inertial and depth sequences; subjects held out",
    fusion="transformer",
    modalities=("skeleton", "inertial", "depth"),
    protocols=("subjects",),
    load=load,
    split=split,
    files=(FILE,),
    recipe={"*": {"steps": 400}},  # seventy times through the training part
)
