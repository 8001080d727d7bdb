"""RAVDESS (Livingstone and Russo, 2018): emotional speech of 24 actors, from wav files and OpenFace's tables.

A name is modality-channel-emotion-intensity-statement-repetition-actor: sounds `03-01-*.wav`, tables `01-01-*.csv` of
OpenFace on the films. One recipe makes vectors and spectrograms of them: `logmel` (400, 64), the first four seconds by
the recipe "logmel" of `media/spectrogram.py`, 0 past the end; `audio_stats` (256,), mean, standard deviation and the
10th and 90th percentile over time of every band; `action_units` (35,), means over all frames. A recording without a wav
file has no audio: 0 and NaN.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from concordant.data.arrays import Array
from concordant.data.media.audio import read_audio
from concordant.data.media.spectrogram import SPECTROGRAMS
from concordant.errors import DataError
from concordant.files import reading

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
# Of Luna-Jiménez et al. (Sensors, 2021), by actor: each has both sexes.
FOLDS = ((2, 5, 14, 15, 16), (3, 6, 7, 13, 18), (10, 11, 12, 19, 20), (8, 17, 21, 23, 24), (1, 4, 9, 22))
_INTENSITIES = tuple(f"AU{number:02}_r" for number in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
UNITS = (*_INTENSITIES, *(f"{name[:4]}_c" for name in (*_INTENSITIES[:-1], "AU28_r", "AU45_r")))
FRAMES = 400  # of 10 ms
_NAME = re.compile(r"0([13])-01(-0[1-8]-0[12]-0[12]-0[12]-(?:0[1-9]|1[0-9]|2[0-4]))")


def read_ravdess(folder: Path) -> dict[str, Array]:
    """Return the arrays of the benchmark `ravdess`, sorted by name, from wav files and tables in a folder or below it.

    Raises:
        DataError: there is no table, a recording has none, or a file cannot be read.
    """
    files: dict[str, dict[str, Path]] = {".wav": {}, ".csv": {}}
    for path in sorted(folder.rglob("0[13]-01-*")):
        name = _NAME.fullmatch(path.stem)
        if name is not None and (name[1], path.suffix) in (("1", ".csv"), ("3", ".wav")):
            files[path.suffix][f"01-01{name[2]}"] = path
    sounds, tables = files[".wav"], files[".csv"]
    lost = sorted(sounds.keys() - tables.keys())
    if not tables or lost:
        of = f" of {len(lost)} recordings, such as {lost[0]}.csv" if lost else " such as 01-01-01-01-01-01-01.csv"
        raise DataError(f"{folder} has no table of OpenFace{of}; the tables are published apart from the wav files")
    names = sorted(tables)
    parts = np.array([[int(part) for part in name.split("-")[2:]] for name in names], np.int64)
    fold_of = {actor: fold for fold, actors in enumerate(FOLDS) for actor in actors}
    heard = [_sound(sounds.get(name)) for name in names]
    return {
        "name": np.array(names),
        "emotion": parts[:, 0] - 1,
        "emotion_names": np.array(EMOTIONS),
        **{key: parts[:, place] for place, key in enumerate(("intensity", "statement", "repetition", "actor"), 1)},
        "fold": np.array([fold_of[actor] for actor in parts[:, 4].tolist()]),
        "has_audio": np.array([name in sounds for name in names]),
        "action_units": np.stack([_action_units(tables[name]) for name in names]),
        "action_unit_names": np.array(UNITS),
        **{key: np.stack([one[key] for one in heard]) for key in ("logmel", "audio_stats", "duration_s")},
    }


def _action_units(path: Path) -> Array:
    """Return the mean action units of a table of OpenFace, whose first line may have spaces after its commas."""
    with reading(path, "a table of OpenFace"):
        with path.open(encoding="utf-8") as opened:
            columns = [column.strip() for column in opened.readline().split(",")]
        missing = [unit for unit in UNITS if unit not in columns]
        if missing:
            raise DataError(f"{path} has no column {', '.join(missing)}; is it a table of OpenFace?")
        values = np.loadtxt(path, delimiter=",", skiprows=1, usecols=[columns.index(unit) for unit in UNITS], ndmin=2)
        if not len(values) or not np.isfinite(values).all():
            raise DataError(f"{path} must have finite action units in every frame; found {len(values)} frames")
    return np.asarray(values.mean(0), np.float32)


def _sound(path: Path | None) -> dict[str, Array]:
    """Return spectrogram, statistics and duration of a recording."""
    logmel = np.zeros((FRAMES, 64), np.float16)
    if path is None:
        return {
            "logmel": logmel,
            "audio_stats": np.full(256, np.nan, np.float32),
            "duration_s": np.array(np.nan, np.float32),
        }
    recipe = SPECTROGRAMS["logmel"]
    wave, rate = read_audio(path, rate=recipe.rate)
    steps = recipe(wave)[0].T[:FRAMES]  # (T, 64)
    logmel[: len(steps)] = steps
    stats = [steps.mean(0), steps.std(0), *np.percentile(steps, (10, 90), 0)]
    return {
        "logmel": logmel,
        "audio_stats": np.concatenate(stats).astype(np.float32),
        "duration_s": np.array(len(wave) / rate, np.float32),
    }
