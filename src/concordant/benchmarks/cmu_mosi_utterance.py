"""CMU-MOSI, sentiment of utterances: text, audio and video, one vector each (bc-LSTM features).

Two protocols. `given`: the published training and test videos; the text and video extractors were fitted on
these training rows, which makes training and validation look too good. `test-folds`: five folds of whole
videos within the published test part, where the extractors are out of sample.
Shapes: text (N, 100), audio (N, 73), video (N, 100); 1447 training and 752 test utterances.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.data.archives import Column, read_archive
from concordant.data.split import Integers, Split, by_group, group_folds

FILE = "cmu_mosi_utterance.npz"
SIZES = {"text": 100, "audio": 73, "video": 100}
VALID = 0.15
FOLDS = 5


def load(folder: Path | None) -> dict[str, Split]:
    """Read the archive: the parts "train" and "test" as published; groups are videos."""
    columns: dict[str, Column] = {}
    for part in ("train", "test"):
        columns |= {f"{name}_{part}": Column(part, (size,)) for name, size in SIZES.items()}
        columns |= {f"y_{part}": Column(part, kinds="iu", classes=2), f"id_{part}": Column(part, kinds="U")}
    arrays = read_archive(folder or Path(), FILE, columns)
    return {
        part: Split(
            inputs={name: arrays[f"{name}_{part}"].astype(np.float32) for name in SIZES},
            labels=arrays[f"y_{part}"].astype(np.int64),
            ids=arrays[f"id_{part}"],
            groups=np.array([name.rpartition("_")[0] for name in arrays[f"id_{part}"].tolist()]),
        )
        for part in ("train", "test")
    }


def split(published: dict[str, Split], seed: int, protocol: str) -> Splits:
    """Return the split of a seed.

    `given`: only the validation videos (15 % of the training ones) depend on the seed. `test-folds`: seed s
    tests on fold s mod 5; every five seeds the folds are drawn anew.
    """
    if protocol == "given":
        source, test = published["train"], published["test"]
        rest = np.arange(len(source))
    else:
        source = published["test"]
        folds = group_folds(_groups(source), FOLDS, seed // FOLDS, "cmu-mosi-utterance", "folds")
        test = source.take(np.flatnonzero(folds == seed % FOLDS))
        rest = np.flatnonzero(folds != seed % FOLDS)
    train, valid = _validation(source, rest, seed)
    return Splits(
        classes=("negative", "positive"),
        layouts=dict.fromkeys(SIZES, "bd"),
        train=source.take(train),
        valid=source.take(valid),
        test=test,
    )


def _validation(source: Split, rest: Integers, seed: int) -> tuple[Integers, Integers]:
    return by_group(rest, _groups(source)[rest], VALID, seed, "cmu-mosi-utterance", "valid")


def _groups(part: Split) -> np.ndarray[tuple[int], np.dtype[np.str_]]:
    groups: np.ndarray[tuple[int], np.dtype[np.str_]] = np.asarray(part.groups)
    return groups


CMU_MOSI_UTTERANCE = Benchmark(
    name="cmu-mosi-utterance",
    setting="vector",
    summary="CMU-MOSI sentiment of utterances by text, audio and video vectors",
    fusion="lf-dnn",
    modalities=tuple(SIZES),
    protocols=("given", "test-folds"),
    load=load,
    split=split,
    files=(FILE,),
    recipe={"test-folds": {"steps": 300, "dropout": 0.5}},
)
