"""Action recognition: UCF-101 by frames and optical flow, Kinetics-Sounds by sound and frames, UTD-MHAD by sensors.

`ucf101`, `kinetics-sounds` and `utd-mhad-mat` read published files (`concordant data prepare`). `utd-mhad` reads an
archive of UTD-MHAD at fixed lengths. Odd subjects train and even subjects test, as published; validation is cut from
the training rows. Test subjects differ from the training subjects, so what identifies the person and the place is
removed: joints are relative to the first position of the hips, and each depth frame is reduced by the mean of its
recording, which leaves what moves.
Shapes of `utd-mhad`: skeleton (N, 64, 60), 20 joints in three axes; inertial (N, 128, 6), accelerometer and gyroscope;
depth (N, 1, 16, 15, 20), 16 frames averaged over 4x4 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import FILM_OPTIONS, Benchmark, Dataset, divide, media_options
from concordant.benchmarks.prepared import stored_benchmark
from concordant.data.archives import Column, read_archive
from concordant.data.formats import kinetics_sounds, ucf101
from concordant.data.formats.utd_mhad_mat import read_utd_mhad, read_utd_mhad_archive
from concordant.data.reading import Reading
from concordant.data.split import Split, Task

SENSORS = "utd_mhad.npz"
CLASSES = 27
TRAIN_SUBJECTS = (1, 3, 5, 7)
HIPS = 3  # joint between the hips


def load_sensors(folder: Path | None) -> Split:
    """Read UTD-MHAD; groups are subjects, skeleton and depth relative to their recording."""
    arrays = read_archive(
        folder or Path(),
        SENSORS,
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


def split_sensors(whole: Split, seed: int, protocol: str) -> Task:
    """Return the published splits by subject; 15 % of the training rows, drawn by the seed, validate."""
    test = ~np.isin(np.asarray(whole.groups).astype(np.int64), TRAIN_SUBJECTS)
    classes = tuple(f"action {index + 1}" for index in range(CLASSES))
    return divide(whole, test, seed, "utd-mhad", classes, {"skeleton": "btd", "inertial": "btd", "depth": "bcthw"})


def _ucf101(path: Path, options: Mapping[str, Any]) -> Reading:
    return ucf101.read_ucf101(path, options=media_options(ucf101.DEFAULT, options), split=options.get("split", 1))


def _kinetics_sounds(path: Path, options: Mapping[str, Any]) -> Reading:
    media = media_options(kinetics_sounds.DEFAULT, options)
    return kinetics_sounds.read_kinetics_sounds(path, options=media, lists=options.get("lists"))


UTD_MHAD = Benchmark(
    name="utd-mhad",
    setting="sequence",
    summary="UTD-MHAD: 27 actions by skeleton, inertial and depth sequences; subjects held out",
    fusion="transformer",
    modalities=("skeleton", "inertial", "depth"),
    protocols=("subjects",),
    load=load_sensors,
    split=split_sensors,
    files=(SENSORS,),
    recipe={"*": {"steps": 400}},  # seventy epochs
)
KINETICS_SOUNDS = stored_benchmark(
    "kinetics-sounds", "Kinetics-Sounds: 31 actions that are seen and heard, by spectrogram and frames", steps=5000
)
UCF101 = stored_benchmark(
    "ucf101", "UCF-101: 101 actions by RGB frames and optical flow", steps=3000, modalities=("rgb", "flow")
)
UTD_MHAD_MAT = stored_benchmark(
    "utd-mhad-mat",
    "UTD-MHAD from its own files: 27 actions by skeleton, inertial and depth sequences",
    steps=400,
    setting="sequence",
    fusion="transformer",
    modalities=("skeleton", "inertial", "depth"),
)

_UTD_MHAD = Dataset(
    name="utd-mhad",
    title="UTD-MHAD: 27 actions of eight subjects by skeleton, inertial unit and depth, at fixed lengths",
    size="1 GB",
    licence="research use, by the terms of the University of Texas at Dallas",
    home="https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
    files="a folder with a<action>_s<subject>_t<trial>_skeleton.mat, _inertial.mat and _depth.mat, or below it",
    citation="Chen et al., UTD-MHAD, ICIP 2015",
    flaws=("published splits differ: here odd subjects train and even subjects test, as in the first paper",),
    read=lambda path, _: read_utd_mhad_archive(path),
    archive=SENSORS,
    published={"train": 431, "test": 430},
)
DATASETS = (
    Dataset(
        name="kinetics-sounds",
        title="Kinetics-Sounds: 31 actions that are seen and heard, 17,396 clips, by spectrogram and frames",
        size="some 30 GB of films",
        licence="annotations of Kinetics, CC BY 4.0; the clips are those of their uploaders",
        home="https://github.com/GeWu-Lab/OGM-GE_CVPR2022",
        files=(
            "a folder with <id>.mp4, or <id>.wav (or filter banks <id>.npy) and <id>/frame_0000N.jpg, and my_train.txt "
            "and my_test.txt in it or named by --lists"
        ),
        citation="Arandjelovic and Zisserman, Look, Listen and Learn, ICCV 2017",
        flaws=("clips disappear from their source, so two copies of it seldom hold the same clips",),
        read=_kinetics_sounds,
        published={"train": 14799, "test": 2597},
        classes={
            "train": (
                *(268, 690, 607, 512, 497, 445, 635, 478, 457, 605, 563, 486, 604, 592, 366, 339),
                *(333, 489, 653, 538, 654, 386, 281, 493, 395, 672, 197, 523, 433, 354, 254),
            ),
            "test": (
                *(81, 92, 87, 87, 87, 68, 90, 90, 86, 79, 91, 88, 73, 85, 86, 91),
                *(82, 84, 90, 90, 83, 91, 80, 92, 79, 66, 85, 84, 91, 76, 63),
            ),
        },
        options=(*FILM_OPTIONS, "spectrogram", "lists"),
    ),
    Dataset(
        name="ucf101",
        title="UCF-101: 101 actions of 13,320 clips, by RGB frames and optical flow",
        size="7 GB",
        licence="research use, by the terms of the University of Central Florida",
        home="https://www.crcv.ucf.edu/data/UCF101.php",
        files=(
            "a folder with ucfTrainTestlist/ and the films Class/v_Class_gGG_cCC.avi, or <clip>/frame_*.jpg with flow "
            "images in u/<clip> and v/<clip>"
        ),
        citation="Soomro et al., UCF101, arXiv 1212.0402, 2012",
        flaws=("clips of a group are cut from one video; the published splits keep groups whole",),
        read=_ucf101,
        published={"train": 9537, "test": 3783},  # of the first of three splits
        options=(*FILM_OPTIONS, "split"),
    ),
    _UTD_MHAD,
    replace(
        _UTD_MHAD,
        name="utd-mhad-mat",
        title="UTD-MHAD: 27 actions of eight subjects by skeleton, inertial unit and depth, at their own lengths",
        read=lambda path, _: read_utd_mhad(path),
        archive="",
    ),
)
