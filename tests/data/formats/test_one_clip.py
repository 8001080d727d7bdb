import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("soundfile")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.formats.listing import Row
from concordant.data.formats.one_clip import audio_and_frames, fitting, packed, picked, unpacked
from concordant.data.media.decoding import Clip
from concordant.errors import DataError


def clip(audio, picture, span=None):
    return packed(Row("a", "train", 0, {"audio": audio, "picture": picture}, span=span))


@pytest.fixture
def frames(tmp_path):
    """A folder of two extracted frames."""
    cv2 = pytest.importorskip("cv2")
    (tmp_path / "frames").mkdir()
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / "frames" / f"{number}.png"), np.full((4, 4, 3), 100 * number, np.uint8))
    return tmp_path / "frames"


def decoded(audio, picture, shape, span=None, spectrogram="logmel"):
    return audio_and_frames(
        clip(audio, picture, span), spectrogram=spectrogram, shape=shape, fps=1, frames=2, size=(4, 4)
    )


def sounds(path, seconds=1.0, rate=16000):
    import soundfile

    wave = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * rate))
    soundfile.write(path, wave, rate)
    return path


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int16, np.uint8])
def test_filter_banks_of_others_are_taken_as_they_are(tmp_path, frames, dtype):
    banks = np.arange(12).reshape(3, 4).astype(dtype)
    np.save(tmp_path / "a.npy", banks)
    found = decoded(tmp_path / "a.npy", frames, (1, 3, 4))
    np.testing.assert_array_equal(found["audio"], banks[None])
    np.testing.assert_array_equal(decoded(tmp_path / "a.npy", frames, (None, 3))["audio"], banks.T)
    assert (found["visual"].shape, found["visual"].dtype) == ((3, 2, 4, 4), np.float16)


HUGE = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 3), }".ljust(117) + b"\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00", HUGE % 10**15, HUGE % 2 + b"\0" * 9, b"\x80\x04]."],
)
def test_what_is_no_array_is_named(tmp_path, frames, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{re.escape(str(tmp_path / 'a.npy'))} cannot be read as a NumPy array \(.+"):
        decoded(tmp_path / "a.npy", frames, (1, 3, 4))


@pytest.mark.parametrize(
    ("values", "found"), [(np.array([[1j]]), "complex128 (1, 1)"), (np.array(["a"]), "<U1 (1,)"), (None, "an archive")]
)
def test_what_holds_no_numbers_is_named(tmp_path, frames, values, found):
    with (tmp_path / "a.npy").open("wb") as opened:
        np.savez(opened, a=np.ones(3)) if values is None else np.save(opened, values)
    with pytest.raises(DataError, match=rf"a\.npy must hold one array of numbers; found {re.escape(found)}$"):
        decoded(tmp_path / "a.npy", frames, (1, 3, 4))


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.booleans())
@settings(deadline=None)
def test_a_spectrogram_fits_as_a_map_or_as_a_sequence_or_not_at_all(channels, rows, steps, sequence):
    values = np.arange(channels * rows * steps).reshape(channels, rows, steps)
    shape = (None, 3) if sequence else (1, 3, 4)
    fits = rows == 3 and steps > 0 if sequence else (channels, rows, steps) == (1, 3, 4)
    if fits:
        found = fitting(values, shape, Path("a"))
        assert found.flags.c_contiguous
        assert all(size in (None, has) for size, has in zip(shape, found.shape, strict=True))
        np.testing.assert_array_equal(found, values[0].T if sequence else values)
    else:
        with pytest.raises(DataError, match=re.escape(f"a must give a spectrogram of shape {shape}; found (")):
            fitting(values, shape, Path("a"))


def test_a_span_takes_its_part_of_the_sound(tmp_path, frames):
    path = sounds(tmp_path / "a.wav", seconds=2)
    shape = (None, 64)
    whole, half = (decoded(path, frames, shape, span)["audio"] for span in (None, (1.0, 2.0)))
    assert abs(len(whole) - 2 * len(half)) <= 2
    with pytest.raises(DataError, match=r"a\.wav has no sound from 2 s to 2.5 s$"):
        decoded(path, frames, shape, (2.0, 2.5))


def test_a_film_without_sound_has_no_audio(tmp_path, film):
    path = film(tmp_path / "a.mp4", seconds=1, sound=False)
    assert list(decoded(path, path, (None, 64))) == ["visual"]


def test_what_is_not_there_is_named_by_the_clip():
    row = Row("v_[1]", "train", 0, {}, missing=("AVE/<clip>.mp4", "flow/u/<clip>"))
    with pytest.raises(DataError, match=r"^not there: AVE/v_\[1\]\.mp4 and flow/u/v_\[1\]$"):
        unpacked(packed(row))


def test_a_pointer_to_a_file_is_not_the_file(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(DataError, match=r"a\.mp4 is a Git LFS pointer, not the file itself; run `git lfs pull` there"):
        unpacked(clip(tmp_path, path))
    path.write_bytes(b"version https://git")  # shorter than a pointer's mark
    assert unpacked(Clip("a", (path,), (("roles", ("picture",)), ("span", None)))) == ({"picture": path}, None)


def test_frames_are_those_of_the_folder_in_the_order_of_their_numbers(tmp_path):
    for name in ("frame_10.jpg", "frame_9.JPG", "frame_1.jpeg", "notes.txt", "thumbs.db"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in picked(tmp_path, 3)] == ["frame_1.jpeg", "frame_9.JPG", "frame_10.jpg"]
    assert len(picked(tmp_path, 7)) == 7
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none holds no frame; expected images \(\.jpg, \.jpeg, \.png\)$"):
        picked(tmp_path / "none", 1)
