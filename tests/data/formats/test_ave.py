import re
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from concordant.benchmarks.catalogue import DATASETS
from concordant.data.formats.ave import (
    DEFAULT,
    Annotation,
    class_names,
    read_annotations,
    read_ave,
    read_ave_media,
    read_media_lists,
)
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

pytest.importorskip("h5py")
pytest.importorskip("datasets")


ROWS = 40


def put(path, **arrays):
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values


@pytest.fixture
def folder(tmp_path):
    """A small feature set with the published keys and types."""
    draws = np.random.default_rng(0)
    spans = [(k % 4, 5 + k % 6) for k in range(ROWS)]
    lines = [f"class {k % 3}&video{k if k else 39}&good&{a}&{b}" for k, (a, b) in enumerate(spans)]
    (tmp_path / "Annotations.txt").write_text("\n".join(lines) + "\n")
    put(tmp_path / "audio_feature.h5", avadataset=draws.standard_normal((ROWS, 10, 128)))
    put(tmp_path / "visual_feature.h5", avadataset=draws.standard_normal((ROWS, 10, 2, 3, 8)))
    hot = np.zeros((ROWS, 10, 4))
    for k, (a, b) in enumerate(spans):
        hot[k, :, 3] = 1
        hot[k, a:b] = np.eye(4)[k % 3]
    put(tmp_path / "labels.h5", avadataset=hot)
    order = draws.permutation(ROWS - 1)  # row 39 is in no split
    for name, part in zip(("train", "val", "test"), np.split(order, [25, 30]), strict=True):
        put(tmp_path / f"{name}_order.h5", order=part)
    return tmp_path


def stored(reading, to):
    write_store(to, reading.card, reading.instances, findings=reading.findings)
    return Store(to)


def content(path, key="avadataset"):
    with h5py.File(path) as file:
        return file[key][:]


def test_every_second_has_a_class_and_its_features(folder):
    store = stored(read_ave(folder), folder / "store")
    assert store.card.label.classes == ("class 0", "class 1", "class 2", "Background")
    assert len(store) == ROWS - 1
    audio, visual, hot = (content(folder / f"{name}.h5") for name in ("audio_feature", "visual_feature", "labels"))
    for one in store:
        row = int(one.id.partition("#")[2])
        np.testing.assert_array_equal(one.label, hot[row].argmax(1))
        np.testing.assert_array_equal(one.features["audio"], audio[row].astype(np.float32))
        for second in (0, 9):
            for place in (0, 1):
                np.testing.assert_array_equal(
                    one.features["visual"][:, second, place, 2], visual[row, second, place, 2].astype(np.float32)
                )
    for split, file in (("train", "train"), ("valid", "val"), ("test", "test")):
        wanted = set(content(folder / f"{file}_order.h5", "order").tolist())
        assert {int(name.partition("#")[2]) for name in store.ids[store.splits == split]} == wanted
    assert "1 clips are in no split and were left out" in store.card.notes


def test_clips_are_cut_to_their_event(folder):
    store = stored(read_ave(folder, task="clips"), folder / "store")
    assert store.card.name == "ave-clips"
    for one in store:
        row = int(one.id.partition("#")[2])
        assert one.label == row % 3
        assert one.features["audio"].shape == (5 + row % 6 - row % 4, 128)
        assert one.features["visual"].shape[1] == one.features["audio"].shape[0]


def test_without_labels_the_annotations_say_what_a_second_is(folder):
    with_labels = {one.id: one.label for one in read_ave(folder).instances}
    (folder / "labels.h5").unlink()
    reading = read_ave(folder)
    assert (
        "neither right_labels.h5 nor labels.h5 is there: what a second is comes from Annotations.txt"
        in reading.card.notes
    )
    for one in reading.instances:
        np.testing.assert_array_equal(one.label, with_labels[one.id])


def test_values_that_are_not_finite_are_counted(folder):
    audio = content(folder / "audio_feature.h5")
    audio[0, 0, 0], audio[1, 1, 1] = np.nan, 1e300
    put(folder / "audio_feature.h5", avadataset=audio)
    card = stored(read_ave(folder), folder / "store").card
    assert "2 of" in card.repairs["audio"]


