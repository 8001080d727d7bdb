import json
import os
import re
from pathlib import Path

import pytest

from concordant.errors import DataError, UsageError
from concordant.files import (
    bytes_in,
    check_size,
    new_folder,
    read_json,
    read_yaml,
    reading,
    remove_stale,
    temporary_beside,
    write_atomically,
    write_json,
    write_text,
)


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


def test_only_regular_files_are_replaced_and_links_are_not_followed(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "lost", "pipe"):
        with pytest.raises(FileExistsError, match="it is a link, a device or a pipe, not a regular file"):
            write_text(tmp_path / name, "new")
    assert sorted(os.listdir(tmp_path)) == ["kept", "link", "lost", "pipe"]
    assert (tmp_path / "kept").read_text() == "kept"
    with pytest.raises(FileExistsError):
        write_text(Path("/dev/null"), "new")
    assert not Path("/dev/null").is_file()


def test_temporary_names_cannot_be_guessed_and_fit_wherever_the_name_fits(tmp_path):
    seen = set()
    for _ in range(3):
        write_atomically(tmp_path / ("x" * 251 + ".bin"), lambda path: seen.add(path.name) or path.write_text("x"))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["new", "there"])
def test_a_folder_appears_when_it_is_complete_or_not_at_all(tmp_path, name):
    (tmp_path / "there").mkdir()

    def fill(error=None):
        with new_folder(tmp_path / name, "last") as folder:
            (folder / "last").write_text("x")
            (folder / "first").write_text("x")
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        fill(KeyboardInterrupt())
    assert os.listdir(tmp_path) == ["there"]
    assert os.listdir(tmp_path / "there") == []
    fill()
    assert sorted(os.listdir(tmp_path / name)) == ["first", "last"]
    assert sorted(os.listdir(tmp_path)) == sorted({"there", name})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[" * 10**5, "recursion"),
        ('{"a":' * 10**5, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ('{"a": NaN}', "NaN is no finite number"),
        ('{"a": -Infinity}', "-Infinity is no finite number"),
        ('{"a": 1e999}', "1e999 is no finite number"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands there twice"),
    ],
)
def test_json_that_no_writer_of_ours_makes_is_refused(tmp_path, content, text):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=text):
        read_json(path)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (ALIASES, "with its aliases expanded, larger than 50 levels and 20,000 values"),
        ("&a [*a]", "with its aliases expanded"),
        ("a: &a {x: &b [*a]}", "with its aliases expanded"),
        ("[" * 5000, "50 levels"),
        ("- " * 5000, "50 levels"),
        ("a: 1" + ":59" * 40_000, "holds a number of"),
        ("a: 0x" + "f" * 5000, "holds a number of"),
        ("a: " + "9" * 5000, "holds a number of"),
        ("a: .inf", "inf is no finite number"),
        ("a: " + "x" * 200_000, "a YAML file may have 131,072"),
        ("a: 1\na: 2", "line 2, column 1: no YAML: a stands there twice"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("<<: 1", "expected a mapping or list of mappings for merging"),
        ("\x00", "no YAML"),
    ],
)
def test_yaml_that_nobody_wrote_by_hand_is_refused_at_once(tmp_path, content, text):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=text):
        read_yaml(path)


def test_yaml_keeps_aliases_and_reads_dates_as_text(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a [1, 2.5]\nb: *a\nc: 2020-01-01\nd: !!timestamp 2020-01-01")
    assert read_yaml(path) == {"a": [1, 2.5], "b": [1, 2.5], "c": "2020-01-01", "d": "2020-01-01"}
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}")
    assert read_yaml(path)["b"] == {"x": 3, "y": 2}


def test_only_plain_decimals_of_yaml_are_numbers(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("[0, -7, +3, 1.5, 1., .5, 1e-3, -2E4, 010, 1_0, 0x10, 0b1, 1:30, 1_0.5, 1e, ., -, \u0663]")
    *numbers, _, _, _, _, _, _, _, _, _, _ = found = read_yaml(path)
    assert numbers == [0, -7, 3, 1.5, 1.0, 0.5, 1e-3, -2e4]
    assert [type(one) for one in found] == 3 * [int] + 5 * [float] + 10 * [str]


@pytest.mark.parametrize(
    ("content", "text"), [(b" <HTML>", "is an HTML page, not"), (b"version https://git-lfs", "LFS")]
)
def test_pages_and_pointers_are_named_as_such(tmp_path, content, text):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_json(path)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, text in ((tmp_path / "pipe", "a device or a pipe"), (Path("/dev/zero"), "a device or a pipe")):
        with pytest.raises(DataError, match=text):
            read_json(path)
    with pytest.raises(DataError, match="embedded null byte"):
        read_json(Path("a\0b"))


def test_whatever_a_reader_raises_becomes_one_sentence(tmp_path):
    path = tmp_path / "a"
    path.write_text("x")
    for error, text in (
        (SystemError("a\nb"), r"cannot be read as X \(a b\); do Y"),
        (MemoryError(), "fit into memory"),
    ):
        with pytest.raises(DataError, match=text), reading(path, "X", "do Y"):
            raise error
    with pytest.raises(UsageError, match="ours"), reading(path, "X"):
        raise UsageError("ours")


def test_sizes_are_limited_unless_the_bytes_are_at_hand(monkeypatch):
    check_size("x", 1 << 30)
    check_size("x", 1 << 40, 1 << 40)
    with pytest.raises(
        DataError, match=r"x announces 1,073,741,825 bytes, more than the 1,073,741,824 that CONCORDANT_LIMIT allows"
    ):
        check_size("x", (1 << 30) + 1)
    monkeypatch.setenv("CONCORDANT_LIMIT", "1.5 GiB")
    check_size("x", 3 << 29)
    for text in ("-1", "1 1", "٣", "GiB", "1" * 400):
        monkeypatch.setenv("CONCORDANT_LIMIT", text)
        with pytest.raises(UsageError, match='must be a size such as "512MiB" or "4GiB"'):
            bytes_in("CONCORDANT_LIMIT", 1)


def test_temporary_files_of_ended_processes_are_swept(tmp_path):
    (tmp_path / "below").mkdir()
    process = os.fork()
    if not process:
        os._exit(0)
    os.waitpid(process, 0)
    own = temporary_beside(tmp_path / "x.json")
    stale = tmp_path / "below" / own.name.replace(f"-{os.getpid()}-", f"-{process}-")
    elsewhere = stale.with_name(f".concordant-01234567-{process}-0a.tmp.json")  # of another machine
    for path in (stale, own, elsewhere, tmp_path / ".concordant-notes"):
        path.write_text("")
    remove_stale(tmp_path)
    assert not stale.exists()
    assert own.exists()
    assert elsewhere.exists()
    assert (tmp_path / ".concordant-notes").exists()
