"""Blocks in documents: marks that do not pair are refused, and the files of a table are read back as they were."""

import shutil

import pytest

from concordant.errors import DataError
from studies.paper.blocks import PENDING, blocks, fill, fill_documents, has_blocks, read_table
from studies.paper.table import Table
from studies.paper.writing import write_table_files

KNOWN = {"one": "first", "two": "second"}


def block(name, body="old"):
    return f"<!-- proof:{name} -->\n{body}\n<!-- /proof:{name} -->"


def test_only_what_is_between_marks_is_replaced():
    text = f"before {block('two')} between\n{block('one')}\nafter"
    filled = fill(text, KNOWN)
    assert filled == (
        "before <!-- proof:two -->\n\nsecond\n<!-- /proof:two --> between\n"
        "<!-- proof:one -->\n\nfirst\n<!-- /proof:one -->\nafter"
    )
    assert fill(filled, KNOWN) == filled
    assert fill("<!-- proof:one --><!-- /proof:one -->", KNOWN) == "<!-- proof:one -->\n\nfirst\n<!-- /proof:one -->"


@pytest.mark.parametrize("text", ["", "no marks", "<!-- proof:NAME --> names none", "<!-- table:one -->\n"])
def test_a_document_without_marks_stays_as_it_is(text, tmp_path):
    assert fill(text, KNOWN) == text
    (tmp_path / "a.md").write_text(text)
    assert not has_blocks(tmp_path / "a.md")
    assert not has_blocks(tmp_path / "nowhere.md")


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("<!-- proof:one -->\n", ["<!-- proof:one -->"]),
        ("text\n<!-- /proof:one -->", ["<!-- /proof:one -->"]),
        ("<!-- proof:one -->\n<!-- /proof:two -->", ["<!-- /proof:two -->", "<!-- proof:one -->"]),
        (f"<!-- proof:one -->\n{block('two')}\n<!-- /proof:one -->", ["<!-- proof:one -->", "<!-- /proof:one -->"]),
        (f"<!-- proof:one -->\n{block('one')}", ["<!-- proof:one -->"]),
        (f"{block('one')}\n<!-- /proof:one -->", ["<!-- /proof:one -->"]),
    ],
    ids=["opened", "closed", "crossed", "nested", "opened twice", "closed twice"],
)
def test_a_mark_without_its_other_half_is_refused(text, halves):
    with pytest.raises(DataError) as caught:
        fill(text, KNOWN)
    assert str(caught.value) == "; ".join(f"the document has {half} without its other half" for half in halves)


def test_all_faults_of_all_documents_are_named_and_none_is_written(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text(block("headline"))
    (docs / "a.md").write_text(f"{block('nothing')}\n<!-- proof:cost -->\n{block('nor-this')}")
    (docs / "b.md").write_text("<!-- /proof:place -->")
    (docs / "c.md").write_text("nothing to fill")
    with pytest.raises(DataError) as caught:
        fill_documents(tmp_path, tmp_path / "nowhere")
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        f"{docs / 'a.md'}: the document asks for proof:nothing, proof:nor-this; there are: headline"
    )
    assert first.endswith("; the document has <!-- proof:cost --> without its other half")
    assert second == f"{docs / 'b.md'}: the document has <!-- /proof:place --> without its other half"
    assert (tmp_path / "README.md").read_text() == block("headline")


def test_documents_are_filled_before_there_is_a_proof(tmp_path):
    (tmp_path / "README.md").write_text(block("swaps"))
    assert fill_documents(tmp_path, tmp_path / "nowhere") == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text() == block("swaps", f"\n{PENDING}")
    assert fill_documents(tmp_path / "nowhere", tmp_path) == []


def test_a_file_of_the_proof_that_is_absent_is_named(committed, tmp_path):
    shutil.copy(committed / "summary.json", tmp_path)
    with pytest.raises(DataError) as caught:
        blocks(tmp_path)
    absent = tmp_path / "proof" / "clean-scores.csv"
    assert str(caught.value) == f"{absent} cannot be read (No such file or directory); `make results` makes it"


def test_a_summary_that_is_none_makes_no_block(tmp_path):
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(DataError, match=r"summary.json must hold a JSON object; found list"):
        blocks(tmp_path)


@pytest.mark.parametrize(("name", "unit", "less"), [("clean", "%", False), ("stability", "", True)])
def test_the_files_of_a_table_are_read_back_as_they_were(rows, tmp_path, name, unit, less):
    scores = [
        rows.score("none+perturbed", 0.1 + 0.2, None, family="a, with a comma"),
        rows.score("context", -1e-17, 1.0, fusion='"quoted"'),
        rows.score("self", 1234, 0.0),
    ]
    compared = [rows.row("self", 1 / 3, 2e-5), rows.row("none", -0.0)]
    write_table_files(Table(name, "Title", "Note.", scores, compared, unit, less=less), tmp_path)
    found = read_table(tmp_path, name)
    assert (found.scores, found.rows) == (scores, compared)
    for one, other in zip(found.scores, scores, strict=True):
        assert [type(value) for value in one.values()] == [type(value) for value in other.values()]
    assert (found.unit, found.less, found.compares) == (unit, less, True)


def test_a_table_that_compares_nothing_has_no_file_of_comparisons(rows, tmp_path):
    scores = [rows.score("context", 1234, None, condition="parameters")]
    write_table_files(Table("cost", "Title", "Note.", scores, unit="", compares=False), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"cost-scores.csv", "cost.md"}
    found = read_table(tmp_path, "cost")
    assert (found.scores, found.rows, found.compares) == (scores, [], False)
