import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datasets")

from concordant.data.card import CARD, Card, LabelCard, ModalityCard
from concordant.data.reading import Findings
from concordant.data.store import Instance, Store
from concordant.data.writing import FAILURES, write_store
from concordant.errors import DataError, UsageError
from concordant.files import read_json


def card(kind="real", **more):
    label = LabelCard(kind=kind, classes=() if kind == "real" else ("a", "b"))
    return Card(name="toy", modalities={"x": ModalityCard(layout="bd", shape=(2,))}, label=label, **more)


def row(name="i", label=1.0, **more):
    return Instance(name, "train", label, {"x": np.ones(2)}, **more)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that a process works in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_the_empty_working_directory_is_filled_and_stays_the_same_folder(here):
    before = here.stat().st_ino
    write_store(Path(), card(), [row()])
    assert here.stat().st_ino == before
    assert len(Store(Path())) == 1
    assert sorted(os.listdir(here.parent)) == ["here"]
    assert not [name for name in os.listdir(here) if name.endswith(".tmp")]


def test_a_link_to_an_empty_folder_stays_a_link(here, tmp_path):
    (tmp_path / "link").symlink_to(here)
    write_store(tmp_path / "link", card(), [row()])
    assert (tmp_path / "link").is_symlink()
    assert Store(here)[0].id == "i"


@pytest.mark.parametrize("there", [True, False])
def test_a_reader_that_raises_leaves_the_folder_as_it_was(tmp_path, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()

    def rows():
        yield row()
        raise OSError(5, "Input/output error")

    # Of the source, so it is not said of the folder that is written.
    with pytest.raises(DataError, match=r"toy: instances cannot be read \(Input/output error\)"):
        write_store(folder, card(), rows())
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if there else [])


def test_the_card_takes_its_place_last(tmp_path, monkeypatch):
    moved = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, to: moved.append(Path(to).name) or rename(self, to))
    (tmp_path / "out").mkdir()
    write_store(tmp_path / "out", card(), [row()])
    assert len(moved) == 4
    assert moved[-1] == CARD


@pytest.mark.parametrize("below", ["out", "one/two"])
def test_where_nothing_can_be_written_is_said(tmp_path, below):
    (tmp_path / "file").write_text("dear")
    with pytest.raises(UsageError, match=r"file/\w+(/two)? cannot be written \(\w.*\); name another folder$"):
        write_store(tmp_path / "file" / below, card(), [row()])
    assert (tmp_path / "file").read_text() == "dear"


def test_a_full_disk_is_said_of_the_folder(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("concordant.data.writing.write_card", full)
    with pytest.raises(UsageError, match=r"out cannot be written \(No space left on device\); name another folder$"):
        write_store(tmp_path / "out", card(), [row()])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("label", [1e39, -1e39, float("nan"), "1", None, True, 1 + 1j])
def test_a_number_that_float32_has_not_is_no_label(tmp_path, label):
    with pytest.raises(DataError, match="toy, instance 'i': label must be a number that is finite as float32; found"):
        write_store(tmp_path / "out", card(), [row(label=label)])


def test_the_largest_labels_are_kept(tmp_path):
    most = float(np.finfo(np.float32).max)
    write_store(tmp_path / "out", card(), [row("a", most), row("b", -most), row("c", np.float16(0.5)), row("d", 3)])
    assert Store(tmp_path / "out").labels.tolist() == [most, -most, 0.5, 3]


@pytest.mark.parametrize("text", [3, None, b"i", "a\udcff", "a\0", "a" * 1001])
def test_ids_and_groups_are_text_that_comes_back(tmp_path, text):
    grouped = card(groups="speaker")
    with pytest.raises(DataError, match="id must be text of up to 1000 characters that UTF-8 has; found"):
        write_store(tmp_path / "out", grouped, [row(text, group="s")])
    said = (
        "group must be named" if text is None else "group must be text of up to 1000 characters that UTF-8 has; found"
    )
    with pytest.raises(DataError, match=f"toy, instance 'i': {said}"):
        write_store(tmp_path / "out", grouped, [row("i", group=text)])


def test_odd_names_come_back_as_they_were(tmp_path):
    names = ["a\0b", "ß/ü", "\N{SNOWMAN}", "a b\n", "#1", "../x", "", np.str_("n")]
    write_store(tmp_path / "out", card(), [row(name) for name in names])
    assert Store(tmp_path / "out").ids.tolist() == names


@pytest.mark.parametrize("label", [np.zeros(0, int), np.zeros((1, 1), int), [0, 2], [-1], [0.0], 1])
def test_segments_are_a_row_of_class_indices(tmp_path, label):
    with pytest.raises(DataError, match="label must be class indices"):
        write_store(tmp_path / "out", card("segments"), [row(label=label)])


def test_a_group_where_the_card_has_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="toy, instance 'i': group must be None"):
        write_store(tmp_path / "out", card(), [row(group="s")])


def test_what_a_reader_found_is_on_the_card_and_failures_have_a_file(tmp_path):
    findings = Findings()

    def rows():
        findings.failures["broken"] = "no film"
        yield row()
        findings.notes.append("late")

    written = write_store(tmp_path / "out", card(notes=("early",)), rows(), findings=findings)
    said = "1 clips could not be decoded and are left out; failures.json says why"
    assert written.notes == ("early", "late", said)
    assert Store(tmp_path / "out").card == written
    assert read_json(tmp_path / "out" / FAILURES) == {"broken": "no film"}
    write_store(tmp_path / "whole", card(), [row()], findings=Findings())
    assert not (tmp_path / "whole" / FAILURES).exists()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f4"])
def test_values_of_any_floating_point_are_stored_in_c_order(tmp_path, dtype):
    known = card().model_copy(update={"modalities": {"x": ModalityCard(layout="bchw", shape=(2, 3, 4))}})
    values = np.asfortranarray(np.arange(24).reshape(2, 3, 4).astype(dtype))
    write_store(tmp_path / "out", known, [Instance("i", "train", 0.0, {"x": values[:, ::-1]})])
    np.testing.assert_array_equal(Store(tmp_path / "out")[0].features["x"], values[:, ::-1].astype(np.float32))
