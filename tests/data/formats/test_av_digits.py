import gzip
import shutil

import numpy as np
import pytest

pytest.importorskip("soundfile")

import soundfile

from concordant.data.formats.av_digits import read_av_digits
from concordant.errors import DataError


def idx(values):
    return np.array([0x0800 + values.ndim, *values.shape], ">u4").tobytes() + values.astype(np.uint8).tobytes()


def publish(folder, packed=False):
    draws = np.random.default_rng(0)
    found = {}
    for stem, count in (("train", 20), ("t10k", 10)):
        images, labels = draws.integers(0, 256, (count, 28, 28)), draws.permutation(np.arange(count) % 10)
        for name, values in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(idx(values)) if packed else idx(values))
        found[stem] = images, labels
    (folder / "recordings").mkdir()
    for name, samples in (("1_theo_0", 9000), ("0_george_10", 300), ("0_george_2", 500)):
        wave = draws.integers(-999, 999, samples).astype(np.int16)
        soundfile.write(folder / "recordings" / f"{name}.wav", wave, 8000, subtype="PCM_16")
        found[name] = wave
    return found


@pytest.mark.parametrize("packed", [False, True])
def test_images_are_sorted_by_class_and_recordings_by_name(tmp_path, packed):
    made = publish(tmp_path, packed)
    found = read_av_digits(tmp_path)
    assert found["digit_image_train"].tolist() == sorted(made["train"][1].tolist())
    images, labels = made["t10k"]
    np.testing.assert_array_equal(found["image_test"][3], images[labels == 3][0])
    assert found["name_wav"].tolist() == ["0_george_10", "0_george_2", "1_theo_0"]
    assert found["wav_samples"].tolist() == [300, 500, 9000]
    assert (found["speaker"].tolist(), found["take"].tolist()) == (["george", "george", "theo"], [10, 2, 0])
    np.testing.assert_array_equal(found["wav_8khz"][2], made["1_theo_0"][:8000])
    assert not found["wav_8khz"][0, 300:].any()


@pytest.mark.data
def test_recordings_are_those_of_the_archive(data_folder, tmp_path):
    publish(tmp_path)
    shutil.rmtree(tmp_path / "recordings")
    shutil.copytree(data_folder / "raw" / "fsdd", tmp_path / "fsdd")
    found = read_av_digits(tmp_path)
    with np.load(data_folder / "av_digits.npz") as archive:
        assert set(found) == set(archive.files)
        rows = [archive["name_wav"].tolist().index(name) for name in found["name_wav"].tolist()]
        for key in ("wav_8khz", "wav_samples", "digit_wav", "speaker", "take"):
            np.testing.assert_array_equal(found[key], archive[key][rows])
        assert {key: values.dtype for key, values in found.items() if values.dtype.kind != "U"} == {
            key: archive[key].dtype for key in found if archive[key].dtype.kind != "U"
        }


def test_files_that_lack_or_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte \(or train-images-idx3-ubyte\.gz\)"):
        read_av_digits(tmp_path)
    publish(tmp_path)
    whole = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"it must have 7840 bytes after its header; found 7839"):
        read_av_digits(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"it must begin with the number 2051 and 3 sizes"):
        read_av_digits(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((9, 28, 28))))
    with pytest.raises(
        DataError, match=r"t10k must have as many images of 28x28 pixels as digits; found \(9, 28, 28\)"
    ):
        read_av_digits(tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(whole)
    soundfile.write(tmp_path / "recordings" / "2_theo_0.wav", np.zeros(10, np.int16), 16000)
    with pytest.raises(DataError, match=r"2_theo_0\.wav must have one channel at 8000 Hz; found 1 at 16000"):
        read_av_digits(tmp_path)
