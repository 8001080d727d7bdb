"""Handwritten and spoken digits as published: MNIST's IDX files, and the wav files of the Free Spoken Digit Dataset.

Images are sorted by class, in the order of their file within a class; recordings by name.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np

from concordant.data.arrays import Array
from concordant.errors import DataError
from concordant.files import check_size, reading

SAMPLES = 8000  # of a recording, one second: longer ones are cut, shorter ones padded with 0
_NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]{1,4})\.wav")


def read_av_digits(folder: Path) -> dict[str, Array]:
    """Return the arrays of the benchmark `av-digits`, from files in a folder or below it.

    They are train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k counterparts, packed (.gz) or not, and
    recordings such as 0_george_0.wav.

    Raises:
        DataError: a file is absent or damaged, or images and labels do not fit each other.
    """
    found: dict[str, Array] = {}
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = _idx(folder, f"{stem}-images", 3), _idx(folder, f"{stem}-labels", 1)
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
            raise DataError(
                f"{folder}: {stem} must have as many images of 28x28 pixels as digits; "
                f"found {images.shape} and {labels.shape}"
            )
        order = np.argsort(labels, kind="stable")
        found |= {f"image_{split}": images[order], f"digit_image_{split}": labels[order]}
    return found | _recordings(folder)


def _idx(folder: Path, stem: str, axes: int) -> Array:
    """Return an IDX file of bytes."""
    names = [f"{stem}{dot}idx{axes}-ubyte{packed}" for dot in "-." for packed in ("", ".gz")]
    path = next((path for name in names for path in sorted(folder.rglob(name))), None)
    if path is None:
        raise DataError(f"{folder} has no {names[0]} (or {names[1]}), nor has a folder in it")
    with reading(path, "an IDX file") as size, (gzip.open if path.suffix == ".gz" else open)(path, "rb") as opened:
        start = opened.read(4 + 4 * axes)
        if len(start) < 4 + 4 * axes or int.from_bytes(start[:4], "big") != 0x0800 + axes:
            raise ValueError(f"it must begin with the number {0x0800 + axes} and {axes} sizes")
        shape = tuple(np.frombuffer(start[4:], ">u4").tolist())
        count = int(np.prod(shape, dtype=np.float64))
        check_size(str(path), count, size)
        values = opened.read(count + 1)
        if len(values) != count:
            raise ValueError(f"it must have {count} bytes after its header; found {len(values)}")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _recordings(folder: Path) -> dict[str, Array]:
    import soundfile

    files = {path.stem: path for path in sorted(folder.rglob("*.wav")) if _NAME.fullmatch(path.name)}
    if not files:
        raise DataError(f"{folder} has no recording such as 0_george_0.wav, nor has a folder in it")
    waves, lengths = np.zeros((len(files), SAMPLES), np.int16), []
    for wave, path in zip(waves, (files[name] for name in sorted(files)), strict=True):
        with reading(path, "sound"):
            values, rate = soundfile.read(path, dtype="int16", always_2d=True)
            if rate != 8000 or values.shape[1] != 1 or not len(values):
                raise DataError(f"{path} must have one channel at 8000 Hz; found {values.shape[1]} at {rate}")
        wave[: len(values)] = values[:SAMPLES, 0]
        lengths.append(len(values))
    parts = [name.split("_") for name in sorted(files)]
    return {
        "wav_8khz": waves,
        "wav_samples": np.array(lengths, np.int64),
        "digit_wav": np.array([int(digit) for digit, _, _ in parts], np.uint8),
        "speaker": np.array([speaker for _, speaker, _ in parts]),
        "take": np.array([int(take) for _, _, take in parts], np.int64),
        "name_wav": np.array(sorted(files)),
    }
