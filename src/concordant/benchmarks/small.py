"""Small benchmarks: digits (embedded), av-digits (spoken and written), and scene15 and handwritten (image descriptors).

`digits`: the 1797 scanned digits of 8x8 pixels that scikit-learn embeds (UCI, Alpaydin and Kaynak 1998), as three
views of one object. Shapes: left and right halves (N, 1, 8, 4); profile of row and column sums (N, 16).

`av-digits`: spoken digits of held-out speakers paired with handwritten digits, both degraded as in AV-MNIST (Vielzeuf
et al., "CentralNet", 2018): PCA removes 75 % of the energy of the images, and noise is added to the audio. A recording
is paired with a random image of its class; pairing, noise and the speakers of each split depend on the seed.
Shapes: audio (N, 1, 32, 40), log-mel; image (N, 1, 28, 28).

`scene15` and `handwritten`: one vector (N, D) per image descriptor, split at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concordant.benchmarks.benchmark import VALID, Benchmark, Dataset, Waves, divide
from concordant.data.archives import Column, read_archive
from concordant.data.arrays import Array
from concordant.data.formats.av_digits import read_av_digits
from concordant.data.formats.views import read_views
from concordant.data.split import Floats, Integers, Split, Strings, Task, shuffled, stratified

TEST = 0.2  # share of a random split
AV_FILE = "av_digits.npz"
CLASSES = 10
SPEAKERS = (3, 1, 2)  # of the six: training, validation, test
KEPT_ENERGY = 0.25  # share of the variance of the images that the kept components hold
PCA_IMAGES = 10_000  # training images, evenly spaced since the file is sorted by class; more change nothing visible
SNR = 0.0  # decibels, white noise relative to the power of the recording's own samples
RATE, SAMPLES = 8_000, 8_000
MELS, WINDOW, HOP = 32, 256, 200  # 32 ms windows, 25 ms apart: 40 frames per second


def _random_splits(
    whole: Split, seed: int, name: str, classes: tuple[str, ...], layouts: dict[str, str], share: float
) -> Task:
    """Return stratified random splits: 20 % test, `share` of the rest validates."""
    _, test = stratified(np.arange(len(whole)), whole.labels, TEST, seed, name, "test")
    return divide(whole, np.isin(np.arange(len(whole)), test), seed, name, classes, layouts, share=share)


def load_digits(folder: Path | None) -> Split:
    """Return the three views of every digit; `folder` is not used."""
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    images = images.astype(np.float32).reshape(-1, 1, 8, 8)
    profile = np.concatenate([images.sum(3), images.sum(2)], 2)[:, 0]  # (N, 16)
    return Split(
        inputs={"left": images[..., :4].copy(), "right": images[..., 4:].copy(), "profile": profile},
        labels=labels.astype(np.int64),
        ids=np.array([f"digit-{row}" for row in range(len(labels))]),
    )


def split_digits(whole: Split, seed: int, protocol: str) -> Task:
    """Return stratified random splits: 20 % test, 15 % of the rest validates."""
    layouts = {"left": "bchw", "right": "bchw", "profile": "bd"}
    return _random_splits(whole, seed, "digits", tuple("0123456789"), layouts, VALID)


DIGITS = Benchmark(
    name="digits",
    setting="convolutional",
    summary="scikit-learn's scanned digits as two half images and a profile; embedded, no file needed",
    fusion="concat",
    modalities=("left", "right", "profile"),
    protocols=("random",),
    load=load_digits,
    split=split_digits,
    # Small and short: the fifty runs of the demonstration end in two minutes; longer training scores higher.
    recipe={"*": {"steps": 250, "width": 32}},
)


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

    `sizes`: view -> its number of features D. Ids are the prefix and the row, since the archive has no names.
    """

    def load(folder: Path | None) -> Split:
        """Read the archive."""
        columns = {"label": Column("images", kinds="iu", classes=len(classes))}
        columns |= {view: Column("images", (size,)) for view, size in sizes.items()}
        arrays = read_archive(folder or Path(), f"{name}.npz", columns)
        return Split(
            inputs={view: arrays[view].astype(np.float32) for view in sizes},
            labels=arrays["label"].astype(np.int64),
            ids=np.array([f"{prefix}-{row}" for row in range(len(arrays["label"]))]),
        )

    def split(whole: Split, seed: int, protocol: str) -> Task:
        """Return stratified random splits: 20 % test, 10 % of the rest validates."""
        return _random_splits(whole, seed, name, classes, dict.fromkeys(sizes, "bd"), 0.1)

    return Benchmark(
        name=name,
        setting="vector",
        summary=summary,
        fusion="lf-dnn",
        modalities=tuple(sizes),
        protocols=("random",),
        load=load,
        split=split,
        files=(f"{name}.npz",),
        recipe=recipe or {},
    )


