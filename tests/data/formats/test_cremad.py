import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from concordant.benchmarks.catalogue import DATASETS
from concordant.data.formats.cremad import DEFAULT, EMOTIONS, LISTS, parse_row, read_cremad
from concordant.data.formats.listing import read_rows
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

pytest.importorskip("av")
pytest.importorskip("datasets")
soundfile = pytest.importorskip("soundfile")

OPTIONS = replace(DEFAULT, size=(32, 32), may_fail=0.5)
TRAIN = ("1001_IEO_NEU_XX", "1001_IEO_ANG_HI", "1002_TIE_SAD_XX", "1003_ITS_FEA_XX")
TEST = ("1002_DFA_DIS_XX", "1003_IOM_HAP_XX")


def write_lists(folder, train=TRAIN, test=TEST):
    folder.mkdir(parents=True, exist_ok=True)
    for name, clips, mark in (("train.csv", train, b""), ("test.csv", test, b"\xef\xbb\xbf")):
        rows = "".join(f"{clip},{clip.split('_')[2]}\r\n" for clip in clips)
        (folder / name).write_bytes(mark + rows.encode())


def write_sound(folder, clip, seconds=1.5):
    (folder / "AudioWAV").mkdir(exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(16_000 * seconds)) / 16_000)
    soundfile.write(folder / f"AudioWAV/{clip}.wav", wave, 16_000)


@pytest.fixture
def raw(tmp_path, film):
    """CREMA-D as its repository has it, with the lists where OGM-GE has them."""
    folder = tmp_path / "CREMA-D"
    write_lists(folder / "data/CREMAD")
    (folder / "VideoFlash").mkdir()
    for clip in (*TRAIN, *TEST):
        write_sound(folder, clip)
        film(folder / f"VideoFlash/{clip}.flv", seconds=2)
    return folder


def write(found, folder):
    write_store(folder, found.card, found.instances, findings=found.findings)
    return Store(folder)


@pytest.mark.data
def test_the_real_lists_have_the_published_counts(data_folder):
    rows = read_rows(data_folder / "formats/cremad", LISTS, parse_row)
    assert Counter(row.split for row in rows) == DATASETS["crema-d"].published
    for split, counts in DATASETS["crema-d"].classes.items():
        found = Counter(row.label for row in rows if row.split == split)
        assert tuple(found[label] for label in range(6)) == counts
    assert len({row.group for row in rows}) == 91
    assert {row.group for row in rows if row.split == "test"} == {row.group for row in rows if row.split == "train"}
    assert all(EMOTIONS[row.label] in row.id for row in rows)


@pytest.mark.data
def test_clips_of_the_real_lists_are_read_with_media_for_some_of_them(data_folder, tmp_path, film):
    lists = data_folder / "formats/cremad"
    rows = read_rows(lists, LISTS, parse_row)
    there = [row.id for row in rows[:2] + rows[-1:]]
    (tmp_path / "VideoFlash").mkdir()
    for clip in there:
        write_sound(tmp_path, clip, 0.5)
        film(tmp_path / f"VideoFlash/{clip}.flv", seconds=1)
    with pytest.raises(DataError, match=r"7439 of 7442 clips are not there, and 2\.0% may fail"):
        read_cremad(tmp_path, options=replace(OPTIONS, may_fail=0.02), lists=lists)
    found = read_cremad(tmp_path, options=replace(OPTIONS, may_fail=1), lists=lists)
    assert "all 91 actors are both in train and in test" in found.card.notes[0]
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == there
    assert len(found.findings.failures) == 7439


def test_the_raw_corpus_is_read_from_end_to_end(raw, tmp_path):
    (raw / f"VideoFlash/{TRAIN[3]}.flv").write_bytes((raw / f"VideoFlash/{TRAIN[0]}.flv").read_bytes()[:60])
    soundfile.write(raw / f"AudioWAV/{TEST[1]}.wav", np.zeros(0), 16_000)
    (raw / f"AudioWAV/{TRAIN[2]}.wav").unlink()
    found = read_cremad(raw, options=OPTIONS)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == [TRAIN[0], TRAIN[1], TEST[0]]
    assert store.splits.tolist() == ["train", "train", "test"]
    assert store.labels.tolist() == [0, 5, 4]
    assert store.groups.tolist() == ["1001", "1001", "1002"]
    assert store.card.label.classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    assert (store.card.name, store.card.groups, store.card.splits) == ("crema-d", "actor", ("train", "test"))
    assert store[0].features["audio"].shape == (1, 257, 188)
    assert store[0].features["visual"].shape == (3, 1, 32, 32)
    # Two seconds at one frame a second are frames 0 and 25; the middle of two is the second.
    pixels = (store[0].features["visual"].mean((1, 2, 3)) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]) * 255
    np.testing.assert_allclose(pixels, 16 + 4 * 25, atol=4)
    reasons = found.findings.failures
    assert list(reasons) == [TRAIN[2], TRAIN[3], TEST[1]]
    assert reasons[TRAIN[2]] == f"not there: AudioWAV/{TRAIN[2]}.wav"
    assert f"{TRAIN[3]}.flv" in reasons[TRAIN[3]]
    assert f"{TEST[1]}.wav holds no sound" in reasons[TEST[1]]
    assert store.card.notes[-1].startswith("3 clips could not be decoded")


