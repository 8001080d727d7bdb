"""Audio-visual emotion: CREMA-D and RAVDESS.

`crema-d` reads published films and sounds (`concordant data prepare`); `cremad-features` reads vectors of published
networks (`resnet_features`). `ravdess` reads log-mel spectrograms and facial action units of 24 actors in five
published folds with disjoint actors; seed s tests on fold s mod 5, and validation is cut by actor from the others.
16 of its recordings have no audio.
Shapes of `ravdess`: logmel (N, 400, 64), one step per 10 ms, padded at the end; action_units (N, 35), clip means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from concordant.benchmarks.benchmark import FILM_OPTIONS, FOLDS, Benchmark, Dataset, divide, media_options
from concordant.benchmarks.prepared import stored_benchmark
from concordant.benchmarks.resnet_features import resnet_benchmark
from concordant.data.archives import Column, read_archive
from concordant.data.formats import cremad
from concordant.data.formats.ravdess import read_ravdess
from concordant.data.formats.resnet_vectors import read_cremad_vectors
from concordant.data.reading import Reading
from concordant.data.split import Integers, Split, Task
from concordant.errors import DataError

RAVDESS_FILE = "ravdess.npz"


class Recordings(NamedTuple):
    """Content of the RAVDESS archive.

    Args:
        whole: all recordings; groups are actors.
        fold: published fold of each recording (N,).
        classes: names of the emotions, by index.
    """

    whole: Split
    fold: Integers
    classes: tuple[str, ...]


def load_ravdess(folder: Path | None) -> Recordings:
    """Read the RAVDESS archive."""
    arrays = read_archive(
        folder or Path(),
        RAVDESS_FILE,
        {
            "logmel": Column("recordings", (400, 64)),
            "action_units": Column("recordings", (35,)),
            "emotion": Column("recordings", kinds="iu", classes="emotion_names"),
            "emotion_names": Column("classes", kinds="U"),
            "actor": Column("recordings", kinds="iu"),
            "fold": Column("recordings", kinds="iu", classes=FOLDS),
            "has_audio": Column("recordings", kinds="b"),
            "name": Column("recordings", kinds="U"),
        },
    )
    logmel = arrays["logmel"].astype(np.float32)
    present = arrays["has_audio"]
    mask = (logmel != 0).any(2)  # (N, T); past the end every band is exactly 0
    if not mask[present].any(1).all():
        raise DataError(
            f"{RAVDESS_FILE}: {int((~mask[present].any(1)).sum())} recordings with audio have an empty logmel"
        )
    whole = Split(
        inputs={"logmel": logmel, "action_units": arrays["action_units"].astype(np.float32)},
        labels=arrays["emotion"].astype(np.int64),
        ids=arrays["name"],
        groups=arrays["actor"].astype(np.str_),
        masks={"logmel": mask},
        present={"logmel": present},
    )
    return Recordings(whole, arrays["fold"].astype(np.int64), tuple(arrays["emotion_names"].tolist()))


def split_ravdess(recordings: Recordings, seed: int, protocol: str) -> Task:
    """Return the splits of a seed: fold s mod 5 tests, 15 % of the other folds' actors validate."""
    layouts = {"logmel": "btd", "action_units": "bd"}
    test = recordings.fold == seed % FOLDS
    return divide(recordings.whole, test, seed, "ravdess", recordings.classes, layouts, grouped=True)


def _crema_d(path: Path, options: Mapping[str, Any]) -> Reading:
    return cremad.read_cremad(path, options=media_options(cremad.DEFAULT, options), lists=options.get("lists"))


RAVDESS = Benchmark(
    name="ravdess",
    setting="sequence",
    summary="RAVDESS: eight emotions by log-mel spectrogram and facial action units; actors held out",
    fusion="lf-dnn",
    modalities=("logmel", "action_units"),
    protocols=("folds",),
    load=load_ravdess,
    split=split_ravdess,
    files=(RAVDESS_FILE,),
    recipe={"*": {"steps": 700}},
)
CREMAD_FEATURES = resnet_benchmark(
    "cremad-features",
    "cremad_features.npz",
    "CREMA-D: six emotions by features of two ResNet-18, audio and face; actors held out",
    lambda name: name[:4],
)
CREMA_D = stored_benchmark("crema-d", "CREMA-D: six emotions of 91 actors by spectrogram and face frames", steps=4000)

DATASETS = (
    Dataset(
        name="ravdess",
        title="RAVDESS: eight emotions spoken by 24 actors, 1,440 recordings, by log-mel and facial action units",
        size="215 MB of sounds (zip); tables: not stated",
        licence="CC BY-NC-SA 4.0",
        home="https://zenodo.org/records/1188976",
        files=(
            "a folder with the speech sounds 03-01-*.wav and OpenFace's tables 01-01-*.csv "
            "(https://zenodo.org/records/3255102), in it or below it"
        ),
        citation="Livingstone and Russo, RAVDESS, PLoS ONE 2018",
        flaws=("four actors of one fold, five of each other fold",),
        read=lambda path, _: read_ravdess(path),
        archive=RAVDESS_FILE,
        published={"all": 1440},
    ),
    Dataset(
        name="cremad-features",
        title="CREMA-D: six emotions of the 744 test clips by vectors of two ResNet-18, audio and face",
        size="6 MB",
        licence="vectors: not stated; CREMA-D: Open Database License 1.0",
        home="https://github.com/huacong/ReconBoost",
        files="the folder all_feat/CREMAD, with OGM-GE's test.csv in it or named by --lists",
        citation="Hua et al., ReconBoost, ICML 2024",
        flaws=("the actors of the test clips are in the training clips of the networks too",),
        read=lambda path, options: read_cremad_vectors(path, options.get("lists")),
        archive="cremad_features.npz",
        published={"all": 744},
        options=("lists",),
    ),
    Dataset(
        name="crema-d",
        title="CREMA-D: six acted emotions of 7,442 clips by 91 actors, by spectrogram and face frames",
        size="7 GB (films and sounds)",
        licence="Open Database License 1.0",
        home="https://github.com/CheyneyComputerScience/CREMA-D",
        files=(
            "a folder with AudioWAV/<clip>.wav and VideoFlash/<clip>.flv (or Image-01-FPS/<clip>/*.jpg), and OGM-GE's "
            "train.csv and test.csv in it or named by --lists"
        ),
        citation="Cao et al., CREMA-D, IEEE Transactions on Affective Computing, 2014",
        flaws=("all 91 actors are in train and in test; --protocol folds keeps whole actors on one side",),
        read=_crema_d,
        published={"train": 6698, "test": 744},
        classes={"train": (973, 1148, 1131, 1138, 1142, 1166), "test": (114, 123, 140, 133, 129, 105)},
        options=(*FILM_OPTIONS, "spectrogram", "lists"),
    ),
)
