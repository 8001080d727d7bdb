import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.card import Card, LabelCard
from concordant.data.formats.clips import (
    MediaOptions,
    audio_and_frames,
    audio_card,
    audio_visual_reading,
    film_card,
    fitting,
    packed,
    picked,
    pictures,
    reading,
    unpacked,
)
from concordant.data.formats.listing import Row
from concordant.data.media.decoding import Clip
from concordant.data.media.spectrogram import SPECTROGRAMS
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

pytest.importorskip("av")
pytest.importorskip("datasets")
pytest.importorskip("soundfile")


OPTIONS = MediaOptions("ogm-ge", fps=5, frames=2, size=(32, 32), may_fail=0.5)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def dataset(rows, options, folder):
    more = {"classes": ("a", "b"), "splits": ("train", "test"), "groups": None, "sources": (), "notes": ()}
    return audio_visual_reading("films", rows, options, folder, **more)


def write(found, folder):
    write_store(folder, found.card, found.instances, findings=found.findings)
    return Store(folder)


def row(name, path, **more):
    return Row(name, "train", 0, {"audio": path, "picture": path}, **more)


def test_all_faults_of_the_options_are_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        MediaOptions("mel", fps=0, frames=0, size=(0, 2), processes=True, may_fail=2, cache=tmp_path / "file")
    for part in (
        "spectrogram must be one of ogm-ge, pmr",
        "found 'mel'",
        "fps must be",
        "frames must be",
        "processes must be",
        "found True",
        "size must be",
        "may_fail must be a share",
        "cache must be",
    ):
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="fps must be a number above 0; found nan"):
        replace(OPTIONS, fps=float("nan"))
    with pytest.raises(UsageError, match="fps must be a number above 0; found 'one'"):
        replace(OPTIONS, fps="one")


def test_audio_needs_a_recipe():
    with pytest.raises(UsageError, match="the audio needs a spectrogram; choose one of ogm-ge"):
        audio_card(replace(OPTIONS, spectrogram=None), [])


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [
        ("ogm-ge", (1, 257, 188)),
        ("pmr", (1, 257, 299)),
        ("mla", (1, 129, 626)),
        ("pmr-10s", (1, 257, 1004)),
        ("mmpareto", (1, 1024, 128)),
    ],
)
def test_recipes_of_one_length_give_maps_of_the_published_shape(recipe, shape):
    card = audio_card(replace(OPTIONS, spectrogram=recipe), [])
    assert (card.layout, card.shape, card.rate) == ("bchw", shape, None)


def test_a_recipe_that_keeps_the_length_gives_sequences(tmp_path, film):
    long, short = film(tmp_path / "a.mp4", seconds=2), film(tmp_path / "b.mp4", seconds=1)
    found = dataset([row("a", long), row("b", short)], replace(OPTIONS, spectrogram="logmel"), tmp_path)
    known = found.card.modalities["audio"]
    assert (known.layout, known.shape, known.rate) == ("btd", (None, 64), 100)
    store = write(found, tmp_path / "out")
    lengths = store.lengths("audio")
    assert 195 <= lengths[0] <= 215
    assert 95 <= lengths[1] <= 115


def test_frames_and_sound_are_those_of_the_film(tmp_path, film):
    path = film(tmp_path / "a.mp4", seconds=2)
    store = write(dataset([row("a", path)], OPTIONS, tmp_path), tmp_path / "out")
    visual, audio = store[0].features["visual"], store[0].features["audio"]
    assert (visual.shape, visual.dtype, audio.dtype) == ((3, 2, 32, 32), np.float16, np.float32)
    # 5 frames a second of 25: the ten frames 0, 5, 10, ...; of these the middle ones of both halves, 2 and 7.
    for place, frame in enumerate((10, 35)):
        pixels = (visual[:, place].mean((1, 2)) * STD + MEAN) * 255
        np.testing.assert_allclose(pixels, 16 + 4 * frame, atol=4)
    # The tone of the film, 440 Hz, is the strongest bin: bins are 22050 / 512 Hz apart.
    assert audio[0].mean(1).argmax() == round(440 / (22_050 / 512))


