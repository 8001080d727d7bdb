"""Audio-visual event detection: AVE, 28 events in ten-second clips.

`ave` labels every second, `ave-clips` every clip; both read published files (`concordant data prepare`).
`ave-features` reads vectors of published networks (`resnet_features`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from concordant.benchmarks.benchmark import FILM_OPTIONS, Dataset, media_options
from concordant.benchmarks.prepared import stored_benchmark
from concordant.benchmarks.resnet_features import resnet_benchmark
from concordant.data.formats import ave
from concordant.data.formats.resnet_vectors import read_ave_vectors
from concordant.data.reading import Reading


def _clips(path: Path, options: Mapping[str, Any]) -> Reading:
    """Read features where they exist and no option of films is given, otherwise films."""
    folder = path if path.is_dir() else path.parent
    if not options and any((folder / file).is_file() for file in ave.FEATURES.values()):
        return ave.read_ave(folder, task="clips")
    return ave.read_ave_media(folder, options=media_options(ave.DEFAULT, options))


AVE_FEATURES = resnet_benchmark(
    "ave-features",
    "ave_features.npz",
    "AVE: 28 audio-visual events by features of two ResNet-18, sound and scene",
    None,
)
AVE = stored_benchmark("ave", "AVE: 28 audio-visual events or the background, for every second of a clip", steps=2000)
AVE_CLIPS = stored_benchmark("ave-clips", "AVE: 28 audio-visual events, one per clip", steps=2000)

_FILES = (
    "a folder with audio_feature.h5, visual_feature.h5, labels.h5 or right_labels.h5, train_order.h5, val_order.h5, "
    "test_order.h5 and Annotations.txt"
)
_DATASET = Dataset(
    name="ave",
    title="AVE: 28 audio-visual events or the background for every second of 4,143 clips, by VGGish and VGG-19",
    size="8 GB",
    licence="annotations of AudioSet, CC BY 4.0; the clips are those of their uploaders",
    home="https://github.com/YapengTian/AVE-ECCV18",
    files=_FILES,
    citation="Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
    flaws=(
        "8 videos of test and 10 of valid are in train too, annotated with another event",
        "one event of Annotations.txt has no length",
    ),
    read=lambda path, _: ave.read_ave(path if path.is_dir() else path.parent),
    published={"train": 3339, "valid": 402, "test": 402},  # clips; for films, lines of the lists
)
DATASETS = (
    Dataset(
        name="ave-features",
        title="AVE: 28 events in the 402 test clips by vectors of two ResNet-18, sound and scene",
        size="3 MB",
        licence="vectors: not stated; annotations of AudioSet: CC BY 4.0",
        home="https://github.com/huacong/ReconBoost",
        files="the folder all_feat/AVE, with Annotations.txt and test_order.h5 of AVE in it or named by --lists",
        citation="Hua et al., ReconBoost, ICML 2024",
        flaws=(),
        read=lambda path, options: read_ave_vectors(path, options.get("lists")),
        archive="ave_features.npz",
        published={"all": 402},
        options=("lists",),
    ),
    _DATASET,
    replace(
        _DATASET,
        name="ave-clips",
        title="AVE: 28 audio-visual events, one per clip, by features or by spectrogram and frames within the event",
        files=f"{_FILES}; or AVE/<VideoID>.mp4, Annotations.txt, trainSet.txt, valSet.txt and testSet.txt",
        read=_clips,
        options=(*FILM_OPTIONS, "spectrogram"),
    ),
)
