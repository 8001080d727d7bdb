import hashlib
import json
import re

import pytest
import torch
from pydantic import ValidationError

from concordant.data.card import CARD, Card, LabelCard, ModalityCard, Source, read_card, sources, write_card
from concordant.errors import DataError, explain
from concordant.files import sha256

FULL = Card(
    name="spræk \N{SNOWMAN}",
    modalities={
        "b": ModalityCard(kind="audio", layout="btd", shape=(None, 3), unit="log power", rate=100 / 3),
        "a": ModalityCard(layout="bcthw", shape=(2, None, 4, 5), dtype="float16", preprocessing={"size": [4, 5]}),
    },
    label=LabelCard(kind="segments", classes=("no", "yes")),
    rows=3,
    splits=("fold 1", "fold 2"),
    groups="video",
    sources=(Source(file="x.pkl", sha256="0" * 64),),
    repairs={"b": "3 of 9 values"},
    notes=("one", "two"),
)


@pytest.fixture
def values(tmp_path):
    write_card(tmp_path, FULL)
    return json.loads((tmp_path / CARD).read_text(encoding="utf-8"))


def reread(folder, values):
    (folder / CARD).write_text(json.dumps(values))
    return read_card(folder)


def test_a_card_comes_back_as_it_was_with_modalities_in_their_order(tmp_path):
    write_card(tmp_path, FULL)
    found = read_card(tmp_path)
    assert found == FULL
    assert list(found.modalities) == ["b", "a"]
    assert [one.time for one in found.modalities.values()] == [0, 1]


def test_a_card_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        FULL.name = "other"


@pytest.mark.parametrize("version", [2, 0, "two", None])
def test_a_card_of_another_version_is_told_so_whatever_else_it_holds(tmp_path, values, version):
    values |= {"version": version, "shards": 4, "name": ""}
    with pytest.raises(DataError, match=f"is of version {version}; this Concordant reads version 1: prepare it again$"):
        reread(tmp_path, values)


def test_a_card_may_leave_out_what_has_a_default(tmp_path):
    short = {"name": "n", "modalities": {"x": {"layout": "bd", "shape": [2]}}, "label": {"kind": "real"}}
    found = reread(tmp_path, short)
    assert (found.rows, found.splits, found.version) == (0, ("train", "valid", "test"), 1)
    assert found.modalities["x"].time is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "name: string should have at least 1 character; found ''"),
        ({"modalities": {}}, "modalities: dictionary should have at least 1 item after validation, not 0; found {}"),
        ({"rows": -1}, "rows: input should be greater than or equal to 0; found -1"),
        ({"colour": "red"}, "colour: extra inputs are not permitted; found 'red'"),
        ({"sources": [{"file": "x", "sha256": "0" * 63}]}, "sources.0.sha256: string should match pattern"),
        (
            {"label": {"classes": ["a", "b", "a", "b", "c"]}},
            "label: every class may be named once; found 'a', 'b' again",
        ),
        ({"label": {"kind": "real", "classes": ["a"]}}, "label: a real label has no classes; leave classes out"),
        ({"name": "../../escaped"}, "name: a dataset cannot be called '../../escaped'"),
        ({"name": "/etc"}, "a dataset cannot be called '/etc'"),
        ({"name": "a\\b"}, "a dataset cannot be called"),
        ({"name": ".."}, "a dataset cannot be called '..': use up to 100 printable characters"),
        ({"name": "\x1b[31m"}, "a dataset cannot be called"),
        ({"name": "x" * 101}, "a dataset cannot be called"),
        ({"splits": []}, "splits: there must be a split, each named once"),
        ({"splits": ["a", "a"]}, "splits: there must be a split, each named once"),
        ({"modalities": {"a/b": {"layout": "bd", "shape": [3]}}}, "a modality cannot be called 'a/b'"),
        ({"modalities": {"id": {"layout": "bd", "shape": [3]}}}, "these names are taken: id, split, group, label"),
        ({"label": {"kind": "segments", "classes": ["a"]}}, "label: a label of kind 'segments' needs two classes or"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, values, change, said):
    with pytest.raises(DataError, match=f"{CARD} cannot be used: .*{re.escape(said)}"):
        reread(tmp_path, values | change)


@pytest.mark.parametrize("rate", [0, -1, "fast"])
def test_a_rate_is_a_number_of_steps_a_second(tmp_path, values, rate):
    values["modalities"]["b"]["rate"] = rate
    with pytest.raises(DataError, match=r"cannot be used: modalities\.b\.rate: input should be .*; found"):
        reread(tmp_path, values)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("bd", ()),
        ("bd", (None,)),
        ("bd", (0,)),
        ("btd", (5, 3)),
        ("btd", (None, None)),
        ("btd", (None, 3, 1)),
        ("bchw", (1, None, 3)),
        ("bcthw", (None, 2, 4, 5)),
    ],
)
def test_a_shape_has_a_size_for_each_axis_but_t(layout, shape):
    with pytest.raises(ValidationError) as caught:
        ModalityCard(layout=layout, shape=shape)
    said = f"shape must have a size of 1 or more for each axis of {layout[1:]!r}, and None for t; found {shape}"
    assert explain(caught.value) == said


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"name": ', b"\xff\xfe\x00"])
def test_a_card_that_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(DataError, match=rf"{CARD} (cannot be read as JSON|must hold a JSON object; found list)"):
        read_card(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_no_dataset(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"^the dataset folder .*file is not there$"):
        read_card(tmp_path / "file")


def test_files_are_named_relative_to_their_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"abc" * 100_000)
    (found,) = sources(tmp_path, ["sub/a.bin"])
    assert found.file == "sub/a.bin"
    assert found.sha256 == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone cannot be read \(No such file or directory\)"):
        sha256(tmp_path / "gone")


def test_names_that_a_module_of_pytorch_has_are_no_modalities(values):
    for name in dir(torch.nn.ModuleDict()):
        if "transformers" in str(getattr(getattr(torch.nn.Module, name, None), "__module__", None)):
            continue  # other libraries add methods to PyTorch's class, where they are imported
        with pytest.raises(ValidationError, match="use a plain word, unknown to PyTorch"):
            Card.model_validate(values | {"modalities": {name: {"layout": "bd", "shape": [3]}}})
