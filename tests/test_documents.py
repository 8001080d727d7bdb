import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from concordant.documents import RECORDS, Record, Some, check_document, fault_of, read_document, write_document
from concordant.errors import DataError
from concordant.files import read_json, write_json
from tests.report import example as example_documents

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def example():
    return example_documents.example()


def refused(document, kind):
    with pytest.raises(DataError) as error:
        check_document(document, kind, "F")
    return str(error.value)


def test_a_newer_document_asks_for_an_upgrade(example):
    assert refused({**example.removal, "schema": "concordant.removal/2"}, "removal") == (
        "F was written by a newer Concordant (concordant.removal/2, this one reads concordant.removal/1); "
        "upgrade Concordant"
    )


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ("concordant.corruption/1", "schema 'concordant.corruption/1'"),
        ("concordant.removal/x", "schema"),
        (7, "schema 7"),
        (None, "no schema"),
    ],
)
def test_a_foreign_document_is_refused(example, schema, found):
    text = refused({**example.removal, "schema": schema}, "removal")
    assert text.startswith(f"F is not a document of schema concordant.removal/1; found {found}")


@pytest.mark.parametrize(
    ("kind", "values", "fault"),
    [
        ("removal", {"modalities": None}, "must hold a list as modalities; found NoneType"),
        ("features", {"points": {"id": []}}, "lacks points.label"),
        ("dynamics", {"runs": []}, "holds nothing in runs"),
        ("corruption", {"oracle": [{"label": "none"}]}, "lacks oracle[0].seed"),
        ("results", {"fusion": 3}, "must hold text as fusion; found int"),
    ],
)
def test_the_error_of_an_incomplete_document_names_the_fault(example, kind, values, fault):
    text = refused({**getattr(example, kind), **values}, kind)
    assert text == f"F {fault}, which concordant.{kind}/1 must have; make it again"


@pytest.mark.parametrize("kind", ["results", "removal", "corruption", "dynamics", "features"])
def test_every_required_key_is_missed_when_it_is_gone(example, kind):
    document, record = getattr(example, kind), RECORDS[kind]
    assert fault_of(document, record) is None
    for key in record.model_fields:
        less = {name: value for name, value in document.items() if name != key}
        assert fault_of(less, record) == f"lacks {key}"


def test_the_committed_results_are_documents():
    for kind, path in (("results", "results/digits.json"), ("grid", "tests/report/grid-av-digits.json")):
        assert fault_of(read_json(ROOT / path), RECORDS[kind]) is None


@pytest.mark.parametrize(
    ("value", "kind", "fault"),
    [
        (1, float, None),
        (True, float, "must hold a number as x; found bool"),
        ("1", float, "must hold a number as x; found str"),
        (True, int, "must hold a whole number as x; found bool"),
        (1.5, int, "must hold a whole number as x; found float"),
        (True, bool, None),
        (1, bool, "must hold true or false as x; found int"),
        (None, str | None, None),
        (None, str, "must hold text as x; found NoneType"),
        ([], list[int], None),
        ([], Some[int], "holds nothing in x"),
        ([1, "a"], list[int], "must hold a whole number as x[1]; found str"),
        ({"a": 1, "b": "x"}, dict[str, int], "must hold a whole number as x.b; found str"),
        ([], dict[str, Any], "must hold an object as x; found list"),
        ([], RECORDS["check"], "must hold an object as x; found list"),
    ],
)
def test_a_fault_names_place_expected_and_found(value, kind, fault):
    record = create_model("One", __base__=Record, x=(kind, ...))
    assert fault_of({"x": value}, record) == fault


def test_the_error_names_the_file(tmp_path):
    write_json(tmp_path / "check.json", {"schema": "concordant.check/1", "folder": "f", "failed": False})
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'check.json'} lacks findings")):
        read_document(tmp_path / "check.json", "check")


def test_a_document_is_written_as_it_is_read_and_only_when_complete(example, tmp_path):
    path = tmp_path / "removal.json"
    write_document(path, "removal", example.removal)
    assert read_document(path, "removal") == example.removal
    with pytest.raises(DataError, match="lacks command"):
        write_document(tmp_path / "x.json", "removal", {k: v for k, v in example.removal.items() if k != "command"})
    assert not (tmp_path / "x.json").exists()
