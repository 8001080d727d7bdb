"""The datasets that can be prepared: what they are, where they come from, which files they take, what is wrong there.

Every one becomes a benchmark of the same name. Sizes are those of the files that are read, about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from concordant.data.formats import ave, ave_media, cremad, kinetics_sounds, sentiment, ucf101, utd_mhad_mat
from concordant.data.formats.clips import MediaOptions
from concordant.data.reading import Reading
from concordant.errors import DataError, UsageError
from concordant.registry import Registry


@dataclass(frozen=True)
class Dataset:
    """A dataset that `concordant data prepare` knows.

    Args:
        name: what a user types.
        title: one line.
        size: of its files.
        licence: or terms of use.
        home: where to get it.
        files: what `--source` must be.
        citation: of the paper that published it.
        flaws: what is known to be wrong with it.
        read: from the source, and the options that were given, to a reading.
        published: split -> number of instances, by the paper.
        options: of `concordant data prepare` that it takes.
        classes: split -> number of instances of each class, in their order, by the published lists.
    """

    name: str
    title: str
    size: str
    licence: str
    home: str
    files: str
    citation: str
    flaws: tuple[str, ...]
    read: Callable[[Path, Mapping[str, Any]], Reading]
    published: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    classes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def open(self, source: Path, options: Mapping[str, Any]) -> Reading:
        """Return a reading of the source.

        Raises:
            UsageError: options do not apply to this dataset.
            DataError: the source cannot be used.
        """
        strange = [name for name in options if name not in self.options]
        if strange:
            does = "does" if len(strange) == 1 else "do"
            known = _flags(self.options) or "no options"
            raise UsageError(f"{_flags(strange)} {does} not apply to {self.name}, which takes {known}")
        return self.read(source, options)


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def _sentiment(name: str, path: Path, options: Mapping[str, Any]) -> Reading:
    if path.is_dir():
        found = sorted(path.glob("*.pkl"))
        if len(found) != 1:
            names = ", ".join(one.name for one in found) or "none"
            raise DataError(f"{path} must hold one pickle, or name it with --source; found {names}")
        path = found[0]
    return sentiment.read_sentiment(path, name=name)


def _ave(path: Path, options: Mapping[str, Any]) -> Reading:
    return ave.read_ave(path if path.is_dir() else path.parent)


def _ave_clips(path: Path, options: Mapping[str, Any]) -> Reading:
    """Read features where they are there, else films."""
    folder = path if path.is_dir() else path.parent
    if not options and any((folder / file).is_file() for file in ave.FEATURES.values()):
        return ave.read_ave(folder, task="clips")
    return ave_media.read_ave_media(folder, options=_media(ave_media.DEFAULT, options))


def _crema_d(path: Path, options: Mapping[str, Any]) -> Reading:
    return cremad.read_cremad(path, options=_media(cremad.DEFAULT, options), lists=options.get("lists"))


def _kinetics_sounds(path: Path, options: Mapping[str, Any]) -> Reading:
    media = _media(kinetics_sounds.DEFAULT, options)
    return kinetics_sounds.read_kinetics_sounds(path, options=media, lists=options.get("lists"))


def _ucf101(path: Path, options: Mapping[str, Any]) -> Reading:
    return ucf101.read_ucf101(path, options=_media(ucf101.DEFAULT, options), split=options.get("split", 1))


def _utd_mhad(path: Path, options: Mapping[str, Any]) -> Reading:
    return utd_mhad_mat.read_utd_mhad(path)


def _media(default: MediaOptions, options: Mapping[str, Any]) -> MediaOptions:
    return replace(default, **{name: value for name, value in options.items() if name not in ("lists", "split")})


DATASETS: Registry[Dataset] = Registry("dataset")
_PICTURES = ("fps", "frames", "size", "processes", "may_fail", "cache")
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
        read=_ave,
        published=ave.PUBLISHED,
    ),
    Dataset(
        name="ave-clips",
        title="AVE: 28 audio-visual events, one a clip, by features or by spectrogram and frames within the event",
        size="8 GB",
        licence="annotations of AudioSet, CC BY 4.0; the clips are those of their uploaders",
        home="https://github.com/YapengTian/AVE-ECCV18",
        files=f"{_AVE_FILES}; or AVE/<VideoID>.mp4, Annotations.txt, trainSet.txt, valSet.txt and testSet.txt",
        citation="Tian et al., Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018",
        flaws=_AVE_FLAWS,
        read=_ave_clips,
        options=(*_PICTURES, "spectrogram"),
        published=ave.PUBLISHED,
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
        published=cremad.SPLITS,
        classes=cremad.CLASS_COUNTS,
        options=(*_PICTURES, "spectrogram", "lists"),
    ),
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
        flaws=("clips disappear from their source, so that two copies of it seldom hold the same",),
        read=_kinetics_sounds,
        published=kinetics_sounds.SPLITS,
        classes=kinetics_sounds.CLASS_COUNTS,
        options=(*_PICTURES, "spectrogram", "lists"),
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
        published=ucf101.SPLITS,
        options=(*_PICTURES, "split"),
    ),
    Dataset(
        name="utd-mhad-mat",
        title="UTD-MHAD: 27 actions of eight subjects by skeleton, inertial unit and depth, at their own lengths",
        size="1 GB",
        licence="research use, by the terms of the University of Texas at Dallas",
        home="https://personal.utdallas.edu/~kehtar/UTD-MHAD.html",
        files="a folder with a<action>_s<subject>_t<trial>_skeleton.mat, _inertial.mat and _depth.mat, or below it",
        citation="Chen et al., UTD-MHAD, ICIP 2015",
        flaws=("published splits differ: here odd subjects train and even ones test, as in the first paper",),
        read=_utd_mhad,
        published=utd_mhad_mat.PUBLISHED,
    ),
):
    DATASETS.add(_dataset.name, _dataset)
