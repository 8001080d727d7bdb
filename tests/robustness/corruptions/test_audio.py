import math
from dataclasses import replace

import numpy as np
import pytest

from concordant.errors import UsageError
from concordant.robustness.corruptions import KINDS, Context
from concordant.robustness.corruptions.audio import impulse_response

RATE, SAMPLES = 8000, 4000


def a_case(count=10, seed=0):
    draws = np.random.default_rng(seed)
    lengths = draws.integers(SAMPLES // 2, SAMPLES + 1, count)
    x = 0.1 * draws.standard_normal((count, SAMPLES)).astype(np.float32)
    x = np.where(np.arange(SAMPLES) < lengths[:, None], x, np.float32(0))
    everyone = np.ones(count, np.bool_)
    return x, Context("bt", x, np.arange(count), everyone, np.arange(count) % 2, lengths, RATE)


def hurt(name, severity, x, context, seed=3):
    return KINDS[name].apply(x, severity, context, np.random.default_rng(seed))


def decibels(ratio):
    return 10 * np.log10(ratio)


def power(x, lengths):
    return np.array([np.square(one[:n].astype(np.float64)).mean() for one, n in zip(x, lengths, strict=True)])


@pytest.fixture(scope="module")
def recordings(data_folder):
    """Real spoken digits, one of each class and speaker number."""
    from scipy.io import wavfile

    paths = sorted((data_folder / "raw" / "fsdd").glob("*.wav"))[:8]
    if len(paths) < 2:
        pytest.skip("there are no recordings in raw/fsdd")
    waves = [wavfile.read(path) for path in paths]
    lengths = np.array([len(wave) for _, wave in waves])
    x = np.zeros((len(waves), lengths.max()), np.float32)
    for row, (_, wave) in zip(x, waves, strict=True):
        row[: len(wave)] = wave / np.float32(2**15)
    assert {rate for rate, _ in waves} == {RATE}
    everyone = np.ones(len(x), np.bool_)
    return x, Context("bt", x, np.arange(len(x)), everyone, np.arange(len(x)) % 2, lengths, RATE)


@pytest.mark.parametrize("snr", KINDS["audio-noise"].severities)
def test_the_measured_signal_to_noise_ratio_is_the_stated_one(snr):
    x, context = a_case()
    noise = hurt("audio-noise", snr, x, context) - x
    found = decibels(power(x, context.lengths) / power(noise, context.lengths))
    np.testing.assert_allclose(found, snr, atol=0.01)
    assert abs(np.corrcoef(noise[0, :2000], x[0, :2000])[0, 1]) < 0.1
    assert abs(np.corrcoef(noise[0, 1:2000], noise[0, :1999])[0, 1]) < 0.1  # white


def test_a_silent_clip_gets_noise_against_the_parts_mean_power():
    x, context = a_case()
    x[4] = 0
    x[7] = 50  # it lacks the modality, so that it does not count
    donors = np.arange(10) != 7
    rows = np.flatnonzero(donors)
    context = replace(context, everything=x, donors=donors, rows=rows)
    found = hurt("audio-noise", 5.0, x[rows], context)
    mean = power(x[rows], context.lengths[rows]).mean()
    assert decibels(mean / power(found[4:5], context.lengths[4:5])[0]) == pytest.approx(5, abs=0.01)


def test_a_part_of_silence_stays_silent():
    x, context = a_case()
    silent = np.zeros_like(x)
    for name in ("audio-noise", "reverberation", "band-limit", "dropouts"):
        found = hurt(name, KINDS[name].severities[2], silent, replace(context, everything=silent))
        assert not found.any()


def slope_time(response, rate, upper, lower):
    """Return RT60 by Schroeder's backward integration, from the line between two levels in decibels."""
    curve = decibels(np.square(response)[::-1].cumsum()[::-1])
    curve -= curve[0]
    inside = np.flatnonzero((curve <= upper) & (curve >= lower))
    slope, _ = np.polyfit(inside / rate, curve[inside], 1)
    return -60 / slope


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("seconds", KINDS["reverberation"].severities)
def test_the_reverberation_time_is_the_stated_one(seconds, rate):
    for seed in range(4):
        noise = np.random.default_rng(seed).standard_normal(2 * rate)
        response = impulse_response(noise, seconds, rate)
        assert slope_time(response[1:], rate, -5, -35) == pytest.approx(seconds, rel=0.1)


@pytest.mark.parametrize("seconds", KINDS["reverberation"].severities)
def test_the_direct_path_comes_first_and_the_room_grows_with_its_time(seconds):
    response = impulse_response(np.random.default_rng(0).standard_normal(2 * RATE), seconds, RATE)
    assert len(response) == math.ceil(seconds * RATE)
    assert response[0] == 1
    assert np.square(response[1:]).sum() == pytest.approx(seconds / 0.5)


@pytest.mark.parametrize("seconds", KINDS["reverberation"].severities)
def test_reverberation_convolves_with_the_response_and_keeps_the_energy(seconds):
    x, context = a_case(3)
    found = hurt("reverberation", seconds, x, context)
    np.testing.assert_allclose(power(found, context.lengths), power(x, context.lengths), rtol=1e-4)
    draws = np.random.default_rng(3)
    for one, wet, length in zip(x, found, context.lengths, strict=True):
        room = impulse_response(draws.standard_normal(2 * RATE, dtype=np.float32), seconds, RATE)
        expected = np.convolve(one[:length].astype(np.float64), room)[:length]
        cosine = expected @ wet[:length] / np.linalg.norm(expected) / np.linalg.norm(wet[:length])
        assert cosine == pytest.approx(1, abs=1e-6)


def test_what_comes_later_is_never_heard_earlier():
    x, context = a_case(1)
    x[:, :1000] = 0
    found = hurt("reverberation", 0.8, x, context)
    assert np.abs(found[:, :1000]).max() < 1e-6
    assert np.abs(found[:, 1000:]).max() > 0.1


@pytest.mark.parametrize("share", KINDS["band-limit"].severities)
def test_the_low_pass_keeps_a_tone_below_the_cutoff_and_removes_one_above(share):
    time = np.arange(SAMPLES) / RATE
    tones = [np.sin(2 * np.pi * factor * share * RATE / 2 * time) for factor in (0.6, 1.0, 1.7)]
    x = np.stack(tones).astype(np.float32)
    everyone = np.ones(3, np.bool_)
    context = Context("bt", x, np.arange(3), everyone, np.arange(3), rate=RATE)
    inside = slice(500, -500)
    found = hurt("band-limit", share, x, context)[:, inside]
    np.testing.assert_allclose(found[0], x[0, inside], atol=0.01)  # no delay either
    assert np.sqrt(2) * found[1].std() == pytest.approx(0.5, abs=0.01)  # -3 decibels, twice
    assert np.abs(found[2]).max() < 0.01


def test_the_low_pass_is_scipys_on_each_clips_own_samples():
    from scipy.signal import butter, sosfiltfilt

    x, context = a_case()
    found = hurt("band-limit", 0.25, x, context)
    for one, limited, length in zip(x, found, context.lengths, strict=True):
        expected = sosfiltfilt(butter(8, 0.25, output="sos"), one[:length].astype(np.float64))
        np.testing.assert_allclose(limited[:length], expected, atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, 2, 10, 27, 28])
