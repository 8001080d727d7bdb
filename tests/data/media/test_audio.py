import numpy as np
import pytest

pytest.importorskip("soundfile")
pytest.importorskip("av")

import av
import soundfile

from concordant.data.media.audio import NoSoundError, read_audio
from concordant.errors import ConcordantError, DataError


def tone(rate, seconds=1.0, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def test_channels_are_averaged_and_samples_come_back(tmp_path):
    left, right = tone(8000), tone(8000, hertz=100)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], 1), 8000, subtype="FLOAT")
    wave, rate = read_audio(tmp_path / "x.wav")
    assert rate == 8000
    np.testing.assert_allclose(wave, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(("own", "wanted"), [(8000, 16000), (44100, 16000), (48000, 22050)])
def test_a_tone_is_the_same_tone_at_another_rate(tmp_path, own, wanted):
    soundfile.write(tmp_path / "x.wav", tone(own), own, subtype="FLOAT")
    wave, rate = read_audio(tmp_path / "x.wav", rate=wanted)
    assert (rate, len(wave)) == (wanted, wanted)
    middle = slice(wanted // 10, -wanted // 10)  # filters ring at the ends
    np.testing.assert_allclose(wave[middle], tone(wanted)[middle], atol=2e-3)


@pytest.mark.parametrize("suffix", [".flv", ".mp4", ".avi"])
def test_the_sound_of_a_film_is_decoded(film, tmp_path, suffix):
    wave, rate = read_audio(film(tmp_path / f"x{suffix}", seconds=1.0), rate=16000)
    assert rate == 16000
    assert abs(len(wave) - 16000) < 2500  # codecs pad
    spectrum = np.abs(np.fft.rfft(wave))
    assert abs(spectrum.argmax() * rate / len(wave) - 440) < 3


def test_a_film_without_sound_says_so(film, tmp_path):
    with pytest.raises(NoSoundError, match=r"x\.mp4 has no sound stream"):
        read_audio(film(tmp_path / "x.mp4", sound=False, seconds=0.5))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.wav", b"", r"x\.wav is empty"),
        ("x.wav", b"RIFF\x00\x00\x00\x00JUNKfmt ", r"x\.wav cannot be read as sound"),
        ("x.wav", b"no sound at all", r"x\.wav cannot be read as sound"),
        ("x.mp4", b"no film at all" * 50, r"x\.mp4 cannot be decoded"),
    ],
)
def test_files_that_hold_no_sound_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_audio(tmp_path / name)