def test_colours_are_red_green_blue(tmp_path, film):
    cv2 = pytest.importorskip("cv2")
    frames = tmp_path / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "1.png"), np.full((8, 8, 3), (30, 120, 210), np.uint8))  # OpenCV counts from blue
    rows = [Row("a", "train", 0, {"audio": film(tmp_path / "a.mp4", seconds=1), "picture": frames})]
    store = write(dataset(rows, OPTIONS, tmp_path), tmp_path / "out")
    pixels = (store[0].features["visual"].mean((1, 2, 3)) * STD + MEAN) * 255
    np.testing.assert_allclose(pixels, (210, 120, 30), atol=0.5)


def test_a_span_cuts_sound_and_frames(tmp_path, film):
    path = film(tmp_path / "a.mp4", seconds=3)
    options = replace(OPTIONS, spectrogram="logmel", frames=1)
    store = write(dataset([row("a", path, span=(1.0, 2.0))], options, tmp_path), tmp_path / "out")
    assert store.lengths("audio")[0] == 101  # 16,000 samples, 160 a step, one more for the centred windows
    pixels = (store[0].features["visual"][:, 0].mean((1, 2)).astype(float) * STD + MEAN) * 255
    np.testing.assert_allclose(pixels, 16 + 4 * (25 + 10), atol=4)


def test_a_film_without_sound_has_no_audio_and_a_note_says_so(tmp_path, film):
    silent = film(tmp_path / "silent.mp4", sound=False)
    rows = [row("silent", silent), row("loud", film(tmp_path / "loud.mp4"))]
    found = dataset(rows, OPTIONS, tmp_path)
    store = write(found, tmp_path / "out")
    assert store[0].features["audio"] is None
    assert store[0].features["visual"] is not None
    assert store[1].features["audio"] is not None
    assert "1 clips have no audio" in " ".join(store.card.notes)
    assert not found.findings.failures


def test_broken_clips_are_left_out_with_their_reasons(tmp_path, film):
    good = film(tmp_path / "good.mp4")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:100])
    pointer = tmp_path / "pointer.mp4"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    (tmp_path / "frames").mkdir()
    rows = [
        row("good", good),
        row("cut", cut),
        row("pointer", pointer),
        row("empty", empty),
        row("no picture", film(tmp_path / "heard.mp4", picture=False)),
        row("late", good, span=(8.0, 9.0)),
        Row("no frames", "train", 0, {"audio": good, "picture": tmp_path / "frames"}),
        replace(row("gone", good), missing=("films/<clip>.mp4",)),
    ]
    found = dataset(rows, replace(OPTIONS, may_fail=0.9), tmp_path)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == ["good"]
    reasons = json.loads((tmp_path / "out/failures.json").read_text())
    assert list(reasons) == [one.id for one in rows[1:]]
    for clip, reason in {
        "cut": "cannot be decoded",
        "pointer": "is a Git LFS pointer, not the file itself; run `git lfs pull`",
        "empty": "is empty",
        "no picture": "has no video stream",
        "late": "no frame could be decoded from 8 to 9 seconds",
        "no frames": "holds no frame; expected images",
        "gone": "not there: films/gone.mp4",
    }.items():
        assert reason in reasons[clip]
    assert "7 clips could not be decoded" in store.card.notes[-1]


def test_too_many_missing_clips_are_an_error_before_anything_is_decoded(tmp_path, film):
    rows = [replace(row(f"c{n}", tmp_path / "x.mp4"), missing=("AVE/<clip>.mp4",)) for n in range(3)]
    rows += [row(f"d{n}", tmp_path / "x.mp4") for n in range(2)]
    with pytest.raises(
        DataError, match=r"3 of 5 clips are not there, and 50.0% may fail: AVE/<clip>.mp4 of 3 clips, such as c0;"
    ):
        reading(
            Card(name="x", modalities={"visual": film_card(OPTIONS, [])}, label=LabelCard(classes=("a", "b"))),
            rows,
            audio_and_frames,
            OPTIONS,
            tmp_path,
        )