def test_the_shortest_clips_can_be_limited(length):
    x = np.zeros((1, 40), np.float32)
    x[0, :length] = 1
    lengths, everyone = np.array([length]), np.ones(1, np.bool_)
    found = hurt("band-limit", 0.25, x, Context("bt", x, np.arange(1), everyone, lengths * 0, lengths, RATE))
    np.testing.assert_allclose(found, x, atol=1e-3)  # a constant passes


@pytest.mark.parametrize("chance", KINDS["dropouts"].severities)
def test_whole_packets_of_twenty_milliseconds_are_lost_with_the_stated_probability(chance):
    x = np.ones((200, SAMPLES), np.float32)
    everyone = np.ones(200, np.bool_)
    context = Context("bt", x, np.arange(200), everyone, np.arange(200), rate=RATE)
    packets = hurt("dropouts", chance, x, context).reshape(200, -1, 160)
    np.testing.assert_array_equal(packets.all(2), packets.any(2))
    assert 1 - packets[:, :, 0].mean() == pytest.approx(chance, abs=0.02)
    milder = hurt("dropouts", chance / 2, x, context).reshape(packets.shape)
    assert (milder >= packets).all()


@pytest.mark.parametrize("name", ["reverberation", "dropouts"])
@pytest.mark.parametrize("rate", [None, 0.0])
def test_a_kind_that_counts_in_seconds_needs_the_rate(name, rate):
    x, context = a_case()
    text = f"rate must be the waveform's samples per second, which this corruption needs; found {rate}"
    with pytest.raises(UsageError, match=text):
        hurt(name, 0.2, x, replace(context, rate=rate))


@pytest.mark.data
@pytest.mark.parametrize("name", ["audio-noise", "reverberation", "band-limit", "dropouts"])
def test_real_speech_gets_farther_from_what_was_said_with_every_severity(name, recordings):
    x, context = recordings
    found = [hurt(name, severity, x, context) for severity in KINDS[name].severities]
    padding = np.arange(x.shape[1]) >= context.lengths[:, None]
    for one in found:
        assert np.isfinite(one).all()
        assert not one[padding].any()
    likeness = [np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, x, strict=True)])
                for one in found]  # fmt: skip
    assert (np.diff(likeness) < 0).all(), likeness
    assert likeness[0] > 0.7


@pytest.mark.data
@pytest.mark.parametrize("snr", KINDS["audio-noise"].severities)
def test_the_ratio_holds_on_real_speech(snr, recordings):
    x, context = recordings
    noise = hurt("audio-noise", snr, x, context) - x
    np.testing.assert_allclose(decibels(power(x, context.lengths) / power(noise, context.lengths)), snr, atol=0.01)


@pytest.mark.data
@pytest.mark.parametrize("share", KINDS["band-limit"].severities)
def test_nothing_above_the_cutoff_is_left_of_real_speech(share, recordings):
    x, context = recordings
    found = hurt("band-limit", share, x, context)
    for one, limited, length in zip(x, found, context.lengths, strict=True):
        frequency = np.fft.rfftfreq(length) / 0.5  # shares of the Nyquist frequency
        window = np.hanning(length)
        before, after = (np.square(np.abs(np.fft.rfft(window * wave[:length]))) for wave in (one, limited))
        above, below = frequency > 1.6 * share, frequency < 0.7 * share
        assert after[above].sum() < 1e-3 * before[above].sum() + 1e-9 * before.sum()
        assert after[below].sum() == pytest.approx(before[below].sum(), rel=0.05)
