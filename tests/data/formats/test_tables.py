import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("datasets")

from concordant.data.formats.tables import read_csv
from concordant.data.scaling import apply, fit
from concordant.data.store import Store
from concordant.data.stored import everything
from concordant.data.writing import write_store
from concordant.errors import DataError

FLOATS = st.floats(-1e6, 1e6, width=32)


def stored(path, folder, **options):
    reading = read_csv(path, **options)
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
        ("label,a.0\n", "must have rows; found label, a.0 and 0 rows"),
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
        ("label,a.0,step,id\n1,2,,i\n", "line 2: step is empty, as in 1 lines"),
        ("label,a.0,split\n1,2,train\n0,2,dev\n", "split must be one of train, valid, test; found 'dev'"),
        ("label;a.0\n1;2,5\n", "line 2: a.0 must be a number; found '2,5'; write decimals with a point"),
        (
            ",label,a.0\nx,1,2\ny,0,2\n",
            "the first column of x.csv, which has no name, is an index that does not count",
        ),
        ("label,a.0,fold\n1,2,1\n0,2,1\n", "fold must be whole numbers from 0 up, two of them at least; found 1"),
        ("label,a.0\n1,2\n0,1_000\n", "line 3: a.0 must be a number; found '1_000'"),
        ("label,a.0\n1,2\n0,\u0661\n", "line 3: a.0 must be a number; found"),
        ("label,a.0\n1,2\n\n\n0,x\n", "line 5: a.0 must be a number; found 'x'"),
        ('label,a.0\n"a\nb",2\n0,x\n', "line 4: a.0 must be a number; found 'x'"),
        ('label,a.0\n"a,2\n', "cannot be read as CSV (unexpected end of data)"),
        ("label,group,a.0\na,g,2\nb, ,2\na,,2\n", "line 3: group is empty, as in 2 lines"),
        ("label,a.0\n" + "x" * 1001 + ",1\n", "cannot be read as CSV (line 2: label has more than 1000 characters)"),
        ("label,id,a.0\na,x,2\nb,,2\n", "line 3: id is empty, as in 1 lines"),
        ("label,a.0\nnan,2\n1,2\n", "every label must be finite; found 'nan', as in 1 rows"),
        ("label,a.0\n0.5,2\n1e-05,2\n", "'1e-05' is a number, but not a plain decimal as the others"),
        ("label,id,step,a.0\n1,x,inf,2\n", "line 2: step must be a finite number"),
        ("label,type.0\n1,2\n0,2\n", "a modality cannot be called 'type'"),
        ("label\n1\n0\n", "has no modality"),
        ("label,a.0,\n1,2,\n0,2,\n", "column 3 has no name; name it, or remove it and its separator"),
        ("label;a.0\n1,5;2\n2,5;2\n", "'1,5' has a comma; write decimals with a point, or name --labels classes"),
        ("label,a.0\na\0,2\na,2\n", "line 2: label holds a NUL character"),
        ("label,id,a.0\n1,i,2\n0,i ,2\n", "every id may occur once, but 1 rows repeat one (i)"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, said):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(said)):
        read_csv(tmp_path / "x.csv")


