import os
import pickle
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concordant.data.archives import Column, find_data_folder, read_archive
from concordant.errors import DataError

FILE = "things.npz"
COLUMNS = {
    "x": Column("things", (3, None)),
    "y": Column("things", kinds="iu", classes=4),
    "name": Column("things", kinds="U"),
    "other": Column("others", (2,), kinds="fu"),
}


def arrays(**changed):
    return {
        "x": np.arange(30, dtype=np.float32).reshape(5, 3, 2),
        "y": np.array([0, 1, 2, 3, 0]),
        "name": np.array(list("abcde")),
        "other": np.ones((7, 2)),
        **changed,
    }


def write(folder, **changed):
    np.savez(folder / FILE, **arrays(**changed))
    return folder / FILE


def complaint(folder):
    with pytest.raises(DataError) as caught:
        read_archive(folder, FILE, COLUMNS)
    assert str(folder) in str(caught.value)
    assert FILE in str(caught.value)
    return str(caught.value)


class Trap:
    def __reduce__(self):
        return os.mkdir, (os.environ["TRAP"],)


def test_read_archive_returns_the_named_arrays_unchanged(tmp_path):
    write(tmp_path, unread=np.array([np.nan]))
    found = read_archive(tmp_path, FILE, COLUMNS)
    assert list(found) == list(COLUMNS)
    for name, expected in arrays().items():
        np.testing.assert_array_equal(found[name], expected)
        assert found[name].dtype == expected.dtype


