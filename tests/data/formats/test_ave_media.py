from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("datasets")

from concordant.data.formats.ave_annotations import class_names, read_annotations
from concordant.data.formats.ave_media import DEFAULT, SPLITS, read_ave_media, read_lists
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError

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
    rows, notes = read_lists(tmp_path, classes)
    assert len(rows) == len({row.id for row in rows}) == 4097
    assert notes[0].startswith(f"{sum(SPLITS.values()) - 4097} lines name a video again")
    assert notes[1].startswith("1 events have no length")
    assert all(row.span is None or 0 <= row.span[0] < row.span[1] <= 10 for row in rows)
