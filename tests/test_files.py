import json
import os
import re
from pathlib import Path

import pytest

from concordant.errors import DataError
from concordant.files import read_json, write_atomically, write_json, write_text


def test_what_is_written_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("new")
        seen.append((temporary, path.read_text()))

    write_atomically(path, write)
    assert path.read_text() == "new"
    temporary, meanwhile = seen[0]
    assert meanwhile == "old"
    assert temporary != path
    assert temporary.parent == path.parent
    assert temporary.suffix == ".txt"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("old", ["old", None])
@pytest.mark.parametrize("written", ["half", None])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_raises_leaves_the_old_file_and_nothing_else(tmp_path, old, written, error):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_text(old)

    def write(temporary):
        if written is not None:
            temporary.write_text(written)
        raise error("the disk is full")

    with pytest.raises(error, match="the disk is full"):
        write_atomically(path, write)
    assert os.listdir(tmp_path) == (["a.bin"] if old is not None else [])
    if old is not None:
        assert path.read_text() == old


def test_a_writer_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(FileNotFoundError):
        write_atomically(path, lambda temporary: None)
    assert path.read_text() == "old"


def test_folders_on_the_way_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_text_is_written_in_utf_8(tmp_path):
    write_text(tmp_path / "a.txt", "1 ± 2 α\n")
    assert (tmp_path / "a.txt").read_bytes() == "1 ± 2 α\n".encode()


def test_json_comes_back_as_it_was_written(tmp_path):
    value = {"a": [1, 2.5, None, True], "b": {"c": "± α"}, "third": 1 / 3}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_without_numbers_for_nan_and_infinity_refuses_them_and_keeps_the_old_file(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        write_json(path, {"a": [value]})
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"text", b"\xff\xfe{}", b'{"a": 1} {'])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    text = rf"{re.escape(str(path))} cannot be read as JSON \(.+\); move it away, or choose another folder"
    with pytest.raises(DataError, match=text):
        read_json(path)


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "lost.json", tmp_path):
        with pytest.raises(DataError, match=re.escape(f"{path} cannot be read as JSON (")):
            read_json(path)


@pytest.mark.parametrize(("value", "kind"), [([1], "list"), ("a", "str"), (1, "int"), (None, "NoneType")])
def test_json_other_than_an_object_is_refused(tmp_path, value, kind):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DataError, match=re.escape(f"{path} must hold a JSON object; found {kind}")):
        read_json(path)


@pytest.mark.parametrize("name", ["folder", "folder/..", "."])
def test_a_folder_is_refused_before_anything_is_done(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        write_atomically(Path(name), lambda temporary: pytest.fail("it was asked to write"))
    assert os.listdir(tmp_path) == ["folder"]