def test_absent_files_and_waves_without_samples_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.wav is not there"):
        read_audio(tmp_path / "gone.wav")
    soundfile.write(tmp_path / "x.wav", np.zeros(0), 8000)
    with pytest.raises(DataError, match=r"x\.wav holds no sound: not a single sample"):
        read_audio(tmp_path / "x.wav")
    soundfile.write(tmp_path / "n.wav", np.array([0, np.nan, np.inf]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"n\.wav holds 2 samples that are NaN or infinite"):
        read_audio(tmp_path / "n.wav")


@pytest.mark.data
def test_real_recordings(data_folder):
    for path, rate in (("fsdd/0_george_0.wav", 8000), ("ravdess/03-01-01-01-01-01-01.wav", 48000)):
        wave, found = read_audio(data_folder / "raw" / path)
        assert found == rate
        assert 0.01 < np.abs(wave).max() <= 1


@pytest.mark.parametrize(
    ("scale", "full"), [(0.5, 1), (1.5, 1.5), (7.0, 7.0), (100.0, 128), (16000.0, 32768), (5e6, 8388608)]
)
def test_floats_beyond_one_are_scaled_and_never_clipped(tmp_path, scale, full):
    samples = tone(8000) * 2 * np.float32(scale)
    samples *= np.float32(scale) / np.abs(samples).max()
    soundfile.write(tmp_path / "x.wav", samples, 8000, subtype="FLOAT")
    wave, _ = read_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(wave, samples / full, atol=1e-6)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT", "PCM_24"])
def test_a_wav_file_that_was_cut_off_is_noticed(tmp_path, subtype):
    soundfile.write(tmp_path / "x.wav", tone(8000, 2.0), 8000, subtype=subtype)
    whole = (tmp_path / "x.wav").read_bytes()
    for share in (0.25, 0.9):
        (tmp_path / "x.wav").write_bytes(whole[: round(share * len(whole))])
        with pytest.raises(DataError, match=r"is truncated: it announces 2\.0 seconds of sound, which end after"):
            read_audio(tmp_path / "x.wav")
        assert len(read_audio(tmp_path / "x.wav", span=(0, 0.4))[0]) == 3200  # before the cut
    # A writer into a pipe does not know the length.
    place = whole.index(b"data") + 4
    for size in (0xFFFFFFFF, 0x7FFFF000):
        (tmp_path / "x.wav").write_bytes(whole[:place] + size.to_bytes(4, "little") + whole[place + 4 :])
        assert len(read_audio(tmp_path / "x.wav")[0]) == 16000


@pytest.mark.parametrize(
    "suffix", ["aiff", "au", "w64", "rf64", "mp3", "flac", "caf", "nist", "voc", "avr", "mpc2k", "wve"]
)
def test_other_files_of_sound_that_were_cut_off_are_noticed(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    rate = 8000 if suffix == "wve" else 16000
    soundfile.write(path, tone(rate, 2.0), rate, format=suffix.upper())
    whole = path.read_bytes()
    assert len(read_audio(path)[0]) == 2 * rate
    path.write_bytes(whole[: round(0.6 * len(whole))])
    with pytest.raises(DataError, match=r"is truncated(: it announces 2\.0 seconds|; copy)|cannot be read as sound"):
        read_audio(path)


def test_what_a_header_announces_costs_no_memory(tmp_path):
    soundfile.write(tmp_path / "x.flac", tone(8000), 8000)
    whole = (tmp_path / "x.flac").read_bytes()
    fields = int.from_bytes(whole[18:26], "big") >> 36 << 36  # before the number of samples: RFC 9639, 8.2
    for count, refused in ((2**36 - 1, True), (0, False)):  # 0: from a pipe
        (tmp_path / "x.flac").write_bytes(whole[:18] + (fields | count).to_bytes(8, "big") + whole[26:])
        if refused:
            with pytest.raises(DataError, match="cannot be read as sound"):
                read_audio(tmp_path / "x.flac")
        else:
            assert len(read_audio(tmp_path / "x.flac")[0]) == 8000


@pytest.mark.parametrize(
    ("own", "rate", "text"),
    [
        (2**31 - 1, 16000, "must have a rate of 1 to 1,000,000 Hz; found 2,147,483,647"),
        (1, 1_000_000, r"announces 1,200,000,000 bytes, more than the 1,073,741,824 that CONCORDANT_LIMIT allows"),
        (8000, 0, "rate must be 1 to 1,000,000 Hz; found 0"),
    ],
)
def test_rates_that_would_take_all_memory_are_refused(tmp_path, own, rate, text):
    soundfile.write(tmp_path / "x.wav", np.zeros(300), own)
    with pytest.raises(ConcordantError, match=text):
        read_audio(tmp_path / "x.wav", rate=rate)


@pytest.mark.parametrize("codec", ["adts", "mp2", "ac3"])
def test_streams_without_a_container_have_no_length_to_miss(tmp_path, codec):
    """FFmpeg guesses it by the bit rate of the beginning, here silence."""
    path = tmp_path / f"x.{codec}"
    with av.open(str(path), "w", format=codec) as container:
        stream = container.add_stream({"adts": "aac"}.get(codec, codec), rate=44100, layout="mono")
        size = stream.codec_context.frame_size
        samples = np.concatenate(
            [np.zeros(44100), tone(44100, 2.0) + 0.1 * np.random.default_rng(0).normal(size=88200)]
        )
        resampler = av.AudioResampler(format=stream.codec_context.format.name, frame_size=size)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = 44100
        for one in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(stream.encode(one))
    assert len(read_audio(path)[0]) / 44100 == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize(
    ("suffix", "form", "codec"),
    [
        ("mp3", "MP3", "MPEG_LAYER_III"),
        ("flac", "FLAC", "PCM_16"),
        ("opus", "OGG", "OPUS"),
        ("ogg", "OGG", "VORBIS"),
    ],
)
def test_recordings_that_were_joined_byte_by_byte_are_all_read(tmp_path, suffix, form, codec):
    rate, joined = 48_000, b""
    for tone, seconds in ((440, 2.0), (880, 1.5)):
        one = tmp_path / f"{tone}.{suffix}"
        wave = 0.5 * np.sin(2 * np.pi * tone * np.arange(round(seconds * rate)) / rate)
        soundfile.write(one, wave, rate, format=form, subtype=codec)
        joined += one.read_bytes()
        assert len(read_audio(one)[0]) == pytest.approx(seconds * rate, abs=0.01 * rate)
    both = tmp_path / f"both.{suffix}"
    both.write_bytes(joined)
    found, _ = read_audio(both)
    assert len(found) == pytest.approx(3.5 * rate, abs=0.1 * rate)  # a codec may pad what follows
    later = found[round(2.5 * rate) : round(3 * rate)]
    assert np.argmax(np.abs(np.fft.rfft(later))) == pytest.approx(880 / 2, abs=2)
