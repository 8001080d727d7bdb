import numpy as np
import pytest

pytest.importorskip("librosa")
pytest.importorskip("transformers")

import librosa
from scipy.signal.windows import tukey

from concordant.data.media.audio import read_audio
from concordant.data.media.spectrogram import SPECTROGRAMS, fit
from concordant.errors import UsageError

SHAPES = {
    "ogm-ge": (1, 257, 188),
    "pmr": (1, 257, 299),
    "pmr-10s": (1, 257, 1004),
    "mmpareto": (1, 1024, 128),
    "mla": (1, 129, 626),
}


def waves(rate):
    draws = np.random.default_rng(0)
    for seconds in (0.7, 2.3, 6.1):
        yield (0.3 * draws.standard_normal(round(seconds * rate))).astype(np.float32).clip(-1, 1)


def by_librosa(wave, name):
    """The recipes of formats that librosa knows, independently."""
    if name == "ogm-ge":
        wave = np.tile(wave, 20)[: 3 * 22050]
        return np.log(np.abs(librosa.stft(wave, n_fft=512, hop_length=353)) + 1e-7)
    if name == "mla":
        if len(wave) < 80_000:
            wave = np.tile(wave, 20)[:80_000]
        first = (len(wave) - 80_000) // 2
        return np.log(np.abs(librosa.stft(wave[first : first + 80_000], n_fft=256, hop_length=128)) + 1e-7)
    power = librosa.feature.melspectrogram(
        y=wave, sr=16_000, n_fft=400, hop_length=160, n_mels=64, power=2.0, pad_mode="constant"
    )
    return np.log(power + 1e-7)


def by_loop(wave, seconds):
    """PMR's spectrogram window by window: a Tukey window, the mean taken off, power density."""
    wave = np.tile(wave.astype(float), 20)[: seconds * 16_000]
    window = tukey(512, 0.25, sym=False)
    columns = []
    for start in range(0, len(wave) - 511, 159):
        frame = wave[start : start + 512]
        power = np.abs(np.fft.rfft((frame - frame.mean()) * window)) ** 2 / (16_000 * (window**2).sum())
        power[1:-1] *= 2
        columns.append(np.log(power + 1e-7))
    found = np.stack(columns, 1)
    return (found - found.mean()) / (found.std() + 1e-9)


def kaldi(wave):
    """Kaldi's filter banks frame by frame, with its own mel scale."""
    wave = wave.astype(float) - wave.mean(dtype=float)
    mel = lambda hertz: 1127.0 * np.log(1 + hertz / 700.0)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(8000.0), 130)
    bins = mel(np.arange(257) * 16_000 / 512)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rise, fall))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    rows = np.zeros((1024, 128))
    for number in range(min(1024, 1 + (len(wave) - 400) // 160)):
        frame = wave[160 * number : 160 * number + 400]
        frame = frame - frame.mean()
        frame = np.concatenate([[frame[0] * (1 - 0.97)], frame[1:] - 0.97 * frame[:-1]]) * window
        power = np.abs(np.fft.rfft(frame, 512)) ** 2
        rows[number] = np.log(np.maximum(power @ filters, 1.192092955078125e-07))
    return (rows + 4.503877) / (2 * 5.141276)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_the_published_ones(name):
    recipe = SPECTROGRAMS[name]
    for wave in waves(recipe.rate):
        found = recipe(wave)
        assert found.shape == SHAPES[name]
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    assert recipe.parameters()["recipe"] == name


@pytest.mark.slow  # librosa is compiled when it is imported
@pytest.mark.parametrize("name", ["ogm-ge", "mla", "logmel"])
def test_they_are_those_of_librosa(name):
    recipe = SPECTROGRAMS[name]
    for wave in waves(recipe.rate):
        np.testing.assert_allclose(recipe(wave)[0], by_librosa(wave, name), atol=1e-4)


@pytest.mark.parametrize(("name", "seconds"), [("pmr", 3), ("pmr-10s", 10)])
def test_pmr_is_what_its_windows_say(name, seconds):
    for wave in waves(16_000):
        np.testing.assert_allclose(SPECTROGRAMS[name](wave)[0], by_loop(wave, seconds), atol=1e-4)


def test_mmpareto_has_kaldi_s_filter_banks():
    for wave in waves(16_000):
        np.testing.assert_allclose(SPECTROGRAMS["mmpareto"](wave)[0], kaldi(wave), atol=1e-4)


@pytest.mark.data
@pytest.mark.parametrize("file", ["fsdd/3_nicolas_1.wav", "ravdess/03-01-05-02-02-02-12.wav"])
def test_real_recordings_agree_with_the_independent_ones(data_folder, file):
    for name in ("ogm-ge", "mla", "logmel"):
        recipe = SPECTROGRAMS[name]
        wave, _ = read_audio(data_folder / "raw" / file, rate=recipe.rate)
        np.testing.assert_allclose(recipe(wave)[0], by_librosa(wave, name), atol=1e-4)
    wave, _ = read_audio(data_folder / "raw" / file, rate=16_000)
    np.testing.assert_allclose(SPECTROGRAMS["pmr"](wave)[0], by_loop(wave, 3), atol=1e-4)
    np.testing.assert_allclose(SPECTROGRAMS["mmpareto"](wave)[0], kaldi(wave), atol=1e-4)


def test_a_wave_is_repeated_or_cut():
    wave = np.arange(10, dtype=np.float32)
    assert fit(wave, 4).tolist() == [0, 1, 2, 3]
    assert fit(wave, 4, "middle").tolist() == [3, 4, 5, 6]
    assert fit(wave, 12, "middle").tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize("wave", [np.zeros(0, np.float32), np.zeros((2, 5), np.float32)])
def test_what_is_no_wave_is_refused(wave):
    with pytest.raises(UsageError, match=r"a wave must have shape \(N,\) with samples; found"):
        SPECTROGRAMS["logmel"](wave)
