"""Sound from a file: one channel at a given rate, read by soundfile or, for other formats, PyAV (FFmpeg).

Shapes: a wave (N,), N samples.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from concordant.data.media.timeline import Span, Stream, check_there, check_whole, opened, seconds_of
from concordant.errors import DataError, UsageError, foreign
from concordant.files import check_size

Wave = NDArray[np.float32]
_GAP = 0.1  # seconds without sound that are more than the padding of codecs
_LOUD = 8.0  # above it, samples are whole numbers
_FULL_SCALES = (2**7, 2**15, 2**23, 2**31)
_BLOCK = 1 << 14  # samples per channel that are read at once
_UNKNOWN = 1 << 62  # samples
_PIPE = 0x7FFFF000  # a writer into a pipe, which does not know the size, leaves about 2 or 4 GiB
_PACKED = 128  # bytes of samples per byte of a file by the codecs for speech
_HIGHEST = 1_000_000  # Hz; the filter that resamples grows with it
# The beginnings of FLAC and of MP3 with a count of its frames; of Ogg, behind a page of another kind.
_BEGINNING = re.compile(
    rb"fLaC[\x00\x80]\x00\x00\x22|\xff[\xe0-\xff]..(?:\x00{32}|\x00{17}|\x00{9})(?:Info|Xing)", re.DOTALL
)
_ANOTHER_OGG = re.compile(rb"OggS\x00[\x00\x01\x04\x05].*?OggS\x00[\x02\x06]", re.DOTALL)


class NoSoundError(DataError):
    """Raised for a film without a sound stream."""


def read_audio(path: Path, *, rate: int | None = None, span: Span | None = None) -> tuple[Wave, int]:
    """Return the sound of a file, the mean of its channels, and its rate.

    Samples are in [-1, 1], but for the ringing of resampling. Where those of a file of floats are not, all are divided:
    by the largest one up to 8, beyond by that of whole numbers of 8, 16, 24 or 32 bits.

    Args:
        path: a sound file, or a film with sound.
        rate: to resample to by scipy.signal.resample_poly, in Hz; None = that of the file.
        span: start and end in seconds, the end excluded; None = all. Time counts from the beginning of a film, of its
            pictures or its sound; where there is no sound, there is silence.

    Raises:
        UsageError: rate is not 1 to 1,000,000 Hz.
        NoSoundError: it is a film without sound.
        DataError: it cannot be read, is truncated, takes more memory than CONCORDANT_LIMIT and 128 times its file, has
            another rate, no sound in the span, or NaN or infinite samples.
    """
    if rate is not None and not 0 < rate <= _HIGHEST:
        raise UsageError(f"rate must be 1 to {_HIGHEST:,} Hz; found {rate}")
    wave, own = _read(path, span)
    if not 0 < own <= _HIGHEST:
        raise DataError(f"{path} must have a rate of 1 to {_HIGHEST:,} Hz; found {own:,}")
    if not len(wave):
        raise DataError(f"{path} holds no sound: not a single sample could be decoded")
    if not np.isfinite(wave).all():
        raise DataError(f"{path} holds {int((~np.isfinite(wave)).sum())} samples that are NaN or infinite")
    peak = float(np.abs(wave).max())
    if peak > 1:
        wave = wave / np.float32(peak if peak <= _LOUD else next((f for f in _FULL_SCALES if f >= peak), peak))
    if rate is not None and rate != own:
        _check_size(path, len(wave) * rate / own)
        wave, own = _resampled(wave, own, rate), rate
    if span is not None:
        wave = wave[round(span[0] * own) : round(span[1] * own)]
        if not wave.size:
            raise DataError(f"{path} has no sound from {span[0]:g} s to {span[1]:g} s")
    return wave, own


def _read(path: Path, span: Span | None) -> tuple[Wave, int]:
    check_there(path)
    import soundfile

    blocks, count = list[Wave](), 0
    try:
        with soundfile.SoundFile(path) as sound:
            if sound.frames > _UNKNOWN or (sound.format in ("FLAC", "MP3", "OGG") and _joined(path)):
                return _decode(path, span)  # FLAC from a pipe, or more than the one recording that libsndfile reads
            # In blocks: what a header announces may be far more than there is.
            while len(values := sound.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(values.mean(1, dtype=np.float32))
                count += len(values)
                _check_size(path, count)
            rate, announced = sound.samplerate, _announced(path, sound)
    except (soundfile.SoundFileError, RuntimeError) as error:
        # FFmpeg would guess the meaning of a broken header.
        if path.suffix.lower() in (".wav", ".flac", ".ogg") or "malformed" in str(error):
            raise DataError(f"{path} cannot be read as sound ({foreign(error)})") from None
        return _decode(path, span)
    if count:
        check_whole(path, "sound", announced / rate, count / rate, span, share=0.02, seconds=0.05)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), int(rate)


def _announced(path: Path, sound: Any) -> float:  # noqa: ANN401 - soundfile has no types
    """Return how many samples per channel the header says there are.

    libsndfile counts what is there, and logs what the header says of it: "data : 96000 (should be 32000)".

    Raises:
        DataError: it logs that the file is truncated.
    """
    there, log = int(sound.frames), str(sound.extra_info)
    if re.search("truncated file|to be truncated", log):
        raise DataError(f"{path} is truncated; copy or download it again")
    sizes = [(int(says), int(of)) for says, of in re.findall(r"(?:: |length )(\d+) \(?should be (\d+)", log)]
    more = [there * says / of for says, of in sizes if of and says % 2**31 < _PIPE]
    frames = re.findall(r"^ *Frames +: (\d+)$", log, re.MULTILINE)
    if sound.format == "NIST":  # libsndfile does not log its header
        with path.open("rb") as file:
            frames += re.findall(rb"^sample_count -i (\d+)$", file.read(1024), re.MULTILINE)
    return max([there, *more, *map(int, frames)])


def _joined(path: Path) -> bool:
    """Return whether recordings were joined byte by byte in a file of FLAC, MP3 or Ogg."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:4] == b"OggS":
            return _ANOTHER_OGG.search(content) is not None
        return len(list(islice(_BEGINNING.finditer(content), 2))) == 2


