"""Corruptions of sound as it was recorded: waveforms (n, S) with layout "bt", before any spectrogram.

Everything happens within an instance's own samples; those beyond its length stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.errors import UsageError
from concordant.robustness.corruptions.axes import finished, lengths_of, valid_steps
from concordant.robustness.corruptions.kind import Floats, Kind, Site, is_wave

PACKET = 0.02  # seconds
LONGEST = 2.0  # seconds of reverberation that are drawn whatever the severity
EQUAL = 0.5  # seconds of reverberation at which the room is as loud as the direct sound
ORDER = 8  # of the low-pass filter, which runs over the samples in both directions


def add_noise(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Add white noise at exactly this signal-to-noise ratio in decibels, over the instance's own samples.

    A silent clip gets noise against the mean power of the part's clips that have the modality.
    """
    valid = valid_steps(lengths_of(x, site), x.shape[1])
    noise = np.where(valid, draws.standard_normal(x.shape, dtype=np.float32), 0)
    power = _power(x, lengths_of(x, site))
    if (power == 0).any():
        power = np.where(power == 0, _mean_power(site), power)
    own = _power(noise, lengths_of(x, site))
    gain = np.sqrt(power / np.where(own > 0, own, 1) / 10 ** (severity / 10))
    return finished(x + gain[:, None] * noise, x, site)


def reverberate(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Let each clip sound in a room of its own with this reverberation time; the energy stays the clip's.

    Raises:
        UsageError: the rate is not known.
    """
    from scipy.signal import fftconvolve

    rate, result = _rate(site), x.astype(np.float64)
    longest = math.ceil(max(LONGEST, severity) * rate)
    for one, length in zip(result, lengths_of(x, site), strict=True):
        room = impulse_response(draws.standard_normal(longest, dtype=np.float32), severity, rate)
        dry = one[:length].copy()
        if not dry.any():
            continue
        wet = fftconvolve(dry, room)[:length]
        one[:length] = wet * math.sqrt(np.square(dry).sum() / np.square(wet).sum())
    return finished(result, x, site)


def impulse_response(noise: NDArray[Any], seconds: float, rate: float) -> NDArray[np.float64]:
    """Return a room's impulse response: the direct path, then noise that decays by 60 decibels in `seconds`.

    At a fixed place in a fixed room the energy of the reverberation grows in proportion to its time; it equals
    the direct path's at 0.5 s, about what holds at 1 m in a room of 150 cubic metres.

    Args:
        noise: white, at least as long as the reverberation; what is longer is not used.
        seconds: the reverberation time, RT60.
        rate: samples a second.
    """
    count = max(2, math.ceil(seconds * rate))
    tail = noise[1:count] * 10.0 ** (-3 * np.arange(1, count) / (seconds * rate))
    return np.concatenate([[1.0], tail * math.sqrt(seconds / EQUAL / np.square(tail).sum())])


def limit_band(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Remove what lies above this share of the Nyquist frequency, without delay (Butterworth, both directions)."""
    from scipy.signal import butter, sosfiltfilt

    sections = butter(ORDER, severity, output="sos")
    result = x.astype(np.float64)
    for one, length in zip(result, lengths_of(x, site), strict=True):
        if length > 1:  # the ends are extended by as much as SciPy does, or as there is
            one[:length] = sosfiltfilt(sections, one[:length], padlen=min(3 * (2 * len(sections) + 1), length - 1))
    return finished(result, x, site)


def lose_packets(x: Floats, severity: float, site: Site, draws: np.random.Generator) -> Floats:
    """Silence packets of 20 ms, each with this probability.

    Raises:
        UsageError: the rate is not known.
    """
    size = max(1, round(PACKET * _rate(site)))
    lost = draws.random((len(x), math.ceil(x.shape[1] / size))) < severity
    return finished(np.where(lost.repeat(size, axis=1)[:, : x.shape[1]], 0, x), x, site)


def _power(x: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean square of the leading `lengths` samples of each clip, (n,); 0 where there are none."""
    squares = np.where(valid_steps(lengths, x.shape[1]), np.square(x, dtype=np.float64), 0)
    power: NDArray[np.float64] = squares.sum(1) / np.maximum(lengths, 1)
    return power


def _mean_power(site: Site) -> float:
    """Return the mean power of the clips of the part; 0 where none has the modality."""
    clips = site.everything[site.donors]
    lengths = np.full(len(clips), clips.shape[1]) if site.all_lengths is None else site.all_lengths[site.donors]
    return float(_power(clips, lengths).mean()) if len(clips) else 0.0


def _rate(site: Site) -> float:
    if site.rate is None or site.rate <= 0:
        raise UsageError(
            f"rate must be the waveform's samples a second, which this corruption needs; found {site.rate}"
        )
    return site.rate


AUDIO = (
    Kind(
        "audio-noise",
        "white noise is added to the recording",
        "audio",
        "decibels of signal to noise",
        (20.0, 10.0, 5.0, 0.0, -5.0),
        is_wave,
        add_noise,
    ),
    Kind(
        "reverberation",
        "the recording sounds as in a room",
        "audio",
        "seconds of reverberation (RT60)",
        (0.2, 0.4, 0.8, 1.2, 2.0),
        is_wave,
        reverberate,
    ),
    Kind(
        "band-limit",
        "high frequencies are removed from the recording",
        "audio",
        "share of the Nyquist frequency",
        (0.5, 0.35, 0.25, 0.15, 0.08),
        is_wave,
        limit_band,
    ),
    Kind(
        "dropouts",
        "packets of 20 ms are lost and stay silent",
        "audio",
        "probability that a packet is lost",
        (0.05, 0.1, 0.2, 0.4, 0.6),
        is_wave,
        lose_packets,
    ),
)