def spoil_order(folder, values):
    put(folder / "test_order.h5", order=values)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda f: [(f / x).unlink() for x in ("val_order.h5", "audio_feature.h5")],
            "lacks audio_feature.h5, val_order.h5; AVE's feature set has",
        ),
        (
            lambda f: spoil_order(f, np.array([ROWS])),
            "rows must be 0 to 39, the lines of Annotations.txt; found 40 to 40",
        ),
        (
            lambda f: spoil_order(f, content(f / "train_order.h5", "order")[:1]),
            "is in train already; every clip may be",
        ),
        (lambda f: spoil_order(f, np.zeros((2, 2))), "order must be row numbers (n,); found float64 (2, 2)"),
        (lambda f: put(f / "test_order.h5", rows=[1]), "has no dataset 'order'; found rows"),
        (
            lambda f: put(f / "audio_feature.h5", avadataset=np.zeros((ROWS, 9, 128))),
            "must have 3 axes (clips, seconds, features), the first two 40 (lines of Annotations.txt) and 10; found",
        ),
        (lambda f: put(f / "labels.h5", avadataset=np.zeros((ROWS, 10, 5))), "labels must have shape (40, 10, 4)"),
        (
            lambda f: put(f / "labels.h5", avadataset=np.zeros((ROWS, 10, 4))),
            "labels must be one-hot, one class a second",
        ),
        (lambda f: (f / "visual_feature.h5").write_bytes(b"no"), "visual_feature.h5 cannot be read as HDF5"),
        (
            lambda f: (f / "visual_feature.h5").write_bytes((f / "visual_feature.h5").read_bytes()[:9000]),
            "visual_feature.h5 cannot be read as HDF5",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_with_a_sentence(folder, spoil, said):
    spoil(folder)
    with pytest.raises(DataError, match=re.escape(said)):
        list(read_ave(folder).instances)


def test_an_unknown_task_is_refused(folder):
    with pytest.raises(UsageError, match="task must be segments or clips; found 'words'"):
        read_ave(folder, task="words")


@pytest.mark.data
def test_the_published_lists_with_generated_features(data_folder, tmp_path):
    source = data_folder / "formats" / "ave"
    for file in ("Annotations.txt", "train_order.h5", "val_order.h5", "test_order.h5"):
        shutil.copy(source / file, tmp_path / file)
    with h5py.File(tmp_path / "audio_feature.h5", "w") as file:
        file.create_dataset("avadataset", (4143, 10, 128), "f8", fillvalue=0.5, chunks=(16, 10, 128))
    with h5py.File(tmp_path / "visual_feature.h5", "w") as file:
        file.create_dataset("avadataset", (4143, 10, 1, 1, 4), "f8", fillvalue=0.5, chunks=(16, 10, 1, 1, 4))
    reading = read_ave(tmp_path)
    assert any("8 videos of test are in train too" in note for note in reading.card.notes)
    assert any("10 videos of valid are in train too" in note for note in reading.card.notes)
    store = stored(reading, tmp_path / "store")
    published = DATASETS["ave"].published
    assert {split: int((store.splits == split).sum()) for split in published} == published
    # The project's own labels of when an event is seen and heard, and of what is in a clip.
    closs, mil = content(source / "labels_closs.h5"), content(source / "mil_labels.h5")
    for name, label in zip(store.ids.tolist(), store.labels, strict=True):
        row = int(name.rpartition("#")[2])
        np.testing.assert_array_equal(label != 28, closs[row] > 0)
        assert mil[row, label[label != 28]].all()


def test_an_event_without_a_length_keeps_its_clip_whole(folder):
    path = folder / "Annotations.txt"
    lines = path.read_text().splitlines()
    lines[0] = "class 0&video39&good&0&0"
    path.write_text("\n".join(lines))
    reading = read_ave(folder, task="clips")
    assert "1 events have no length by Annotations.txt; their clips are kept whole" in reading.card.notes
    found = {one.id: one for one in reading.instances}
    assert found["video39#0"].features["audio"].shape == (10, 128)


def test_a_header_is_passed_over_and_classes_count_by_first_appearance(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "Category&VideoID&Quality&StartTime&EndTime\nBark&x&good&0&10\nCat, meow&y&bad&2&5\r\nBark&z&good&1&2\n"
    )
    found = read_annotations(path)
    assert found[1] == Annotation("Cat, meow", "y", "bad", 2, 5)
    assert class_names(found) == ("Bark", "Cat, meow")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "Bark&x&good&0\n",
            "line 1 must be Category&VideoID&Quality&Start&End with whole seconds; found 'Bark&x&good&0'",
        ),
        ("Bark&x&good&0&10\nBark&x&good&a&10\n", "line 2 must be Category"),
        ("Bark&x&good&5&4\n", "line 1: the event must lie within 0 to 10; found 5 to 4"),
        ("Bark&x&good&5&11\n", "line 1: the event must lie within 0 to 10; found 5 to 11"),
        ("\n", "names no clip"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_is_named(tmp_path, text, said):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        read_annotations(tmp_path / "a.txt")


def test_a_file_that_is_absent_or_no_text_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone cannot be read as a list of clips"):
        read_annotations(tmp_path / "gone")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"b cannot be read as a list of clips"):
        read_annotations(tmp_path / "b")