SCENE15_SIZES = {"view0": 20, "view1": 59, "view2": 40}
HANDWRITTEN_SIZES = {"view0": 240, "view1": 76, "view2": 216, "view3": 47, "view4": 64, "view5": 6}
SCENE15 = view_benchmark(  # 4485 images
    name="scene15",
    summary="Scene-15: fifteen kinds of scenes by three image descriptors",
    sizes=SCENE15_SIZES,
    classes=tuple(f"scene {index}" for index in range(15)),
    prefix="scene",
    # Of learning rates 0.003 to 0.01 and 700 or 1400 steps among the best on validation (joint and context, two seeds).
    recipe={"*": {"steps": 1400, "learning_rate": 0.01}},
)
HANDWRITTEN = view_benchmark(  # 2000 images
    name="handwritten",
    summary="UCI multiple features: handwritten digits by six image descriptors",
    sizes=HANDWRITTEN_SIZES,
    classes=tuple("0123456789"),
    prefix="digit",
)


@dataclass(frozen=True)
class AVDigits:
    """Content of the av-digits archive, with the images degraded once for all seeds.

    Args:
        images: degraded training and test images, (N, 1, 28, 28) each.
        image_labels: their classes.
        wavs: recordings (3000, 8000), 0 past their end, in [-1, 1].
        lengths: their samples (3000,).
        labels: their classes (3000,).
        speakers: their speakers (3000,).
        ids: their names (3000,).
    """

    images: tuple[Floats, Floats]
    image_labels: tuple[Integers, Integers]
    wavs: Floats
    lengths: Integers
    labels: Integers
    speakers: Strings
    ids: Strings