def test_data_folder_of_the_option_comes_before_the_variable(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setenv("CONCORDANT_DATA", str(tmp_path / "b"))
    assert find_data_folder(tmp_path / "a") == tmp_path / "a"
    assert find_data_folder(str(tmp_path / "a")) == tmp_path / "a"
    assert find_data_folder() == tmp_path / "b"


@pytest.mark.parametrize("variable", [None, ""])
def test_the_user_s_data_folder_is_the_default(tmp_path, monkeypatch, variable):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concordant").mkdir()
    if variable is None:
        monkeypatch.delenv("CONCORDANT_DATA", raising=False)
    else:
        monkeypatch.setenv("CONCORDANT_DATA", variable)
    assert find_data_folder() == tmp_path / "concordant"


def test_absent_data_folder_of_the_option(tmp_path):
    lost = tmp_path / "lost"
    with pytest.raises(DataError, match=re.escape(f"the data folder {lost} is not there (named by --data); name the")):
        find_data_folder(lost)


def test_absent_data_folder_of_the_variable(tmp_path, monkeypatch):
    lost = tmp_path / "lost"
    monkeypatch.setenv("CONCORDANT_DATA", str(lost))
    with pytest.raises(DataError, match=re.escape(f"{lost} is not there (named by CONCORDANT_DATA)")):
        find_data_folder()


def test_absent_data_folder_when_nothing_names_one(tmp_path, monkeypatch):
    monkeypatch.delenv("CONCORDANT_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    text = (
        f"{tmp_path / 'concordant'} is not there (named by neither --data nor CONCORDANT_DATA); name the folder that "
        "holds scene15.npz with --data or CONCORDANT_DATA; docs/benchmarks.md says where the files are published"
    )
    with pytest.raises(DataError, match=re.escape(text)):
        find_data_folder(files=["scene15.npz"])


def test_a_file_is_no_data_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is not there"):
        find_data_folder(tmp_path / "file")


def test_absent_file_is_named_with_its_folder(tmp_path):
    assert complaint(tmp_path) == (
        f"{FILE} is expected in {tmp_path}, and is not there; name another folder with --data or CONCORDANT_DATA; "
        "docs/benchmarks.md says where the files are published"
    )


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_truncated_archive(tmp_path, kept):
    path = write(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert re.search(r"cannot be read as a NumPy archive \(.+\); copy or download it again", complaint(tmp_path))


def test_archive_with_damaged_values(tmp_path):
    path = write(tmp_path)
    whole = bytearray(path.read_bytes())
    place = whole.index(arrays()["x"].tobytes())
    whole[place + 5] ^= 1
    path.write_bytes(whole)
    assert re.search("cannot be read as a NumPy archive .*CRC", complaint(tmp_path))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_archive_with_any_damaged_byte_is_read_right_or_refused(tmp_path, data):
    path = write(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        found = read_archive(tmp_path, FILE, COLUMNS)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017 - both ways out are right
    else:
        for name, expected in arrays().items():
            np.testing.assert_array_equal(found[name], expected)


@pytest.mark.parametrize("content", ["", "some text\n"])
def test_text_under_the_name_of_an_archive(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    assert "cannot be read as a NumPy archive (" in complaint(tmp_path)


def test_single_array_under_the_name_of_an_archive(tmp_path):
    with (tmp_path / FILE).open("wb") as file:
        np.save(file, np.ones(3))
    assert complaint(tmp_path).endswith("must be a NumPy archive (.npz); found a single array")


def test_zip_file_without_arrays(tmp_path):
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        archive.writestr("x.txt", "text")
    assert "has no array x, y, name, other; found x.txt; is it another file?" in complaint(tmp_path)


def test_zip_member_that_is_no_array(tmp_path):
    write(tmp_path)
    with zipfile.ZipFile(tmp_path / FILE, "w") as archive:
        for name in COLUMNS:
            archive.writestr(f"{name}.npy", "no array")
    assert "cannot be read as a NumPy archive (it must be an array; found no header of NumPy)" in complaint(tmp_path)


def test_encrypted_archive(tmp_path):
    path = write(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first member
    path.write_bytes(whole)
    assert re.search("cannot be read as a NumPy archive .*encrypted", complaint(tmp_path))


def test_empty_archive_says_that_nothing_was_found(tmp_path):
    with zipfile.ZipFile(tmp_path / FILE, "w"):
        pass
    assert "has no array x, y, name, other; found none; is it" in complaint(tmp_path)


def test_missing_arrays_are_listed_with_what_was_found(tmp_path):
    np.savez(tmp_path / FILE, y=np.zeros(2), other=np.ones(3), more=np.ones(1))
    assert complaint(tmp_path).endswith("has no array x, name; found y, other, more; is it another file?")


def test_pickled_array_is_refused_and_never_executed(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    write(tmp_path, x=np.array([Trap()] * 5, dtype=object))
    assert "cannot be read as a NumPy archive (Object arrays, dates and records cannot be loaded" in complaint(tmp_path)
    assert not (tmp_path / "sprung").exists()
    (tmp_path / FILE).write_bytes(pickle.dumps(Trap()))
    assert "cannot be read as a NumPy archive (" in complaint(tmp_path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((tmp_path / FILE).read_bytes())
    assert (tmp_path / "sprung").exists()  # the trap works


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"x": np.ones((5, 2, 2))}, "x must have shape (things, 3, any) with rows; found (5, 2, 2)"),
        ({"x": np.ones((5, 3))}, "x must have shape (things, 3, any) with rows; found (5, 3)"),
        ({"x": np.float64(1)}, "x must have shape (things, 3, any) with rows; found ()"),
        ({"x": np.ones((0, 3, 2))}, "x must have shape (things, 3, any) with rows; found (0, 3, 2)"),
        ({"y": np.zeros((5, 1), int)}, "y must have shape (things) with rows; found (5, 1)"),
        ({"x": np.ones((5, 3, 2), int)}, "x must be of NumPy kind f; found int64"),
        ({"y": np.zeros(5)}, "y must be of NumPy kind i or u; found float64"),
        ({"name": np.array([b"a"] * 5)}, "name must be of NumPy kind U; found |S1"),
        ({"y": np.array([0, 1, 2, 4, 0])}, "y must be class indices 0 to 3; found 0 to 4"),
        ({"y": np.array([0, -1, 2, 3, 0])}, "y must be class indices 0 to 3; found -1 to 3"),
        ({"name": np.array(["a"] * 4)}, "name and x must have as many rows; found 4 and 5"),
        ({"y": np.zeros(6, int)}, "y and x must have as many rows; found 6 and 5"),
    ],
)
def test_array_that_does_not_fit(tmp_path, changed, text):
    path = write(tmp_path, **changed)
    assert complaint(tmp_path) == f"{path}: {text}"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_by_row_with_the_first_place(tmp_path, value):
    x = arrays()["x"]
    x[3, 2, 1] = x[3, 1, 0] = x[4, 0, 0] = value
    path = write(tmp_path, x=x)
    assert complaint(tmp_path) == (
        f"{path}: x must be finite; found NaN or infinity in 2 rows, first at (3, 1, 0); mend or drop those rows"
    )


def test_rows_of_different_things_may_differ(tmp_path):
    write(tmp_path, other=np.ones((1, 2), np.uint8))
    assert len(read_archive(tmp_path, FILE, COLUMNS)["other"]) == 1
