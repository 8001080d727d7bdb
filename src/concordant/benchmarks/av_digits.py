"""Digits heard and seen: spoken digits of held-out speakers paired with handwritten ones, both degraded.

After AV-MNIST (Vielzeuf et al., "CentralNet", 2018): 75 % of the images' energy is removed by PCA, and noise is
added to the audio. A recording is paired with a random image of its class; the pairing, the noise and the
speakers' parts depend on the seed.
Shapes: audio (N, 1, 32, 40), log-mel; image (N, 1, 28, 28).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from concordant.benchmarks.benchmark import Benchmark, Splits
from concordant.benchmarks.waves import Waves
from concordant.data.archives import Array, Column, read_archive
from concordant.data.split import Floats, Integers, Split, Strings, shuffled
from concordant.seeding import derive_seed

FILE = "av_digits.npz"
CLASSES = 10
SPEAKERS = (3, 1, 2)  # of the six: for training, validation and testing
KEPT_ENERGY = 0.25  # as many leading components as hold this share of the images' variance
PCA_IMAGES = 10_000  # training images, evenly spaced since the file is sorted by class; more change nothing visible
SNR = 0.0  # decibels, white noise against the power of the recording's own samples
RATE, SAMPLES = 8_000, 8_000
MELS, WINDOW, HOP = 32, 256, 200  # 32 ms windows, 25 ms apart: 40 frames a second


@dataclass(frozen=True)
class Raw:
    """What the archive holds, with the images degraded once for all seeds.

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


def load(folder: Path | None) -> Raw:
    """Read the archive and remove 75 % of the images' energy; the components come from training images."""
    arrays = read_archive(
        folder or Path(),
        FILE,
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
    return Raw(
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
    """Return images (N, 1, 28, 28) with nothing but the components left."""
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


def split(raw: Raw, seed: int, protocol: str) -> Splits:
    """Return parts with disjoint speakers and images: three speakers train, one validates, two test."""
    parts = {part: _pair(raw, rows, part, seed) for part, rows in _rows(raw, seed).items()}
    return Splits(
        classes=tuple("0123456789"),
        layouts={"audio": "bchw", "image": "bchw"},
        train=parts["train"],
        valid=parts["valid"],
        test=parts["test"],
    )


def recordings(raw: Raw, seed: int, protocol: str) -> Waves:
    """Return the noisy recordings of the test part, in its order."""
    rows = _rows(raw, seed)["test"]
    return Waves(_noisy(raw, rows, "test", seed), raw.lengths[rows], RATE, log_mel)


def _rows(raw: Raw, seed: int) -> dict[str, Integers]:
    """Return part -> its recordings, by speakers."""
    order = shuffled(np.unique(raw.speakers), seed, "av-digits", "speakers")
    rows, start = {}, 0
    for part, count in zip(("train", "valid", "test"), SPEAKERS, strict=True):
        rows[part] = np.flatnonzero(np.isin(raw.speakers, order[start : start + count]))
        start += count
    return rows


def _noisy(raw: Raw, rows: Integers, part: str, seed: int) -> Floats:
    """Return recordings with the noise that the benchmark adds."""
    draws = np.random.default_rng(derive_seed(seed, "av-digits", part, "noise"))
    return add_noise(raw.wavs[rows], raw.lengths[rows], draws)


def _pair(raw: Raw, rows: Integers, part: str, seed: int) -> Split:
    """Return recordings with an image of their class each; validation takes its images from the training ones' rest."""
    side = 1 if part == "test" else 0
    pool, pool_labels = raw.images[side], raw.image_labels[side]
    chosen = np.empty(len(rows), np.int64)
    for label in range(CLASSES):
        mine = np.flatnonzero(raw.labels[rows] == label)
        candidates = shuffled(np.flatnonzero(pool_labels == label), seed, "av-digits", "images", str(label), str(side))
        # Validation counts from the end, training from the start, so that they never share an image.
        chosen[mine] = candidates[::-1][: len(mine)] if part == "valid" else candidates[: len(mine)]
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
    load=load,
    split=split,
    files=(FILE,),
    natures={"audio": "spectrogram"},
    waves={"audio": recordings},
    recipe={"*": {"steps": 400}},  # seventeen times through the training part
)
