"""The datasets that can be prepared: what they are, where they come from, which files they take, what is wrong there.

Every one becomes a benchmark of the same name. Sizes are those of the files that are read, about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from concord.data.formats import ave, sentiment
from concord.data.reading import Reading
from concord.errors import DataError
from concord.registry import Registry


@dataclass(frozen=True)
class Dataset:
    """A dataset that `concord data prepare` knows.

    Args:
        name: what a user types.
        title: one line.
        size: of its files.
        licence: or terms of use.
        home: where to get it.
        files: what `--source` must be.
        citation: of the paper that published it.
        flaws: what is known to be wrong with it.
        read: from the source to a reading.
        published: split -> number of instances, by the paper.
    """

    name: str
    title: str
    size: str
    licence: str
    home: str
    files: str
    citation: str
    flaws: tuple[str, ...]
    read: Callable[[Path], Reading]
    published: Mapping[str, int] = field(default_factory=dict)


def _sentiment(name: str, path: Path) -> Reading:
    if path.is_dir():
        found = sorted(path.glob("*.pkl"))
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise DataError(f"{path} must hold one pickle, or name it with --source; found {names}")
        path = found[0]
    return sentiment.read_sentiment(path, name=name)


def _ave(task: str, path: Path) -> Reading:
    return ave.read_ave(path if path.is_dir() else path.parent, task=task)


DATASETS: Registry[Dataset] = Registry("dataset")
_PICKLES = (
    "aligned_50.pkl or unaligned_50.pkl (MMSA), {name}_data.pkl or {name}_data_noalign.pkl (MulT), or {name}_raw.pkl "
    "(MultiBench); the format is recognised by its keys"
)
_AVE_FILES = (
    "a folder with audio_feature.h5, visual_feature.h5, labels.h5 or right_labels.h5, train_order.h5, val_order.h5, "
    "test_order.h5 and Annotations.txt"
)
_AVE_FLAWS = (
    "8 videos of test and 10 of valid are in train too, annotated with another event",
    "one event of Annotations.txt has no length",
)
for _dataset in (
    Dataset(
        name="cmu-mosi",
        title="CMU-MOSI: sentiment from -3 to 3 of 2,199 spoken opinions, by text, audio and vision",
        size="0.1 to 0.4 GB",
        licence="research use, by the terms of CMU MultiComp",
        home="https://github.com/thuiar/MMSA",
        files=_PICKLES.format(name="mosi"),
        citation="Zadeh et al., MOSI, arXiv 1606.06259, 2016",
        flaws=("pickles of different projects hold other features of the same clips: results compare within one only",),
        read=partial(_sentiment, "cmu-mosi"),
        published=sentiment.PUBLISHED["cmu-mosi"],
    ),
    Dataset(
        name="cmu-mosei",
        title="CMU-MOSEI: sentiment from -3 to 3 of 22,856 spoken opinions, by text, audio and vision",
        size="4 to 13 GB",
        licence="research use, by the terms of CMU MultiComp",
        home="https://github.com/thuiar/MMSA",
        files=_PICKLES.format(name="mosei_senti"),
        citation="Zadeh et al., Multimodal Language Analysis in the Wild, ACL 2018",
        flaws=("published audio holds -inf and float64 values that float32 has no number for; they are replaced by 0",),
        read=partial(_sentiment, "cmu-mosei"),
        published=sentiment.PUBLISHED["cmu-mosei"],
    ),
    Dataset(
        name="ave",
        title="AVE: 28 audio-visual events or the background for every second of 4,143 clips, by VGGish and VGG-19",
        size="8 GB",
        licence="annotations of AudioSet, CC BY 4.0; the clips are those of their uploaders",
        home="https://github.com/YapengTian/AVE-ECCV18",
        files=_AVE_FILES,
        citation="Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
        flaws=_AVE_FLAWS,
        read=partial(_ave, "segments"),
        published=ave.PUBLISHED,
    ),
    Dataset(
        name="ave-clips",
        title="AVE: 28 audio-visual events, one a clip, VGGish and VGG-19 features within the event",
        size="8 GB",
        licence="annotations of AudioSet, CC BY 4.0; the clips are those of their uploaders",
        home="https://github.com/YapengTian/AVE-ECCV18",
        files=_AVE_FILES,
        citation="Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
        flaws=_AVE_FLAWS,
        read=partial(_ave, "clips"),
        published=ave.PUBLISHED,
    ),
):
    DATASETS.add(_dataset.name, _dataset)