def test_a_file_that_is_absent_or_no_text_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv cannot be read as CSV"):
        read_csv(tmp_path / "gone.csv")
    for content, said in (
        (b"\xff\xfe\x00\xd8\n", "'utf-16-le' codec can't decode"),
        (b"label,a.0\n\xe9,1\n", "'utf-8' codec can't decode"),
    ):
        (tmp_path / "b.csv").write_bytes(content)
        with pytest.raises(DataError, match=rf"b\.csv cannot be read as CSV \({said}"):
            read_csv(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("cells", "labels", "classes"),
    [
        (["1_1", "11", "1_1"], "auto", ("11", "1_1")),
        (["01", "1", "02"], "auto", ("01", "02", "1")),
        (["1e5", "2e3", "1E5"], "auto", ("1E5", "1e5", "2e3")),
        (["\u0661", "1"], "auto", ("1", "\u0661")),
        (["2", " 10"], "auto", ("2", "10")),
        (["1.0", "2.0"], "auto", ("1", "2")),
        (["1" * 30, "2"], "auto", ("1" * 30, "2")),
        (["1.5", "2"], "auto", None),
        (["1.0", "2.0"], "numbers", None),
        (["1e5", "2"], "numbers", None),
        (["1.5", "2.5"], "classes", ("1.5", "2.5")),
        (["nan", "a"], "auto", ("a", "nan")),
        (["a ", "a", "\u00a0b\t", "b"], "auto", ("a", "b")),
        (["1 ", "1", "x"], "classes", ("1", "x")),
    ],
)
def test_only_plain_decimals_are_numbers(tmp_path, cells, labels, classes):
    (tmp_path / "x.csv").write_text("label,a.0\n" + "".join(f"{cell},1\n" for cell in cells))
    found = read_csv(tmp_path / "x.csv", labels=labels).card
    assert found.label.classes == (classes or ())
    assert found.label.kind == ("class" if classes else "real")
    noted = any("--labels numbers makes them numbers" in note for note in found.notes)
    assert noted == (cells == ["1.0", "2.0"] and labels == "auto")


@pytest.mark.parametrize(
    ("cells", "noted"),
    [
        (["Cat", "cat", "dog"], "the classes 'Cat' and 'cat' look alike"),
        (["\u00e9", "e\u0301", "x"], r"the classes 'e\u0301' and '\xe9' look alike"),
        (["a\u200b", "a", "x"], r"the classes 'a' and 'a\u200b' look alike"),
        (["NA", "a", "b"], "NA counts as a class"),
    ],
)
def test_classes_that_may_be_a_mistake_are_noted(tmp_path, cells, noted):
    (tmp_path / "x.csv").write_text("label,a.0\n" + "".join(f"{cell},1\n" for cell in cells))
    assert noted in read_csv(tmp_path / "x.csv").card.notes[0]


def test_line_ends_of_any_system_are_read(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "x.csv").write_bytes(end.join(["\ufefflabel, a.0", "x,1", "", "y,2"]).encode())
        assert [one.features["a"].tolist() for one in read_csv(tmp_path / "x.csv").instances] == [[1], [2]]


def test_data_without_labels_are_read_for_prediction(tmp_path):
    (tmp_path / "x.csv").write_text("id,a.0,b.0\n1,2,3\n2,3,4\n")
    store = stored(tmp_path / "x.csv", tmp_path / "store")
    assert store.card.label.kind == "none"
    assert store.labels.tolist() == [-1, -1]
    assert "there are no labels" in store.card.notes[0]


def test_values_that_float32_cannot_tell_apart_keep_their_precision(tmp_path):
    (tmp_path / "x.csv").write_text("label,time.s,a.0\n0,1600000000.5,1\n1,1600000001.5,2\n")
    store = stored(tmp_path / "x.csv", tmp_path / "store")
    assert {name: known.dtype for name, known in store.card.modalities.items()} == {"time": "float64", "a": "float32"}
    assert store[0].features["time"].tolist() == [1600000000.5]
    whole = everything(store).take(slice(None))
    scale = fit(whole.inputs["time"], "bd")
    assert apply(scale, whole.inputs["time"], "bd").ravel().tolist() == [-1, 1]


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


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_separators_and_encodings_are_recognised(tmp_path, separator, encoding):
    lines = ["label,a.x,b.y", '"one,\u00e9",1,2', "two,3,4"]
    text = lines[0].replace(",", separator) + "\n" + separator.join(['"one,\u00e9"', "1", "2"])
    (tmp_path / "x.csv").write_text(f"{text}\n{lines[2].replace(',', separator)}\n", encoding=encoding)
    reading = read_csv(tmp_path / "x.csv")
    assert reading.card.label.classes == ("one,\u00e9", "two")
    assert f"the cells of x.csv are separated by {separator!r}" in reading.card.notes
    assert [one.features["b"].tolist() for one in reading.instances] == [[2], [4]]


