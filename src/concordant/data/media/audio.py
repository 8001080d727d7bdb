"""Sound from a file: one channel at a given rate, read by soundfile or, for other formats, PyAV (FFmpeg).

Shapes: a wave (N,), N samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from concordant.errors import DataError

Wave = NDArray[np.float32]


class NoSoundError(DataError):
    """Raised for a film without a sound stream."""


def read_audio(path: Path, *, rate: int | None = None) -> tuple[Wave, int]:
    """Return the sound of a file, the mean of its channels, in [-1, 1], and its rate.

    Args:
        path: a sound file, or a film with sound.
        rate: to resample to by scipy.signal.resample_poly, in Hz; None = that of the file.

    Raises:
        NoSoundError: it is a film without sound.
        DataError: it cannot be read, is truncated before the first sample, or has NaN or infinite samples.
    """
    wave, own = _read(path)
    if not len(wave):
        raise DataError(f"{path} holds no sound: not a single sample could be decoded")
    if not np.isfinite(wave).all():
        raise DataError(f"{path} holds {int((~np.isfinite(wave)).sum())} samples that are NaN or infinite")
    if rate is None or rate == own:
        return np.clip(wave, -1, 1), own
    from scipy.signal import resample_poly

    common = gcd(rate, own)
    resampled = resample_poly(wave.astype(np.float64), rate // common, own // common)
    return np.clip(resampled, -1, 1).astype(np.float32), rate


def _read(path: Path) -> tuple[Wave, int]:
    if not path.is_file():
        raise DataError(f"{path} is not there")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    import soundfile

    try:
        values, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        if path.suffix.lower() in (".wav", ".flac", ".ogg"):  # FFmpeg would guess the meaning of a broken header
            raise DataError(f"{path} cannot be read as sound ({error})") from None
        return _decode(path)
    return values.mean(1, dtype=np.float32), int(rate)


def _decode(path: Path) -> tuple[Wave, int]:
    """Return the sound of a film."""
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise NoSoundError(f"{path} has no sound stream")
            stream = container.streams.audio[0]
            rate = int(stream.codec_context.sample_rate)
            blocks = list(_blocks(container.decode(stream)))
    except (av.FFmpegError, ValueError) as error:
        raise DataError(f"{path} cannot be decoded ({error})") from None
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def _blocks(frames: Iterator[object]) -> Iterator[Wave]:
    """Yield the samples of decoded frames, the mean of their channels."""
    import av

    planar = av.AudioResampler(format="fltp")
    for frame in [*frames, None]:
        for one in planar.resample(frame):
            yield one.to_ndarray().mean(0, dtype=np.float32)
