import re
import shutil

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("datasets")

import h5py

from concordant.data.formats.ave import PUBLISHED, read_ave
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError, UsageError

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
    assert {split: int((store.splits == split).sum()) for split in PUBLISHED} == PUBLISHED
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
