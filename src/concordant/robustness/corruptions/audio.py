"""Corruptions of sound as it was recorded: waveforms (n, S) with layout "bt", before any spectrogram.

Everything happens within an instance's own samples; those beyond its length stay as they are.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.split import Floats
from concordant.errors import UsageError
from concordant.robustness.corruptions.kind import Context, corruption, is_wave, valid_steps

PACKET = 0.02  # seconds
LONGEST = 2.0  # seconds of reverberation that are drawn whatever the severity
EQUAL = 0.5  # seconds of reverberation at which the room is as loud as the direct sound
ORDER = 8  # of the low-pass filter, which runs over the samples in both directions

_audio = partial(corruption, group="audio", fits=is_wave)


@_audio(
    "audio-noise",
    "white noise is added to the recording",
    unit="decibels of signal to noise",
    severities=(20.0, 10.0, 5.0, 0.0, -5.0),
)
def add_noise(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Add white noise at exactly this signal-to-noise ratio in decibels, over the instance's own samples.

    A silent clip gets noise against the mean power of the split's clips that have the modality.
    """
    lengths = context.lengths_of(context.rows)
    noise = np.where(valid_steps(lengths, x.shape[1]), draws.standard_normal(x.shape, dtype=np.float32), 0)
    power = _power(x, lengths)
    if (power == 0).any():
        power = np.where(power == 0, _mean_power(context), power)
    own = _power(noise, lengths)
    gain = np.sqrt(power / np.where(own > 0, own, 1) / 10 ** (severity / 10))
    return np.asarray(x + gain[:, None] * noise)


@_audio(
    "reverberation",
    "the recording sounds as in a room",
    unit="seconds of reverberation (RT60)",
    severities=(0.2, 0.4, 0.8, 1.2, 2.0),
)
def reverberate(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Add reverberation of this time, with another room for each clip; the energy stays the clip's.

    Raises:
        UsageError: the context has no rate.
    """
    from scipy.signal import fftconvolve

    rate, result = _rate(context), x.astype(np.float64)
    longest = math.ceil(max(LONGEST, severity) * rate)
    for one, length in zip(result, context.lengths_of(context.rows), strict=True):
        room = impulse_response(draws.standard_normal(longest, dtype=np.float32), severity, rate)
        dry = one[:length].copy()
        if not dry.any():
            continue
        wet = fftconvolve(dry, room)[:length]
        one[:length] = wet * math.sqrt(np.square(dry).sum() / np.square(wet).sum())
    return result


def impulse_response(noise: NDArray[Any], seconds: float, rate: float) -> NDArray[np.float64]:
    """Return a room's impulse response: the direct path, then noise that decays by 60 decibels in `seconds`.

    At a fixed place in a fixed room the energy of the reverberation grows in proportion to its time; it equals
    the direct path's at 0.5 s, which is about right at 1 m in a room of 150 cubic metres.

    Args:
        noise: white, at least as long as the reverberation; the rest is not used.
        seconds: the reverberation time, RT60.
        rate: samples per second.
    """
    count = max(2, math.ceil(seconds * rate))
    tail = noise[1:count] * 10.0 ** (-3 * np.arange(1, count) / (seconds * rate))
    return np.concatenate([[1.0], tail * math.sqrt(seconds / EQUAL / np.square(tail).sum())])


@_audio(
    "band-limit",
    "high frequencies are removed from the recording",
    unit="share of the Nyquist frequency",
    severities=(0.5, 0.35, 0.25, 0.15, 0.08),
)
def limit_band(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Remove frequencies above this share of the Nyquist frequency, without delay (Butterworth, both directions)."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(ORDER, severity, output="sos")
    result = x.astype(np.float64)
    for one, length in zip(result, context.lengths_of(context.rows), strict=True):
        if length > 1:  # the ends are extended by SciPy's default, or by the clip's length if that is less
            one[:length] = sosfiltfilt(sections, one[:length], padlen=min(3 * (2 * len(sections) + 1), length - 1))
    return result


@_audio(
    "dropouts",
    "packets of 20 ms are lost and stay silent",
    unit="probability that a packet is lost",
    severities=(0.05, 0.1, 0.2, 0.4, 0.6),
)
def lose_packets(x: Floats, severity: float, context: Context, draws: np.random.Generator) -> NDArray[Any]:
    """Silence packets of 20 ms, each with this probability.

    Raises:
        UsageError: the context has no rate.
    """
    packet = max(1, round(PACKET * _rate(context)))
    lost = draws.random((len(x), math.ceil(x.shape[1] / packet))) < severity
    return np.where(lost.repeat(packet, axis=1)[:, : x.shape[1]], 0, x)


def _power(x: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean square of the leading `lengths` samples of each clip, (n,); 0 where there are none."""
    squares = np.where(valid_steps(lengths, x.shape[1]), np.square(x, dtype=np.float64), 0)
    power: NDArray[np.float64] = squares.sum(1) / np.maximum(lengths, 1)
    return power


def _mean_power(context: Context) -> float:
    """Return the mean power of the clips of the split; 0 where none has the modality."""
    clips, lengths = context.everything[context.donors], context.lengths_of(context.donors)
    return float(_power(clips, lengths).mean()) if len(clips) else 0.0


def _rate(context: Context) -> float:
    if context.rate is None or context.rate <= 0:
        raise UsageError(
            f"rate must be the waveform's samples per second, which this corruption needs; found {context.rate}"
        )
    return context.rate
