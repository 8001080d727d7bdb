import re

import pytest

from concordant.data.formats.ave_annotations import Annotation, class_names, read_annotations
from concordant.errors import DataError


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
