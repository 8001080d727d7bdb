from io import StringIO

import pytest
from rich.console import Console

from concordant.report.record import (
    Cell,
    Table,
    best_of_columns,
    html,
    markdown,
    marked,
    number,
    spread,
    terminal,
)

TABLE = Table(
    "scores",
    "Accuracy <%>",
    ["method", "clean", "kind"],
    [["none", Cell("80.0", 80.0, "1.5"), "a|b"], ["context", Cell("90.0", 90.0, "0.5", strong=True), "[bold]*"]],
    note="Mean & deviation.",
)


def text_of(table, width=200):
    file = StringIO()
    Console(file=file, width=width, markup=False).print(terminal(table))
    return [line.split() for line in file.getvalue().splitlines()]


def test_markdown_escapes_what_has_a_meaning_and_marks_strong_cells():
    lines = markdown(TABLE).splitlines()
    assert lines == [
        "| method | clean | kind |",
        "| --- | ---: | ---: |",
        r"| none | 80.0 ± 1.5 | a\|b |",
        r"| context | **90.0 ± 0.5** | [bold]\* |",
    ]
    assert "**" not in markdown(TABLE, strong=False)
    assert markdown(Table("t", "", ["a"], [])) == ""


@pytest.mark.parametrize(("left", "rule"), [(0, "| ---: | ---: |"), (2, "| --- | --- |")])
def test_markdown_aligns_leading_columns_to_the_left(left, rule):
    assert markdown(Table("t", "", ["a", "b"], [["1", "2"]], left=left)).splitlines()[1] == rule


def test_the_terminal_shows_caption_and_cells_as_they_are():
    found = text_of(TABLE)
    assert found[0] == ["Accuracy", "<%>"]
    assert ["none", "80.0±1.5", "a|b"] in found
    assert ["context", "90.0±0.5", "[bold]*"] in found


def test_a_table_without_a_caption_is_a_plain_list():
    assert text_of(Table("t", "", ["name", "summary"], [["a", "b c"]])) == [["name", "summary"], ["a", "b", "c"]]


def test_long_headings_of_numbers_are_wrapped_to_their_cells():
    table = Table("t", "c", ["to", "p (bootstrap, Holm)"], [["none", Cell("0.007", 0.007)]])
    heads = [word for line in text_of(table)[1:5] for word in line]
    assert heads == ["p", "(bootstrap,", "to", "Holm)"]


def test_html_escapes_texts_and_keeps_the_numbers():
    text = html(TABLE, "block-scores")
    assert "Accuracy &lt;%&gt;" in text
    assert '<td class="number" data-value="90"><strong>90.0 ± 0.5</strong></td>' in text
    assert '<p class="note">Mean &amp; deviation.</p>' in text
    assert text.count('id="block-scores"') == 1


def test_columns_are_picked_by_name_and_by_predicate():
    assert TABLE.pick(["kind", "method"]).columns == ["kind", "method"]
    assert TABLE.pick(lambda name: name != "kind").cells[0] == [Cell("none"), Cell("80.0", 80.0, "1.5")]
    assert str(TABLE.without_spread("clean").cells[0][1]) == "80.0"
    assert str(TABLE.without_spread().cells[1][1]) == "90.0"


def test_a_column_of_numbers_and_dashes_is_numeric():
    rows = [[Cell("a"), Cell("1", 1.0), "x"], [Cell("b"), "-", "-"]]
    assert Table("t", "c", ("n", "v", "w"), rows).numeric == [False, True, False]
    assert Table("t", "c", ("n", "v"), []).numeric == [False, True]


def test_numbers_have_sign_scale_and_deviation():
    assert number(0.123, 1, sign=True) == Cell("+12.3", pytest.approx(12.3))
    assert number(None) == Cell("-")
    assert spread([0.5, None]) == Cell("50.0", 50.0)
    assert str(spread([0.12345, 0.2, 0.3])) == "20.8 ± 8.9"
    assert str(spread([0.5, 0.5], 3, scale=1)) == "0.500 ± 0.000"


def test_the_first_of_the_highest_numbers_is_strong():
    found = marked([Cell("1", 1.0), Cell("-"), Cell("2", 2.0), Cell("2", 2.0)])
    assert [cell.strong for cell in found] == [False, False, True, False]
    rows = best_of_columns([[Cell("a"), Cell("1", 1.0)], [Cell("b"), Cell("2", 2.0)]], 1)
    assert [row[1].strong for row in rows] == [False, True]
    assert marked([Cell("-")]) == [Cell("-")]