def _check_size(path: Path, samples: float) -> None:
    check_size(f"{path} with its sound and silence", int(4 * samples), _PACKED * path.stat().st_size)


def _decode(path: Path, span: Span | None) -> tuple[Wave, int]:
    """Return the sound of a film from its beginning; silence where it has none."""
    with opened(path) as stream_of:
        stream = stream_of("audio")
        if not stream.there:
            raise NoSoundError(f"{path} has no sound stream")
        blocks: list[Wave] = []
        rate = count = 0
        for time, values, own in _samples(stream):
            rate = rate or own
            gap = round(time * rate) - count
            _check_size(path, count + max(gap, 0) + len(values) * rate / own)
            if gap > _GAP * rate:
                blocks.append(np.zeros(gap, np.float32))
                count += gap
            blocks.append(values if own == rate else _resampled(values, own, rate))
            count += len(blocks[-1])
        if blocks:
            stream.check_whole(path, "sound", span)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32), rate


def _samples(stream: Stream) -> Iterator[tuple[float, Wave, int]]:
    """Yield runs of sound at one rate: the time of the first sample, the samples (mean of channels), and the rate."""
    import av

    run: list[Wave] = []
    form, rate, begin, end = None, 0, 0.0, 0.0
    resampler = av.AudioResampler(format="fltp")
    for time, frame in stream.frames():
        now = (frame.sample_rate, frame.layout.name, frame.format.name)
        if now != form or time > end + _GAP:
            if run:
                yield begin, np.concatenate(run), rate
            resampler, form, rate, run, begin = av.AudioResampler(format="fltp"), now, int(frame.sample_rate), [], time
        run += [one.to_ndarray().mean(0, dtype=np.float32) for one in resampler.resample(frame)]
        end = time + seconds_of(frame)
    if run:
        yield begin, np.concatenate(run), rate


def _resampled(wave: Wave, own: int, rate: int) -> Wave:
    from scipy.signal import resample_poly

    common = gcd(rate, own)
    resampled: Wave = resample_poly(wave.astype(np.float64), rate // common, own // common).astype(np.float32)
    return resampled
