import os
from pathlib import Path

import pytest

from concordant.data.formats.listing import (
    Row,
    find_lists,
    frames_of,
    index_media,
    media_size,
    read_lines,
    shared_groups,
)
from concordant.errors import DataError


def put(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_lists_are_found_in_the_folder_or_below_it_but_not_too_deep(tmp_path):
    put(tmp_path / "a/b/c/one.csv"), put(tmp_path / "a/b/c/two.csv")
    assert find_lists(tmp_path, ("one.csv", "two.csv")) == tmp_path / "a/b/c"
    assert find_lists(tmp_path / "a/b/c", ("one.csv", "two.csv")) == tmp_path / "a/b/c"
    put(tmp_path / "one.csv"), put(tmp_path / "two.csv")
    assert find_lists(tmp_path, ("one.csv", "two.csv")) == tmp_path  # the nearest

    put(tmp_path / "deep/a/b/c/d/three.csv")
    with pytest.raises(DataError, match=r"nor up to 3 folders below it, three\.csv"):
        find_lists(tmp_path / "deep", ("three.csv",))


def test_all_missing_lists_are_named(tmp_path):
    put(tmp_path / "one.csv")
    with pytest.raises(
        DataError, match=r"does not hold.* two\.csv, three\.csv; expected one\.csv, two\.csv, three\.csv"
    ):
        find_lists(tmp_path, ("one.csv", "two.csv", "three.csv"))
    with pytest.raises(DataError, match=r"does not hold one\.csv; expected"):
        find_lists(tmp_path, ("one.csv",), lists=put(tmp_path / "lists/other.csv").parent)
    with pytest.raises(DataError, match=r"nowhere is not there; expected one with one\.csv"):
        find_lists(tmp_path / "nowhere", ("one.csv",))


def test_two_folders_of_lists_equally_near_are_refused(tmp_path):
    put(tmp_path / "a/one.csv"), put(tmp_path / "b/one.csv")
    with pytest.raises(DataError, match=r"has one\.csv in .*a and in .*b; name one"):
        find_lists(tmp_path, ("one.csv",))


def test_lines_come_with_their_numbers_without_mark_and_empty_lines(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\r\n  two \r\n")
    assert read_lines(path) == [(1, "one"), (3, "two")]
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as a list of clips"):
        read_lines(path)
    path.write_bytes(b"\r\n")
    with pytest.raises(DataError, match="names no clip"):
        read_lines(path)


def test_media_are_found_by_name_anywhere(tmp_path):
    wanted = [put(tmp_path / "z/clip.wav"), put(tmp_path / "b/c/clip.WAV"), put(tmp_path / "frames/clip/0.jpg").parent]
    put(tmp_path / "clip.txt"), put(tmp_path / "clips.wav"), put(tmp_path / ".hidden/clip.wav")
    put(tmp_path / "frames/clip/clip.wav")  # within a clip's frames nothing is looked for
    found = index_media(tmp_path, ["clip", "other"], (".wav",))
    assert found == {"clip": sorted(wanted), "other": []}


def test_capitals_count_unless_they_need_not(tmp_path):
    path = put(tmp_path / "v_HandStand.avi")
    assert index_media(tmp_path, ["v_Handstand"], (".avi",)) == {"v_Handstand": []}
    assert index_media(tmp_path, ["v_Handstand"], (".avi",), exact=False) == {"v_Handstand": [path]}


def test_links_are_followed_and_may_go_round(tmp_path):
    put(tmp_path / "far/clip.wav")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "far", tmp_path / "data/sounds")
    os.symlink(tmp_path / "data", tmp_path / "data/again")
    assert index_media(tmp_path / "data", ["clip"], (".wav",)) == {"clip": [tmp_path / "data/sounds/clip.wav"]}


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(DataError, match="nowhere is not there; expected one with the media"):
        index_media(tmp_path / "nowhere", ["clip"], (".wav",))


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    for number in (1, 2, 10):
        put(tmp_path / f"{number}.jpg")
    put(tmp_path / "notes.txt"), put(tmp_path / "._1.jpg")
    assert [path.name for path in frames_of(tmp_path)] == ["1.jpg", "2.jpg", "10.jpg"]


def test_the_size_of_media_counts_every_file_once(tmp_path):
    film = put(tmp_path / "a.mp4", "12345")
    frames = put(tmp_path / "a/1.jpg", "123").parent
    rows = [Row("a", "train", 0, {"audio": film, "picture": frames}), Row("b", "train", 0, {"audio": film})]
    assert media_size(rows, "audio") == {"files": 1, "bytes": 5, "kinds": {".mp4": 1}}
    assert media_size(rows, "audio", "picture") == {"files": 2, "bytes": 8, "kinds": {".jpg": 1, ".mp4": 1}}


def test_a_row_says_once_what_it_lacks():
    row = Row("a", "train", 0, {}).found(
        {"audio": None, "picture": None}, {"audio": "<clip>.mp4", "picture": "<clip>.mp4"}
    )
    assert (row.media, row.missing) == ({}, ("<clip>.mp4",))
    row = Row("a", "train", 0, {}).found({"audio": Path("a.wav"), "picture": None}, {"picture": "<clip>.flv"})
    assert (row.media, row.missing) == ({"audio": Path("a.wav")}, ("<clip>.flv",))


def test_groups_in_both_splits_are_counted():
    rows = [
        Row(f"{group}{split}", split, 0, {}, group=group)
        for group, split in (("x", "train"), ("x", "test"), ("y", "train"))
    ]
    assert shared_groups(rows, "actors")[0].startswith("1 actors are both in train and in test")
    assert shared_groups(rows[:2], "actors")[0].startswith("all 1 actors are both")
    assert shared_groups(rows[1:], "actors") == []