def test_too_many_broken_clips_are_an_error_and_nothing_is_written(tmp_path, film):
    broken = tmp_path / "b.mp4"
    broken.write_bytes(b"no film")
    rows = [row("a", film(tmp_path / "a.mp4")), row("b", broken)]
    found = dataset(rows, replace(OPTIONS, may_fail=0.4), tmp_path)
    with pytest.raises(DataError, match="1 of 2 clips could not be decoded, more than the 40 % that may fail"):
        write(found, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_cache_goes_on_where_it_stopped_and_processes_change_nothing(tmp_path, film):
    rows = [row(name, film(tmp_path / f"{name}.mp4", seconds=1)) for name in "abc"]
    calls = []
    options = replace(OPTIONS, cache=tmp_path / "cache", progress=lambda *call: calls.append(call))
    one = write(dataset(rows, options, tmp_path), tmp_path / "one")
    assert calls == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 3

    again = write(dataset(rows[:2], options, tmp_path), tmp_path / "again")  # fewer media: still the same clips
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == kept
    two = write(dataset(rows, replace(options, cache=None, processes=2), tmp_path), tmp_path / "two")
    for other in (again, two):
        for mine, theirs in zip(one, other, strict=False):
            for name in ("audio", "visual"):
                np.testing.assert_array_equal(mine.features[name], theirs.features[name])


def test_other_options_do_not_read_the_cache_of_these(tmp_path, film):
    rows = [row("a", film(tmp_path / "a.mp4", seconds=1))]
    options = replace(OPTIONS, cache=tmp_path / "cache")
    write(dataset(rows, options, tmp_path), tmp_path / "one")
    for number, other in enumerate(({"frames": 1}, {"spectrogram": "pmr"}, {"size": (16, 16)}, {"fps": 2})):
        write(dataset(rows, replace(options, **other), tmp_path), tmp_path / f"other{number}")
        assert len(list((tmp_path / "cache").iterdir())) == number + 2


def test_the_card_says_how_values_were_made(tmp_path, film):
    path = film(tmp_path / "a.mp4", seconds=1)
    found = dataset([row("a", path)], OPTIONS, tmp_path)
    media = {"files": 1, "bytes": path.stat().st_size, "kinds": {".mp4": 1}}
    audio, visual = (found.card.modalities[name].preprocessing for name in ("audio", "visual"))
    assert audio == {**SPECTROGRAMS["ogm-ge"].parameters(), "media": media}
    assert visual["frames a second, of films"] == 5
    assert visual["size"] == [32, 32]
    assert visual["media"] == media
    json.dumps(found.card.model_dump(mode="json"))


def test_a_clip_travels_and_comes_back(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    clip = packed(Row("a", "train", 0, {"audio": path, "picture": tmp_path}, span=(1.0, 2.5)))
    assert unpacked(clip) == ({"audio": path, "picture": tmp_path}, (1.0, 2.5))


def test_a_spectrogram_of_another_shape_is_refused(tmp_path):
    assert fitting(np.zeros((1, 4, 9)), (1, 4, 9), tmp_path).shape == (1, 4, 9)
    assert fitting(np.arange(6).reshape(1, 2, 3), (None, 2), tmp_path).tolist() == [[0, 3], [1, 4], [2, 5]]
    with pytest.raises(DataError, match=r"must give a spectrogram of shape \(1, 4, 9\); found \(1, 4, 8\)"):
        fitting(np.zeros((1, 4, 8)), (1, 4, 9), tmp_path)


def test_extracted_frames_are_picked_evenly(tmp_path):
    cv2 = pytest.importorskip("cv2")
    for number in range(1, 10):
        cv2.imwrite(str(tmp_path / f"frame_{number:05d}.png"), np.full((8, 8, 3), 10 * number, np.uint8))
    found = pictures(tmp_path, fps=1, frames=3, size=(4, 4))
    assert found.shape == (3, 4, 4, 3)
    assert found[:, 0, 0, 0].tolist() == [20, 50, 80]


pytest.importorskip("av")
pytest.importorskip("soundfile")


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