def test_folds_are_splits(tmp_path):
    (tmp_path / "x.csv").write_text("label,a.0,fold,group\n0,1,2,p\n1,2,10,q\n1,3,2,p\n")
    store = stored(tmp_path / "x.csv", tmp_path / "store")
    assert store.card.splits == ("fold 2", "fold 10")
    assert store.splits.tolist() == ["fold 2", "fold 10", "fold 2"]


@pytest.mark.parametrize("head", ["", "Unnamed: 0"])
def test_an_index_that_counts_the_rows_is_left_out(tmp_path, head):
    (tmp_path / "x.csv").write_text(f"{head},label,a.0\n0,x,1\n1,y,2\n")
    reading = read_csv(tmp_path / "x.csv")
    assert list(reading.card.modalities) == ["a"]
    assert "the first column of x.csv, which has no name, counts the rows and was left out" in reading.card.notes


def modality_files(folder):
    (folder / "x.csv").write_text("id,label\na,0\nb,1\nc,1\n")
    (folder / "gyro.csv").write_text("id,x,y\nc,5,6\na,1,2\nb,3,\n")
    (folder / "heart.csv").write_text("60\n70\n\n80\n")
    return {name: folder / f"{name}.csv" for name in ("gyro", "heart")}


def test_a_modality_may_have_a_file_of_its_own_by_id_or_by_row(tmp_path):
    files = modality_files(tmp_path)
    store = stored(tmp_path / "x.csv", tmp_path / "store", modalities=files)
    assert [one.features["gyro"].tolist() for one in store] == [[1, 2], [3, 0], [5, 6]]
    assert [one.features["heart"].tolist() for one in store] == [[60], [70], [80]]
    assert [one.file for one in store.card.sources] == ["x.csv", "gyro.csv", "heart.csv"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,x\na,1\nb,2\n", "its ids must be those of {}/x.csv, each once; found 2 for 3, such as 'c' in one of them"),
        ("id,x\na,1\nb,2\nb,2\nc,3\n", "its ids must be those of {}/x.csv, each once; found 4 for 3"),
        ("1,2,3\n4,5,6\n", "must have 3 rows, as {}/x.csv has; found 2; transpose it?"),
        ("x\n1\n2\n", "must have 3 rows, as {}/x.csv has; found 2"),
        ("1,2\n3\n", "line 2 has 1 cells, the first line 2"),
        ("x,y\n1,z\n", "line 2 must be a number; found 'z'"),
        ("id\na\nb\n", "must have columns of numbers; found id"),
    ],
)
def test_files_of_modalities_that_do_not_fit_are_refused(tmp_path, text, said):
    files = modality_files(tmp_path)
    files["gyro"].write_text(text)
    with pytest.raises(DataError, match=re.escape(said.format(tmp_path))):
        read_csv(tmp_path / "x.csv", modalities=files)


def test_a_modality_is_in_one_place(tmp_path):
    files = modality_files(tmp_path)
    (tmp_path / "x.csv").write_text("id,label,gyro.x\na,0,1\nb,1,1\nc,1,1\n")
    with pytest.raises(DataError, match="has columns of gyro already; leave one of them out"):
        read_csv(tmp_path / "x.csv", modalities=files)
    (tmp_path / "x.csv").write_text("id,label,step\na,0,1\nb,1,1\n")
    with pytest.raises(DataError, match="has a column step, which does not go with --modality"):
        read_csv(tmp_path / "x.csv", modalities=files)