def test_the_card_names_the_lists_and_counts_the_media(raw):
    card = read_cremad(raw, options=OPTIONS).card
    place = raw / "data/CREMAD"
    assert {source.file: source.sha256 for source in card.sources} == {
        name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in ("train.csv", "test.csv")
    }
    audio, visual = (card.modalities[name].preprocessing for name in ("audio", "visual"))
    assert (audio["recipe"], audio["media"]["kinds"]) == ("ogm-ge", {".wav": 6})
    assert visual["media"]["kinds"] == {".flv": 6}
    assert visual["media"]["bytes"] == sum(path.stat().st_size for path in (raw / "VideoFlash").iterdir())
    assert card.notes[0].startswith("2 actors are both in train and in test")  # 1001 is in train only


def test_extracted_frames_come_before_films(raw, tmp_path):
    cv2 = pytest.importorskip("cv2")
    for fps, value in ((1, 200), (3, 90)):
        for clip in TRAIN:
            frames = raw / f"Image-{fps:02d}-FPS" / clip
            frames.mkdir(parents=True)
            for number in range(2):
                cv2.imwrite(str(frames / f"{number:05d}.jpg"), np.full((40, 50, 3), value, np.uint8))
    for fps, value in ((1, 200), (3, 90)):
        found = read_cremad(raw, options=replace(OPTIONS, fps=fps, frames=2))
        assert found.card.modalities["visual"].preprocessing["media"]["kinds"] == {".flv": 2, ".jpg": 8}
        store = write(found, tmp_path / f"out{fps}")
        pixels = store[0].features["visual"].mean((1, 2, 3)) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
        np.testing.assert_allclose(pixels * 255, value, atol=2)
    found = read_cremad(raw, options=replace(OPTIONS, fps=2.5))
    assert found.card.modalities["visual"].preprocessing["media"]["kinds"] == {".flv": 6}


def test_only_the_sounds_of_the_corpus_count(raw):
    (raw / "A8kHz").mkdir()
    for clip in (*TRAIN, *TEST):
        soundfile.write(raw / f"A8kHz/{clip}.wav", np.zeros(10), 8_000)
    media = read_cremad(raw, options=OPTIONS).card.modalities["audio"].preprocessing["media"]
    assert media["bytes"] == sum(path.stat().st_size for path in (raw / "AudioWAV").iterdir())


def test_all_that_is_missing_is_said_at_once(tmp_path):
    write_lists(tmp_path)
    with pytest.raises(DataError) as caught:
        read_cremad(tmp_path, options=OPTIONS)
    assert "6 of 6 clips are not there" in str(caught.value)
    assert f"AudioWAV/<clip>.wav of 6 clips, such as {TRAIN[0]}" in str(caught.value)
    assert "VideoFlash/<clip>.flv or Image-01-FPS/<clip> of 6 clips" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("clip,emotion", r"line 2 must be clip,EMOTION with a clip such as .*; found 'clip,emotion'"),
        ("1001_IEO_NEU_XX", "line 2 must be clip,EMOTION"),
        ("1001_IEO_NEU,NEU", "line 2 must be clip,EMOTION"),
        ("1001_IEO_NEU_XX,JOY", r"one of NEU, HAP, SAD, FEA, DIS, ANG; found '1001_IEO_NEU_XX,JOY'"),
        ("1001_IEO_NEU_XX,SAD", "line 2: 1001_IEO_NEU_XX is NEU by its name; found SAD"),
        ("1002_TIE_SAD_XX,SAD", r"line 2: 1002_TIE_SAD_XX is listed already, in train\.csv, line 1; every clip"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, expected):
    (tmp_path / "train.csv").write_text(f"1002_TIE_SAD_XX,SAD\n{line}\n")
    (tmp_path / "test.csv").write_text("1003_TIE_SAD_XX,SAD\n")
    with pytest.raises(DataError, match=expected):
        read_rows(tmp_path, LISTS, parse_row)


def test_a_clip_in_both_lists_is_refused(tmp_path):
    write_lists(tmp_path, TRAIN, TRAIN[:1])
    with pytest.raises(DataError, match=r"test\.csv, line 1: 1001_IEO_NEU_XX is listed already, in train\.csv, line 1"):
        read_rows(tmp_path, LISTS, parse_row)


def test_absent_lists_and_an_absent_recipe_are_said(tmp_path, raw):
    with pytest.raises(DataError, match=r"train\.csv, test\.csv; expected train\.csv, test\.csv side by side"):
        read_cremad(raw / "AudioWAV", options=OPTIONS)
    with pytest.raises(DataError, match="nowhere is not there; expected one with the media"):
        read_cremad(tmp_path / "nowhere", options=OPTIONS, lists=raw / "data/CREMAD")
    with pytest.raises(UsageError, match="the audio needs a spectrogram"):
        read_cremad(raw, options=replace(OPTIONS, spectrogram=None))