@pytest.mark.data
def test_the_published_annotations(data_folder):
    found = read_annotations(data_folder / "formats" / "ave" / "Annotations.txt")
    assert len(found) == 4143
    assert len({one.video for one in found}) == 4097
    names = class_names(found)
    assert len(names) == 28
    assert names[0] == "Church bell"
    assert names[27].startswith("Mandolin")


pytest.importorskip("av")
pytest.importorskip("datasets")


OPTIONS = replace(DEFAULT, size=(32, 32), may_fail=0.5)
ANNOTATIONS = """Category&VideoID&Quality&Start&End
Church bell&RUhOCu3LNXM&good&0&4
Church bell&VWi2ENBuTbw&good&0&0
Bark&ruhOCu3LNXM&good&1&3
Bark&RUhOCu3LNXM&good&0&4
Mandolin&0IklLP7_kBw&good&2&4
Mandolin&gone_film_1&good&4&10
"""
TRAIN = ("Church bell&RUhOCu3LNXM&good&0&4", "Bark&ruhOCu3LNXM&good&1&3")
VALID = ("Church bell&VWi2ENBuTbw&good&0&0", "Bark&RUhOCu3LNXM&good&0&4")
TEST = ("Mandolin&0IklLP7_kBw&good&2&4", "Mandolin&gone_film_1&good&4&10")


def write_lists(folder, header="Category&VideoID&Quality&Start&End\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Annotations.txt").write_text(ANNOTATIONS)
    for name, rows in (("trainSet.txt", TRAIN), ("valSet.txt", VALID), ("testSet.txt", TEST)):
        (folder / name).write_text(header + "\n".join(rows) + "\n")


@pytest.fixture
def raw(tmp_path, film):
    folder = tmp_path / "AVE_Dataset"
    write_lists(folder, header="")
    (folder / "AVE").mkdir()
    for video in ("RUhOCu3LNXM", "ruhOCu3LNXM", "VWi2ENBuTbw", "0IklLP7_kBw"):
        film(folder / f"AVE/{video}.mp4", seconds=4.2)
    return folder


def write(found, folder):
    write_store(folder, found.card, found.instances, findings=found.findings)
    return Store(folder)


def grey(store, row, time):
    return (store[row].features["visual"][0, time].mean() * 0.229 + 0.485) * 255


def test_the_films_are_read_from_end_to_end(raw, tmp_path):
    found = read_ave_media(raw.parent, options=OPTIONS)
    store = write(found, tmp_path / "out")
    assert store.ids.tolist() == ["RUhOCu3LNXM", "ruhOCu3LNXM", "VWi2ENBuTbw", "0IklLP7_kBw"]
    assert store.splits.tolist() == ["train", "train", "valid", "test"]
    assert store.labels.tolist() == [0, 1, 0, 2]
    assert store.groups.tolist() == store.ids.tolist()
    assert store.card.label.classes == ("Church bell", "Bark", "Mandolin")
    assert (store.card.name, store.card.groups) == ("ave-clips", "video")
    assert store[0].features["audio"].shape == (1, 257, 1004)
    assert store[0].features["visual"].shape == (3, 4, 32, 32)
    assert found.findings.failures == {"gone_film_1": "not there: AVE/gone_film_1.mp4"}
    notes = " ".join(store.card.notes)
    assert "1 lines name a video again" in notes
    assert "1 events have no length; their clips are kept whole" in notes
    assert [source.file for source in store.card.sources] == [
        "Annotations.txt",
        "trainSet.txt",
        "valSet.txt",
        "testSet.txt",
    ]


