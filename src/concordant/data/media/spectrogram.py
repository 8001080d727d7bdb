"""Spectrograms by the recipes of published audio-visual pipelines, by name.

`ogm-ge` (Peng et al., CVPR 2022), `pmr` and `pmr-10s` (Fan et al., CVPR 2023), `mmpareto` (Wei and Hu, ICML 2024;
Kaldi's filter banks, as audio transformers take them), `mla` (Zhang et al., CVPR 2024), and `logmel`, a plain default.
A wave that is too short is repeated; one that is too long is cut at its end (mla trains on a random cut; here it is
the middle one, which gives a clip one spectrogram). Shapes: a wave (N,) gives (1, F, T).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError

Wave = NDArray[np.float32]
Floats = NDArray[np.float32]

_FLOOR = 1e-7  # below the logarithm


@dataclass(frozen=True)
class Spectrogram:
    """A recipe.

    Args:
        name: of the recipe.
        rate: of the input wave, in Hz.
        seconds: of the wave that are used; None = all.
        make: function from the wave at that length to (F, T).
        options: its parameters, for the card of a dataset.
        place: of the part that is kept of a longer wave: "start", or "middle".
    """

    name: str
    rate: int
    seconds: float | None
    make: Callable[[Wave], NDArray[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    place: str = "start"

    def __call__(self, wave: Wave) -> Floats:
        """Return (1, F, T) of a wave at `rate`.

        Raises:
            UsageError: the wave is empty or has more than one channel.
        """
        if wave.ndim != 1 or not len(wave):
            raise UsageError(f"a wave must have shape (N,) with samples; found {wave.shape}")
        if self.seconds is not None:
            wave = fit(wave, round(self.seconds * self.rate), self.place)
        return np.ascontiguousarray(self.make(np.clip(wave, -1, 1))[None], dtype=np.float32)

    def parameters(self) -> dict[str, Any]:
        """Return its parameters, for the card of a dataset."""
        return {"recipe": self.name, "rate": self.rate, "seconds": self.seconds, **self.options}


def fit(wave: Wave, length: int, place: str = "start") -> Wave:
    """Return a wave of `length` samples: repeated where it is shorter, cut where it is longer.

    >>> fit(np.array([1, 2, 3], np.float32), 5).tolist()
    [1.0, 2.0, 3.0, 1.0, 2.0]
    """
    if len(wave) < length:
        wave = np.tile(wave, -(-length // len(wave)))
        place = "start"
    first = (len(wave) - length) // 2 if place == "middle" else 0
    return wave[first : first + length]


def stft(wave: Wave, size: int, hop: int) -> NDArray[np.complex128]:
    """Return the short-time Fourier transform (size / 2 + 1, T), windows centred, zeros beyond both ends.

    A periodic Hann window, as in librosa's default.
    """
    padded = np.pad(wave.astype(np.float64), size // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    return np.asarray(np.fft.rfft(frames * window, axis=1).T)


def log_magnitude(size: int, hop: int) -> Callable[[Wave], NDArray[Any]]:
    """Return a recipe: the logarithm of the magnitude of the transform."""
    return lambda wave: np.log(np.abs(stft(wave, size, hop)) + _FLOOR)


def _pmr(wave: Wave) -> NDArray[Any]:
    from scipy.signal import spectrogram

    power = spectrogram(wave.astype(np.float64), 16_000, nperseg=512, noverlap=353)[2]
    logarithm = np.log(power + _FLOOR)
    return np.asarray((logarithm - logarithm.mean()) / (logarithm.std() + 1e-9))


def _mmpareto(wave: Wave) -> NDArray[Any]:
    """Return Kaldi's log filter banks (1024, 128), padded with zeros or cut, then scaled as for AudioSet."""
    from transformers.audio_utils import spectrogram, window_function

    centred = wave.astype(np.float64) - wave.mean(dtype=np.float64)
    banks = spectrogram(
        np.pad(centred, (0, max(0, 400 - len(centred)))),
        window_function(400, "hann", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=_kaldi_filters(),
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    frames = np.zeros((1024, 128))
    frames[: len(banks)] = banks[:1024]
    return np.asarray((frames + 4.503877) / (2 * 5.141276))


@cache
def _kaldi_filters() -> NDArray[np.float64]:
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the lowest filters are narrower than a bin, in Kaldi too
        bank = mel_filter_bank(257, 128, 20, 8000, 16_000, mel_scale="kaldi", triangularize_in_mel_space=True)
    return np.asarray(bank)


def _logmel(wave: Wave) -> NDArray[Any]:
    return np.asarray(np.log(_mel_filters().T @ np.abs(stft(wave, 400, 160)) ** 2 + _FLOOR))


@cache
def _mel_filters() -> NDArray[np.float64]:
    from transformers.audio_utils import mel_filter_bank

    return np.asarray(mel_filter_bank(201, 64, 0, 8000, 16_000, norm="slaney", mel_scale="slaney"))


_PMR = {
    "window": "tukey 0.25",
    "size": 512,
    "overlap": 353,
    "log": "log(power + 1e-7)",
    "scaled": "each clip to 0 and 1",
}
SPECTROGRAMS: Mapping[str, Spectrogram] = {
    one.name: one
    for one in (
        Spectrogram(
            "ogm-ge", 22_050, 3, log_magnitude(512, 353), {"size": 512, "hop": 353, "log": "log(magnitude + 1e-7)"}
        ),
        Spectrogram("pmr", 16_000, 3, _pmr, _PMR),
        Spectrogram("pmr-10s", 16_000, 10, _pmr, _PMR),
        Spectrogram(
            "mmpareto",
            16_000,
            None,
            _mmpareto,
            {"filters": "Kaldi, 128 mel from 20 Hz", "size": 400, "hop": 160, "steps": 1024, "scaled": "AudioSet's"},
        ),
        Spectrogram(
            "mla",
            16_000,
            5,
            log_magnitude(256, 128),
            {"size": 256, "hop": 128, "log": "log(magnitude + 1e-7)", "cut": "middle"},
            place="middle",
        ),
        Spectrogram("logmel", 16_000, None, _logmel, {"filters": "64 mel", "size": 400, "hop": 160}),
    )
}
