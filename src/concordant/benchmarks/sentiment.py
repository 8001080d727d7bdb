"""Sentiment of spoken opinions by text, audio and video: CMU-MOSI and CMU-MOSEI.

`cmu-mosi` and `cmu-mosei` read published pickles of sequences (`concordant data prepare`). `cmu-mosi-utterance` reads
one vector per modality and utterance (bc-LSTM features) under two protocols. `given`: the published training and test
videos; the text and video extractors were fitted on these training rows, so training and validation look too good.
`test-folds`: five folds of whole videos within the published test split, where the extractors are out of sample.
Shapes of the utterances: text (N, 100), audio (N, 73), video (N, 100); 1447 training and 752 test utterances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import FOLDS, Benchmark, Dataset, divide
from concordant.benchmarks.prepared import stored_benchmark
from concordant.data.archives import Column, read_archive
from concordant.data.formats.sentiment import read_sentiment
from concordant.data.formats.utterances import read_utterances
from concordant.data.reading import Reading
from concordant.data.split import Split, Task, group_folds
from concordant.errors import DataError

UTTERANCES = "cmu_mosi_utterance.npz"
SIZES = {"text": 100, "audio": 73, "video": 100}


def load_utterances(folder: Path | None) -> dict[str, Split]:
    """Read the published splits "train" and "test"; groups are videos."""
    columns: dict[str, Column] = {}
    for part in ("train", "test"):
        columns |= {f"{name}_{part}": Column(part, (size,)) for name, size in SIZES.items()}
        columns |= {f"y_{part}": Column(part, kinds="iu", classes=2), f"id_{part}": Column(part, kinds="U")}
    arrays = read_archive(folder or Path(), UTTERANCES, columns)
    return {
        part: Split(
            inputs={name: arrays[f"{name}_{part}"].astype(np.float32) for name in SIZES},
            labels=arrays[f"y_{part}"].astype(np.int64),
            ids=arrays[f"id_{part}"],
            groups=np.array([name.rpartition("_")[0] for name in arrays[f"id_{part}"].tolist()]),
        )
        for part in ("train", "test")
    }


def split_utterances(published: dict[str, Split], seed: int, protocol: str) -> Task:
    """Return the splits of a seed.

    `given`: only the validation videos (15 % of the training videos) depend on the seed. `test-folds`: seed s
    tests on fold s mod 5; the folds are redrawn every five seeds.
    """
    name, classes, layouts = "cmu-mosi-utterance", ("negative", "positive"), dict.fromkeys(SIZES, "bd")
    if protocol == "given":
        train, test = published["train"], published["test"]
        task = divide(train, np.zeros(len(train), np.bool_), seed, name, classes, layouts, grouped=True)
        return replace(task, test=test)
    source = published["test"]
    folds = group_folds(np.asarray(source.groups), FOLDS, seed // FOLDS, name, "folds")
    return divide(source, folds == seed % FOLDS, seed, name, classes, layouts, grouped=True)


def _read(name: str, path: Path, options: Mapping[str, Any]) -> Reading:
    if path.is_dir():
        found = sorted(path.glob("*.pkl"))
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise DataError(f"{path} must hold one pickle, or name it with --source; found {names}")
        path = found[0]
    return read_sentiment(path, name=name)


CMU_MOSI_UTTERANCE = Benchmark(
    name="cmu-mosi-utterance",
    setting="vector",
    summary="CMU-MOSI sentiment of utterances by text, audio and video vectors",
    fusion="lf-dnn",
    modalities=tuple(SIZES),
    protocols=("given", "test-folds"),
    load=load_utterances,
    split=split_utterances,
    files=(UTTERANCES,),
    recipe={"test-folds": {"steps": 300, "dropout": 0.5}},
)
CMU_MOSI, CMU_MOSEI = (
    stored_benchmark(
        name,
        f"{name.upper()}: sentiment from -3 to 3 of spoken opinions by text, audio and vision",
        steps=steps,
        setting="sequence",
        fusion="mult",
        modalities=("text", "audio", "vision"),
    )
    for name, steps in (("cmu-mosi", 700), ("cmu-mosei", 2500))
)

_FILES = (
    "aligned_50.pkl or unaligned_50.pkl (MMSA), {name}_data.pkl or {name}_data_noalign.pkl (MulT), or {name}_raw.pkl "
    "(MultiBench); the format is recognised by its keys"
)
_MOSI = Dataset(
    name="cmu-mosi",
    title="CMU-MOSI: sentiment from -3 to 3 of 2,199 spoken opinions, by text, audio and vision",
    size="0.1 to 0.4 GB",
    licence="research use, by the terms of CMU MultiComp",
    home="https://github.com/thuiar/MMSA",
    files=_FILES.format(name="mosi"),
    citation="Zadeh et al., MOSI, arXiv 1606.06259, 2016",
    flaws=("pickles of different projects hold other features of the same clips: results compare within one only",),
    read=partial(_read, "cmu-mosi"),
    published={"train": 1284, "valid": 229, "test": 686},
)
DATASETS = (
    replace(
        _MOSI,
        name="cmu-mosi-utterance",
        title="CMU-MOSI: positive or negative, 2,199 utterances by vectors of text, audio and video (bc-LSTM)",
        size="not stated",
        home="https://github.com/declare-lab/multimodal-deep-learning",
        files=(
            "the folder contextual-attention-based-LSTM/dataset/mosi/raw with text_2way.pickle, audio_2way.pickle and "
            "video_2way.pickle"
        ),
        citation="Poria et al., Context-Dependent Sentiment Analysis in User-Generated Videos, ACL 2017",
        flaws=(
            "text and video vectors come from networks that were fitted on the training utterances",
            "the pickles name neither videos nor utterances, so they are numbered in the order of the file",
        ),
        read=lambda path, _: read_utterances(path if path.is_dir() else path.parent),
        archive=UTTERANCES,
        published={"train": 1447, "test": 752},
    ),
    _MOSI,
    replace(
        _MOSI,
        name="cmu-mosei",
        title="CMU-MOSEI: sentiment from -3 to 3 of 22,856 spoken opinions, by text, audio and vision",
        size="4 to 13 GB",
        files=_FILES.format(name="mosei_senti"),
        citation="Zadeh et al., Multimodal Language Analysis in the Wild, ACL 2018",
        flaws=("published audio holds -inf and float64 values beyond the range of float32; they are replaced by 0",),
        read=partial(_read, "cmu-mosei"),
        published={"train": 16326, "valid": 1871, "test": 4659},
    ),
)