def test_frames_are_those_of_the_event(raw, tmp_path):
    store = write(read_ave_media(raw, options=OPTIONS), tmp_path / "out")
    # At one frame a second of 25: frames 0, 25, 50 and 75 of the event from 0 to 4 s; brightness starts anew at 55.
    for time, number in enumerate((0, 25, 50, 75 - 55)):
        assert grey(store, 0, time) == pytest.approx(16 + 4 * number, abs=5)
    # From 1 to 3 s there are two, each taken twice.
    for time, number in enumerate((25, 25, 50, 50)):
        assert grey(store, 1, time) == pytest.approx(16 + 4 * number, abs=5)


def test_sound_is_that_of_the_event(raw, tmp_path):
    store = write(read_ave_media(raw, options=replace(OPTIONS, spectrogram="logmel")), tmp_path / "out")
    assert store.lengths("audio").tolist()[:2] == [401, 201]
    assert store.lengths("audio")[2] > 401  # no length by the list: the whole film
    assert store.lengths("audio")[3] == 201


def test_events_beyond_the_end_of_a_film_fail_their_clip(raw, tmp_path, film):
    film(raw / "AVE/gone_film_1.mp4", seconds=2)
    found = read_ave_media(raw, options=OPTIONS)
    write(found, tmp_path / "out")
    assert "no frame could be decoded from 4 to 10 seconds" in found.findings.failures["gone_film_1"]


def test_a_film_cut_off_is_said(raw, tmp_path):
    path = raw / "AVE/RUhOCu3LNXM.mp4"
    path.write_bytes(path.read_bytes()[:500])
    found = read_ave_media(raw, options=OPTIONS)
    write(found, tmp_path / "out")
    assert "RUhOCu3LNXM.mp4" in found.findings.failures["RUhOCu3LNXM"]


def test_all_that_is_missing_is_said_at_once(tmp_path):
    (tmp_path / "Annotations.txt").write_text(ANNOTATIONS)
    with pytest.raises(
        DataError, match=r"trainSet\.txt, valSet\.txt, testSet\.txt; expected Annotations\.txt, trainSet"
    ):
        read_ave_media(tmp_path, options=OPTIONS)
    write_lists(tmp_path)
    with pytest.raises(
        DataError, match=r"5 of 5 clips are not there.* AVE/<clip>\.mp4 of 5 clips, such as RUhOCu3LNXM"
    ):
        read_ave_media(tmp_path, options=OPTIONS)


def test_a_malformed_line_and_an_unknown_event_are_named(tmp_path):
    write_lists(tmp_path)
    (tmp_path / "valSet.txt").write_text("Bark&abc&good&0\n")
    with pytest.raises(DataError, match=r"valSet\.txt, line 1 must be Category&VideoID&Quality&Start&End"):
        read_ave_media(tmp_path, options=OPTIONS)
    (tmp_path / "valSet.txt").write_text("Meow&abc&good&0&3\n")
    with pytest.raises(DataError, match=r"valSet\.txt: abc is 'Meow', which Annotations\.txt never names"):
        read_ave_media(tmp_path, options=OPTIONS)


@pytest.mark.data
def test_the_real_annotations_by_the_real_order_keep_every_video_once(data_folder, tmp_path):
    h5py = pytest.importorskip("h5py")
    place = data_folder / "formats/ave"
    lines = (place / "Annotations.txt").read_text(encoding="utf-8").splitlines()
    for file, order in (("trainSet.txt", "train"), ("valSet.txt", "val"), ("testSet.txt", "test")):
        with h5py.File(place / f"{order}_order.h5") as opened:
            rows = np.asarray(opened["order"])
        (tmp_path / file).write_text("\n".join(lines[row] for row in rows))
    classes = class_names(read_annotations(place / "Annotations.txt"))
    assert len(classes) == 28
    rows, notes = read_media_lists(tmp_path, classes)
    assert len(rows) == len({row.id for row in rows}) == 4097
    assert notes[0].startswith(f"{sum(DATASETS['ave-clips'].published.values()) - 4097} lines name a video again")
    assert notes[1].startswith("1 events have no length")
    assert all(row.span is None or 0 <= row.span[0] < row.span[1] <= 10 for row in rows)