def load_av_digits(folder: Path | None) -> AVDigits:
    """Read the archive and remove 75 % of the energy of the images; the components come from training images."""
    arrays = read_archive(
        folder or Path(),
        AV_FILE,
        {
            "image_train": Column("training images", (28, 28), kinds="u"),
            "digit_image_train": Column("training images", kinds="iu", classes=CLASSES),
            "image_test": Column("test images", (28, 28), kinds="u"),
            "digit_image_test": Column("test images", kinds="iu", classes=CLASSES),
            "wav_8khz": Column("recordings", (SAMPLES,), kinds="i"),
            "wav_samples": Column("recordings", kinds="iu"),
            "digit_wav": Column("recordings", kinds="iu", classes=CLASSES),
            "speaker": Column("recordings", kinds="U"),
            "name_wav": Column("recordings", kinds="U"),
        },
    )
    train, test = (_unit(arrays[f"image_{part}"], 255).reshape(-1, 784) for part in ("train", "test"))
    center, components = leading_components(train[:: max(1, len(train) // PCA_IMAGES)], KEPT_ENERGY)
    return AVDigits(
        images=(_degraded(train, center, components), _degraded(test, center, components)),
        image_labels=(arrays["digit_image_train"].astype(np.int64), arrays["digit_image_test"].astype(np.int64)),
        wavs=_unit(arrays["wav_8khz"], 2**15),
        lengths=np.minimum(arrays["wav_samples"], SAMPLES).astype(np.int64),  # longer recordings were cut
        labels=arrays["digit_wav"].astype(np.int64),
        speakers=arrays["speaker"],
        ids=arrays["name_wav"],
    )


def leading_components(x: Floats, share: float) -> tuple[Floats, Floats]:
    """Return the mean (784,) and the fewest leading principal components (k, 784) that hold `share` of the variance."""
    center = x.mean(0)
    variances, vectors = np.linalg.eigh(np.cov(x - center, rowvar=False))
    cumulative = np.cumsum(variances[::-1]) / variances.sum()
    count = int(np.searchsorted(cumulative, share)) + 1
    return center, vectors[:, ::-1][:, :count].T.astype(np.float32)


def _degraded(x: Floats, center: Floats, components: Floats) -> Floats:
    """Project images on the components; returns (N, 1, 28, 28)."""
    left = (center + (x - center) @ components.T @ components).astype(np.float32)
    return left.reshape(-1, 1, 28, 28)


def _unit(x: Array, largest: int) -> Floats:
    """Return integers divided by the largest one, as float32."""
    return np.divide(x, largest, dtype=np.float32)


def add_noise(wavs: Floats, lengths: Integers, draws: np.random.Generator) -> Floats:
    """Return recordings with white noise over all samples, `SNR` below the power of the recording itself."""
    inside = np.arange(wavs.shape[1]) < lengths[:, None]
    power = (np.where(inside, wavs, 0) ** 2).sum(1, keepdims=True) / lengths[:, None]
    noise = draws.standard_normal(wavs.shape, dtype=np.float32)
    noisy: Floats = wavs + (noise * np.sqrt(power / 10 ** (SNR / 10))).astype(np.float32)
    return noisy


def log_mel(wavs: Floats) -> Floats:
    """Return log-mel maps (N, 1, 32, 40): 32 bands up to 4 kHz, 40 frames."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(WINDOW // 2 + 1, MELS, 0.0, RATE / 2, RATE, norm="slaney", mel_scale="slaney")
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(torch.from_numpy(wavs), WINDOW, HOP, window=window, center=True, return_complex=True)
    power = spectrum[..., : SAMPLES // HOP].abs().square()  # (N, 129, 40)
    mel = torch.from_numpy(filters.astype(np.float32)).T @ power
    logs: Floats = (mel + 1e-6).log().unsqueeze(1).numpy()
    return logs


def split_av_digits(raw: AVDigits, seed: int, protocol: str) -> Task:
    """Return splits with disjoint speakers and images: three speakers train, one validates, two test."""
    train, valid, test = (_pair(raw, rows, part, seed) for part, rows in _recordings(raw, seed).items())
    return Task(tuple("0123456789"), {"audio": "bchw", "image": "bchw"}, train, valid, test)


def waves_av_digits(raw: AVDigits, seed: int, protocol: str) -> Waves:
    """Return the noisy recordings of the test split, in its order."""
    rows = _recordings(raw, seed)["test"]
    return Waves(_noisy(raw, rows, "test", seed), raw.lengths[rows], RATE, log_mel)


def _recordings(raw: AVDigits, seed: int) -> dict[str, Integers]:
    """Return split -> its recordings, by speakers."""
    order = shuffled(np.unique(raw.speakers), seed, "av-digits", "speakers")
    rows, start = {}, 0
    for part, count in zip(("train", "valid", "test"), SPEAKERS, strict=True):
        rows[part] = np.flatnonzero(np.isin(raw.speakers, order[start : start + count]))
        start += count
    return rows


def _noisy(raw: AVDigits, rows: Integers, part: str, seed: int) -> Floats:
    """Return recordings with the noise of the benchmark."""
    from concordant.seeding import derive_seed  # imports torch

    draws = np.random.default_rng(derive_seed(seed, "av-digits", part, "noise"))
    return add_noise(raw.wavs[rows], raw.lengths[rows], draws)


def _pair(raw: AVDigits, rows: Integers, part: str, seed: int) -> Split:
    """Pair recordings with an image of their class each."""
    side = 1 if part == "test" else 0
    pool, pool_labels = raw.images[side], raw.image_labels[side]
    chosen = np.empty(len(rows), np.int64)
    for label in range(CLASSES):
        of_class = np.flatnonzero(raw.labels[rows] == label)
        candidates = shuffled(np.flatnonzero(pool_labels == label), seed, "av-digits", "images", str(label), str(side))
        # Training takes images from the start and validation from the end: they never share one.
        chosen[of_class] = candidates[::-1][: len(of_class)] if part == "valid" else candidates[: len(of_class)]
    return Split(
        inputs={"audio": log_mel(_noisy(raw, rows, part, seed)), "image": pool[chosen]},
        labels=raw.labels[rows],
        ids=raw.ids[rows],
        groups=raw.speakers[rows],
    )


AV_DIGITS = Benchmark(
    name="av-digits",
    setting="convolutional",
    summary="spoken and handwritten digits, degraded as AV-MNIST; speakers held out",
    fusion="concat",
    modalities=("audio", "image"),
    protocols=("speakers",),
    load=load_av_digits,
    split=split_av_digits,
    files=(AV_FILE,),
    natures={"audio": "spectrogram"},
    waves={"audio": waves_av_digits},
    recipe={"*": {"steps": 400}},  # seventeen epochs
)


_RCML = "Xu et al., Reliable Conflictive Multi-View Learning, AAAI 2024"
DATASETS = (
    Dataset(
        name="scene15",
        title="Scene-15: fifteen kinds of scenes, 4,485 images by three descriptors",
        size="not stated",
        licence="not stated; the images are of Lazebnik et al., CVPR 2006",
        home="https://github.com/jiajunsi/RCML",
        files="data/scene15_mtv.mat, or its folder",
        citation=_RCML,
        flaws=("the file names neither images nor classes",),
        read=lambda path, _: read_views(path, "scene15_mtv.mat", SCENE15_SIZES),
        archive="scene15.npz",
        published={"all": 4485},
    ),
    Dataset(
        name="handwritten",
        title="UCI multiple features: ten handwritten digits, 2,000 instances by six descriptors",
        size="not stated",
        licence="not stated",
        home="https://archive.ics.uci.edu/dataset/72/multiple+features",
        files=(
            "data/handwritten.mat of https://github.com/jiajunsi/RCML, or a folder with UCI's mfeat-pix, mfeat-fou, "
            "mfeat-fac, mfeat-zer, mfeat-kar and mfeat-mor"
        ),
        citation="van Breukelen et al., Handwritten digit recognition by combined classifiers, Kybernetika 1998",
        flaws=("the file names no writers, so instances count as independent",),
        read=lambda path, _: read_views(path, "handwritten.mat", HANDWRITTEN_SIZES),
        archive="handwritten.npz",
        published={"all": 2000},
    ),
    Dataset(
        name="av-digits",
        title="Handwritten and spoken digits: 70,000 images of MNIST and 3,000 recordings of six speakers",
        size="11.6 MB of images, packed, 55 MB unpacked; recordings: not stated",
        licence="MNIST: not stated; Free Spoken Digit Dataset: CC BY-SA 4.0",
        home="https://github.com/Jakobovski/free-spoken-digit-dataset",
        files=(
            "a folder with MNIST's train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
            "t10k-labels-idx1-ubyte, packed (.gz) or not, and the recordings 0_george_0.wav, in it or below it"
        ),
        citation="LeCun et al., Gradient-based learning applied to document recognition, Proceedings of the IEEE, 1998",
        flaws=("images and recordings are paired by class alone, so a pair shares nothing but its digit",),
        read=lambda path, _: read_av_digits(path),
        archive=AV_FILE,
        published={"all": 3000},
    ),
)
