import re

import numpy as np
import pytest

pytest.importorskip("datasets")

from hypothesis import given, settings
from hypothesis import strategies as st

from concordant.data.formats.own_csv import read_csv
from concordant.data.store import Store
from concordant.data.writing import write_store
from concordant.errors import DataError

FLOATS = st.floats(-1e6, 1e6, width=32)


def stored(path, folder):
    reading = read_csv(path)
    write_store(folder, reading.card, reading.instances, findings=reading.findings)
    return Store(folder)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.lists(FLOATS, min_size=3, max_size=3), st.booleans()), min_size=2, max_size=8))
def test_a_row_an_instance_gives_vectors(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("csv")
    lines = ["audio.0,label,video.left,audio.pitch,id"]
    for k, ((a, b, c), there) in enumerate(rows):
        lines.append(f"{a!r},{'no' if k % 2 else 'yes'},{repr(b) if there else ''},{c!r},i{k}")
    (folder / "mine.csv").write_text("\n".join(lines) + "\n")
    store = stored(folder / "mine.csv", folder / "store")
    assert store.card.label.classes == ("no", "yes")
    assert store.card.splits == ("all",)
    for k, (one, ((a, b, c), there)) in enumerate(zip(store, rows, strict=True)):
        assert (one.id, one.label) == (f"i{k}", 0 if k % 2 else 1)
        np.testing.assert_array_equal(one.features["audio"], np.array([a, c], np.float32))
        if there:
            np.testing.assert_array_equal(one.features["video"], np.array([b], np.float32))
        else:
            assert one.features["video"] is None


def test_a_row_a_step_gives_sequences_by_step(tmp_path):
    (tmp_path / "x.csv").write_text(
        "id,step,label,group,gyro.x,gyro.y,heart.rate\n"
        "a,2,0.5,p,3,4,\n"
        "b,0,-1,q,7,8,70\n"
        "a,1,0.5,p,1,2,60\n"
        "a,10,0.5,p,5,6,61\n"
    )
    store = stored(tmp_path / "x.csv", tmp_path / "store")
    assert store.card.label.kind == "real"
    first, second = store
    assert (first.id, first.group, first.label) == ("a", "p", 0.5)
    assert first.features["gyro"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert first.features["heart"].tolist() == [[60], [61]]
    assert second.features["gyro"].tolist() == [[7, 8]]


def test_an_empty_cell_among_numbers_is_counted(tmp_path):
    (tmp_path / "x.csv").write_text("label,a.0,a.1\n0,1,\n1,2,3\n")
    store = stored(tmp_path / "x.csv", tmp_path / "store")
    assert store[0].features["a"].tolist() == [1, 0]
    assert store.card.repairs == {"a": "1 of 4 values replaced by 0 (1 NaN)"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as CSV (Empty CSV file)"),
        ("audio.0,video.0\n1,2\n", "must have a column label, and rows; found audio.0, video.0 and 1 rows"),
        ("label,a.0\n", "must have a column label, and rows; found label, a.0 and 0 rows"),
        ("label,age,.x\n1,2,3\n", "age, .x is no column that is known: features are named <modality>.<feature>"),
        ("label,a.0,a.0\n1,2,3\n", "every column may occur once; found a.0 again"),
        ("label,a.0\n1,2\n,3\n", "line 3: label is empty, as in 1 lines; give it or drop them"),
        ("label,a.0\n1,2\n0,x\n", "line 3: a.0 must be a number; found 'x'"),
        ("label,a.0\n1,2,3\n", "cannot be read as CSV"),
        (
            "label,a.0,id\n1,2,i\n0,2,i\n",
            "every id may occur once, but 1 rows repeat one (i); a column step makes them",
        ),
        ("label,a.0,step\n1,2,0\n", "has a column step and needs id too"),
        ("label,a.0,step,id\n1,2,0,i\n0,2,1,i\n", "id 'i' must have one label on all its lines; found ['0', '1']"),
        ("label,a.0,step,id\n1,2,0,i\n1,2,0,i\n", "id 'i' has a step twice"),
        ("label,a.0,step,id\n1,2,,i\n", "line 2: step is empty"),
        ("label,a.0,split\n1,2,train\n0,2,dev\n", "split must be one of train, valid, test; found dev"),
        ("label\n1\n0\n", "has no modality"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        read_csv(tmp_path / "x.csv")


def test_a_file_that_is_absent_or_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv cannot be read as CSV"):
        read_csv(tmp_path / "gone.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01\n")
    with pytest.raises(DataError, match=r"b\.csv cannot be read as CSV"):
        read_csv(tmp_path / "b.csv")


@pytest.mark.data
def test_real_vectors_come_back_bit_for_bit(data_folder, tmp_path):
    with np.load(data_folder / "cmu_mosi_utterance.npz") as found:
        audio, labels, ids = (found[f"{name}_test"][::15] for name in ("audio", "y", "id"))
    lines = [",".join(["id", "label", *(f"audio.{k}" for k in range(audio.shape[1]))])]
    for row in range(len(labels)):
        lines.append(",".join([str(ids[row]), str(labels[row]), *(repr(float(x)) for x in audio[row])]))
    (tmp_path / "mosi.csv").write_text("\n".join(lines))
    store = stored(tmp_path / "mosi.csv", tmp_path / "store")
    np.testing.assert_array_equal(np.stack([one.features["audio"] for one in store]), audio)
