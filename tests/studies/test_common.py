"""Blocks in documents: what is between marks is replaced, and faulty marks are named."""

import pytest

from concordant.errors import DataError
from studies.common import fill, fill_files, has_blocks

KNOWN = {"one": "first", "two": "second"}


def block(name, body="old"):
    return f"<!-- proof:{name} -->\n{body}\n<!-- /proof:{name} -->"


def test_only_what_is_between_marks_is_replaced():
    text = f"before {block('two')} between\n{block('one')}\nafter"
    filled = fill(text, KNOWN, "proof")
    assert filled == (
        "before <!-- proof:two -->\n\nsecond\n<!-- /proof:two --> between\n"
        "<!-- proof:one -->\n\nfirst\n<!-- /proof:one -->\nafter"
    )
    assert fill(filled, KNOWN, "proof") == filled
    assert (
        fill("<!-- proof:one --><!-- /proof:one -->", KNOWN, "proof")
        == "<!-- proof:one -->\n\nfirst\n<!-- /proof:one -->"
    )


@pytest.mark.parametrize("text", ["", "no marks", "<!-- proof:NAME --> names none", "<!-- table:one -->\n"])
def test_a_document_without_marks_stays_as_it_is(text, tmp_path):
    assert fill(text, KNOWN, "proof") == text
    (tmp_path / "a.md").write_text(text)
    assert not has_blocks(tmp_path / "a.md", "proof")
    assert not has_blocks(tmp_path / "nowhere.md", "proof")


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("<!-- proof:one -->\n", ["<!-- proof:one -->"]),
        ("text\n<!-- /proof:one -->", ["<!-- /proof:one -->"]),
        ("<!-- proof:one -->\n<!-- /proof:two -->", ["<!-- proof:one -->", "<!-- /proof:two -->"]),
        (f"<!-- proof:one -->\n{block('two')}\n<!-- /proof:one -->", ["<!-- proof:one -->", "<!-- /proof:one -->"]),
        (f"<!-- proof:one -->\n{block('one')}", ["<!-- proof:one -->"]),
        (f"{block('one')}\n<!-- /proof:one -->", ["<!-- /proof:one -->"]),
    ],
    ids=["opened", "closed", "crossed", "nested", "opened twice", "closed twice"],
)
def test_a_mark_without_its_other_half_is_refused(text, halves):
    with pytest.raises(DataError) as caught:
        fill(text, KNOWN, "proof")
    assert str(caught.value) == "; ".join(f"the document has {half} without its other half" for half in halves)


def test_blocks_of_another_kind_are_left_alone():
    text = f"{block('one')}\n<!-- results:one -->\n<!-- /results:one -->"
    assert fill(text, KNOWN, "results").startswith(block("one"))


def test_a_document_that_lacks_the_block_is_refused(tmp_path):
    (tmp_path / "a.md").write_text("nothing")
    with pytest.raises(DataError, match=r"a.md: the document has no block proof:one, two"):
        fill_files([tmp_path / "a.md"], KNOWN, "proof")