def test_parquet_holds_columns_or_lists(tmp_path):
    pandas, pa, pq = map(pytest.importorskip, ("pandas", "pyarrow", "pyarrow.parquet"))
    frame = pandas.DataFrame({"label": ["x", "y"], "a.0": [1, 2], "a.1": [0.5, np.nan], "b": [[1.0, 2.0], [3.0, 4.0]]})
    frame.to_parquet(tmp_path / "x.parquet", index=True)
    store = stored(tmp_path / "x.parquet", tmp_path / "store")
    assert [one.features["a"].tolist() for one in store] == [[1, 0.5], [2, 0]]
    assert [one.features["b"].tolist() for one in store] == [[1, 2], [3, 4]]
    frame.set_index(pandas.Index(["p", "q"])).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(DataError, match=r"column __index_level_0__ of .* is an index that does not count the rows"):
        read_csv(tmp_path / "index.parquet")
    for change, said in (
        ({"b": [[1.0], [3.0, 4.0]]}, r"b must be lists of one length, in every row; found lengths \[1, 2\]"),
        ({"b": [[], []]}, r"b must be lists of one length, in every row; found lengths \[0\]"),
        ({"label": [b"\xff", b"y"]}, "label holds bytes that are no UTF-8 text"),
        ({"a.0": ["p", "q"]}, "a.0 must be numbers; found (large_)?string"),
        ({"label": ["x", None]}, "label must be in every row, with up to 1000 characters"),
    ):
        frame.assign(**change).to_parquet(tmp_path / "x.parquet", index=False)
        with pytest.raises(DataError, match=said):
            read_csv(tmp_path / "x.parquet")
    frame.to_parquet(tmp_path / "x.parquet", index=False)
    table = pq.read_table(tmp_path / "x.parquet").append_column("a.0", pa.array([1, 2]))
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: every column may occur once; found a\.0 again"):
        read_csv(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read as Parquet"):
        read_csv(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("labels", "classes", "found"),
    [
        ([1e-05, 3e-05], (), [1e-05, 3e-05]),  # never by way of text such as "1e-05"
        ([1e22, 2.5], (), [1e22, 2.5]),
        ([Decimal("1E+2"), Decimal("2.5")], (), [100, 2.5]),
        ([2.0, 1.0], ("1", "2"), [1, 0]),
        ([True, False], ("False", "True"), [1, 0]),
        ([b"no", "j\u00e4".encode()], ("j\u00e4", "no"), [1, 0]),
    ],
)
def test_labels_of_a_parquet_file_keep_their_type(tmp_path, labels, classes, found):
    pa, pq = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
    lists = pa.array([[Decimal("1.5")], [Decimal("2.5")]], pa.large_list(pa.decimal128(4, 2)))
    pq.write_table(pa.table({"label": labels, "a": lists}), tmp_path / "x.parquet")
    reading = read_csv(tmp_path / "x.parquet")
    assert reading.card.label.classes == classes
    assert [one.label for one in reading.instances] == pytest.approx(found)


def test_an_index_of_a_modality_s_file_must_count_the_rows(tmp_path):
    (tmp_path / "x.csv").write_text("label\n0\n1\n1\n")
    (tmp_path / "gyro.csv").write_text(",x\n0,5\n1,6\n2,7\n")
    files = {"gyro": tmp_path / "gyro.csv"}
    assert "the first column of gyro.csv, which has no name, counts the rows and was left out" in (
        read_csv(tmp_path / "x.csv", modalities=files).card.notes
    )
    (tmp_path / "gyro.csv").write_text(",x\n2,7\n0,5\n1,6\n")
    with pytest.raises(DataError, match=r"the first column of gyro\.csv, .*, is an index that does not count the rows"):
        read_csv(tmp_path / "x.csv", modalities=files)


def test_whole_numbers_that_floating_point_cannot_hold_are_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"label": [0, 1], "a.time": [1700000000000000001, 2]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"a\.time holds whole numbers beyond 2\*\*53, which floating point"):
        read_csv(tmp_path / "x.parquet")
