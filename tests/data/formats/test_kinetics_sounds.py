from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import DATASETS
from concordant.data.formats.kinetics_sounds import DEFAULT, LISTS, parse_row, read_kinetics_sounds
from concordant.data.formats.listing import read_rows
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError

KNOWN = DATASETS["kinetics-sounds"]

pytest.importorskip("av")
pytest.importorskip("datasets")
cv2 = pytest.importorskip("cv2")
soundfile = pytest.importorskip("soundfile")

OPTIONS = replace(DEFAULT, size=(32, 32), may_fail=0.5)
TRAIN = (("--4-0ihtnBU_000058_000068", 4), ("-00nar1nEPc_000033_000043", 13), ("aBc_000000_000010", 30))
TEST = (("-3Mwkq-7TV4_2", 23), ("abC_7", 0))


def write_lists(folder, form="{clip},10,{label}\r\n"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, clips in (("my_train.txt", TRAIN), ("my_test.txt", TEST)):
        rows = "".join(form.format(clip=clip, label=label) for clip, label in clips)
        (folder / name).write_text(rows, encoding="utf-8", newline="")


def write(found, folder):
    write_store(folder, found.card, found.instances, findings=found.findings)
    return Store(folder)


def write_frames(folder, value, count=4):
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        cv2.imwrite(str(folder / f"frame_{number:05d}.jpg"), np.full((40, 50, 3), value, np.uint8))


@pytest.mark.data
def test_the_real_lists_have_the_published_counts(data_folder):
    rows = read_rows(data_folder / "formats/kinetics_sounds", LISTS, parse_row)
    assert Counter(row.split for row in rows) == KNOWN.published
    for split, counts in KNOWN.classes.items():
        found = Counter(row.label for row in rows if row.split == split)
        assert tuple(found[label] for label in range(31)) == counts
        assert sum(counts) == KNOWN.published[split]
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.data
def test_clips_of_the_real_lists_are_read_with_media_for_some_of_them(data_folder, tmp_path, film):
    lists = data_folder / "formats/kinetics_sounds"
    rows = read_rows(lists, LISTS, parse_row)
    there = [rows[0], rows[-1]]
    for row in there:
        (tmp_path / row.split).mkdir()
        film(tmp_path / f"{row.split}/{row.id}.mp4", seconds=1)
    found = read_kinetics_sounds(tmp_path, options=replace(OPTIONS, may_fail=1), lists=lists)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == [row.id for row in there]
    assert store.labels.tolist() == [row.label for row in there]
    assert len(found.findings.failures) == sum(KNOWN.published.values()) - 2


@pytest.mark.parametrize("form", ["{clip},10,{label}\r\n", "{clip} {label}\n", "{clip} 10 {label}\n"])
def test_lists_with_commas_and_with_spaces_say_the_same(tmp_path, form):
    write_lists(tmp_path, form)
    rows = read_rows(tmp_path, LISTS, parse_row)
    assert [(row.id, row.label) for row in rows] == [*TRAIN, *TEST]
    assert [row.split for row in rows] == ["train"] * 3 + ["test"] * 2


def test_films_anywhere_below_are_read_from_end_to_end(tmp_path, film):
    write_lists(tmp_path / "lists")
    places = {name: tmp_path / f"videos/{name}" for name in ("train", "test")}
    for place in places.values():
        place.mkdir(parents=True)
    film(places["train"] / f"{TRAIN[0][0]}.mp4", seconds=4)
    film(places["train"] / f"{TRAIN[1][0]}.mp4", seconds=1, picture=False)  # sound alone is broken
    film(places["test"] / f"{TEST[0][0]}.avi", seconds=4, sound=False)
    film(places["test"] / f"{TEST[1][0]}.mp4", seconds=4)  # abC_7; no clip is called abc_7
    found = read_kinetics_sounds(tmp_path, options=OPTIONS)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == [TRAIN[0][0], TEST[0][0], TEST[1][0]]
    assert store.labels.tolist() == [4, 23, 0]
    assert (store.card.name, store.card.groups) == ("kinetics-sounds", None)
    assert store.card.label.classes == tuple(f"class {index}" for index in range(31))
    assert store[0].features["audio"].shape == (1, 1024, 128)
    assert store[0].features["visual"].shape == (3, 3, 32, 32)
    assert store[1].features["audio"] is None
    reasons = found.findings.failures
    assert "has no video stream" in reasons[TRAIN[1][0]]
    expected = "<clip>.npy or <clip>.wav or <clip>.mp4 and <clip>/frame_00001.jpg or <clip>.mp4"
    assert reasons[TRAIN[2][0]] == "not there: " + expected.replace("<clip>", TRAIN[2][0])
    notes = " ".join(store.card.notes)
    assert "the lists number the classes" in notes
    assert "1 clips have no audio" in notes
    assert "2 clips could not be decoded" in notes


def test_filter_banks_sounds_and_frames_come_before_films(tmp_path, film):
    write_lists(tmp_path)
    banks = np.random.default_rng(0).normal(size=(1024, 128))
    for folder in ("audio", "videos"):
        (tmp_path / folder).mkdir()
    for clip, _ in TRAIN[:2]:
        np.save(tmp_path / f"audio/{clip}.npy", banks)
    np.save(tmp_path / f"audio/{TRAIN[2][0]}.npy", banks[:1000])
    banks[0, 0] = np.nan
    np.save(tmp_path / f"audio/{TRAIN[1][0]}.npy", banks)
    wave = 0.3 * np.sin(np.arange(16_000) / 3)
    soundfile.write(tmp_path / f"audio/{TEST[0][0]}.wav", wave, 16_000)
    (tmp_path / f"audio/{TEST[1][0]}.npy").write_bytes(b"no array")
    for clip, _ in (*TRAIN, *TEST):
        film(tmp_path / f"videos/{clip}.mp4", seconds=1)
    write_frames(tmp_path / "frames" / TRAIN[0][0], 200)

    found = read_kinetics_sounds(tmp_path, options=OPTIONS)
    audio, visual = (found.card.modalities[name].preprocessing["media"] for name in ("audio", "visual"))
    assert audio["kinds"] == {".npy": 4, ".wav": 1}
    assert visual["kinds"] == {".jpg": 4, ".mp4": 4}
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == [TRAIN[0][0], TRAIN[1][0], TEST[0][0]]
    np.testing.assert_array_equal(store[0].features["audio"][0, 0, 1:], banks[0, 1:].astype(np.float32))
    assert store[1].features["audio"][0, 0, 0] == 0
    assert store.card.repairs == {"audio": "1 of 393,216 values replaced by 0 (1 NaN)"}
    pixels = store[0].features["visual"].mean((1, 2, 3)) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
    np.testing.assert_allclose(pixels * 255, 200, atol=2)
    reasons = found.findings.failures
    assert "must give a spectrogram of shape (1, 1024, 128); found (1, 1000, 128)" in reasons[TRAIN[2][0]]
    assert "cannot be read as a NumPy array" in reasons[TEST[1][0]]

    other = read_kinetics_sounds(tmp_path, options=replace(OPTIONS, spectrogram="pmr-10s"))
    assert other.card.modalities["audio"].preprocessing["media"]["kinds"] == {".mp4": 4, ".wav": 1}


def test_of_a_film_in_two_places_the_first_by_path_is_taken(tmp_path, film):
    write_lists(tmp_path)
    for place, seconds in (("b", 0.4), ("a", 0.2)):
        (tmp_path / place).mkdir()
        for clip, _ in (*TRAIN, *TEST):
            film(tmp_path / f"{place}/{clip}.mp4", seconds=seconds)
    found = read_kinetics_sounds(tmp_path, options=OPTIONS)
    for known in found.card.modalities.values():
        assert known.preprocessing["media"]["files"] == 5
        assert known.preprocessing["media"]["bytes"] == sum(path.stat().st_size for path in (tmp_path / "a").iterdir())


def test_names_of_the_classes_may_lie_beside_the_lists(tmp_path, film):
    write_lists(tmp_path)
    names = [f"name {index}" for index in range(31)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    for clip, _ in (*TRAIN, *TEST):
        film(tmp_path / f"{clip}.mp4", seconds=0.2)
    card = read_kinetics_sounds(tmp_path, options=OPTIONS).card
    assert card.label.classes == tuple(names)
    assert [source.file for source in card.sources] == ["my_train.txt", "my_test.txt", "labels.txt"]
    assert card.notes == ()
    (tmp_path / "labels.txt").write_text("\n".join(names[:30]))
    with pytest.raises(DataError, match=r"labels\.txt must name 31 classes, one a line, in order; found 30"):
        read_kinetics_sounds(tmp_path, options=OPTIONS)


@pytest.mark.parametrize("line", ["x", "x,10", "x,10,31", "x,10,-1", "x,10,1,2", "x ten", ",10,1", "x,10,1.0"])
def test_a_malformed_line_is_named(tmp_path, line):
    (tmp_path / "my_train.txt").write_text(f"y,10,1\n\n{line}\n")
    (tmp_path / "my_test.txt").write_text("z,10,1\n")
    with pytest.raises(
        DataError, match=r"my_train\.txt, line 3 must be id,10,label, .* the label 0 to 30; found"
    ) as caught:
        read_rows(tmp_path, LISTS, parse_row)
    assert repr(line) in str(caught.value)


def test_a_clip_that_is_listed_again_is_refused(tmp_path):
    write_lists(tmp_path)
    (tmp_path / "my_test.txt").write_text(f"{TRAIN[1][0]},10,1\n")
    with pytest.raises(DataError, match=r"my_test\.txt, line 1: .* is listed already, in my_train\.txt, line 2"):
        read_rows(tmp_path, LISTS, parse_row)


def test_all_that_is_missing_is_said_at_once(tmp_path):
    with pytest.raises(DataError, match=r"my_train\.txt, my_test\.txt; expected"):
        read_kinetics_sounds(tmp_path, options=OPTIONS)
    write_lists(tmp_path)
    with pytest.raises(DataError, match=r"5 of 5 clips are not there.*<clip>\.mp4 of 5 clips, such as --4-0ihtnBU"):
        read_kinetics_sounds(tmp_path, options=OPTIONS)
